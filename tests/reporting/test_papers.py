"""Figures for papers: formats, size, curves and their legend."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import read_scores
from spectra_jax.errors import InputError
from spectra_jax.evaluation.evaluate import Evaluation, evaluate
from spectra_jax.reporting.papers import FORMATS, plot_det, plot_roc

pytest.importorskip("altair", reason="needs the extra `report`")
Image = pytest.importorskip("PIL.Image", reason="needs the extra `report`")

INCHES = 3.5


@pytest.fixture(scope="module")
def evaluations(folder: Path, labels: Labels) -> Sequence[Evaluation]:
    return [evaluate(read_scores(folder / f"{name}.csv"), labels, resamples=0) for name in ("first", "second")]


@pytest.mark.parametrize("draw", [plot_det, plot_roc])
@pytest.mark.parametrize("suffix", FORMATS)
def test_each_format_has_the_width_of_a_column(
    draw: Callable[[Sequence[Evaluation], Path], None], suffix: str, evaluations: Sequence[Evaluation], tmp_path: Path
) -> None:
    path = tmp_path / f"figure{suffix}"
    draw(evaluations, path)
    content = path.read_bytes()
    if suffix == ".png":
        image = Image.open(io.BytesIO(content))
        assert image.size == (1050, 1050) and image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    elif suffix == ".pdf":
        box = re.search(rb"/MediaBox *\[0 0 (\d+) (\d+)\]", content)
        assert content.startswith(b"%PDF") and box and [int(side) for side in box.groups()] == [72 * INCHES] * 2
        assert b"/FontFile" in content, "fonts are embedded"
    else:
        assert content.startswith(b"<svg") and b'width="252pt" height="252pt"' in content


def test_the_legend_names_each_system_and_its_figure(evaluations: Sequence[Evaluation], tmp_path: Path) -> None:
    for draw, name, figure in (
        (plot_det, "det.svg", f"EER {evaluations[0].eer_percent:.2f} %"),
        (plot_roc, "roc.svg", f"AUC {evaluations[0].auc:.4f}"),
    ):
        draw(evaluations, tmp_path / name)
        svg = (tmp_path / name).read_text()
        assert f">first.csv: {figure}</text>" in svg, "text stays text"
        assert re.search(r'aria-roledescription="line mark container"', svg) and "var(--" not in svg


def test_systems_of_the_same_name_have_a_curve_each(evaluations: Sequence[Evaluation], tmp_path: Path) -> None:
    plot_det([evaluations[0], evaluations[0]], tmp_path / "det.svg")
    svg = (tmp_path / "det.svg").read_text()
    label = f"first.csv: EER {evaluations[0].eer_percent:.2f} %"
    assert f">{label}</text>" in svg and f">{label} (2)</text>" in svg


def test_refuses_other_formats_and_nothing_to_draw(evaluations: Sequence[Evaluation], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.png, \.pdf, \.svg"):
        plot_det(evaluations, tmp_path / "det.gif")
    with pytest.raises(InputError, match="no evaluation to draw"):
        plot_roc([], tmp_path / "roc.png")
    assert list(tmp_path.iterdir()) == []
