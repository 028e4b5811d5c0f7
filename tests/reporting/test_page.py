"""The report: its numbers are the evaluation's, sections without content are named, and it stays small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import read_scores
from spectra_jax.evaluation.evaluate import evaluate
from spectra_jax.reporting.clips import CLIP_BYTES, CLIPS, LONGER_SECONDS, WINDOW_SECONDS
from spectra_jax.reporting.page import write_report
from spectra_jax.reporting.systems import model_window_seconds, read_systems
from tests.conftest import spectra
from tests.reporting.conftest import N, Page

pytest.importorskip("altair", reason="needs the extra `report`")
pytest.importorskip("vl_convert", reason="needs the extra `report`")
pytest.importorskip("jinja2", reason="needs the extra `report`")


def test_tables_hold_the_metrics_of_the_evaluations(folder: Path, labels: Labels, html: str) -> None:
    metrics = next(table for table in Page(html).tables if table[1][0] == "EER, %")
    rows = {row[0]: row[1:] for row in metrics}
    for index, name in enumerate(("first", "second")):
        found = evaluate(read_scores(folder / f"{name}.csv"), labels, by=["attack"], resamples=100)
        interval = found.intervals["eer_percent"]
        assert rows["EER, %"][index] == f"{found.eer_percent:.3f} ({interval.low:.3f} to {interval.high:.3f})"
        assert rows["threshold of the EER"][index] == f"{found.threshold:.6f}"
        assert rows["AUC"][index].startswith(f"{found.auc:.4f} (")
        assert rows["bona fide trials"][index] == str(N // 4)
        for attack, group in found.groups["attack"].items():
            cells = next(cells for cells in Page(html).rows() if cells[0] == attack and len(cells) == 4)
            assert cells[1 + index].startswith(f"{group.eer_percent:.3f} (")


def test_explained_and_unexplained_differences_are_counted(html: str) -> None:
    rows = {row[0]: row[1] for row in Page(html).rows() if len(row) == 2}
    assert rows["unexplained"] == "1"
    assert int(rows["of these, explained by a near tie"]) == int(rows["explained by a near tie"]) == 3
    assert "Different: 1 of 400 trials" in Page(html).text


def test_provenance(folder: Path, html: str) -> None:
    rows = {row[0]: row[1] for row in Page(html).rows() if len(row) == 2}
    assert rows["command"] == "spectra-jax report 'a b'"
    assert rows["sha256 of first.csv"] == read_systems([folder / "first.csv"])[0].sha256
    assert "jax " in rows["software"]


def test_without_labels_attacks_or_a_second_system(folder: Path, tmp_path: Path) -> None:
    write_report([folder / "first.csv"], tmp_path / "report.html")
    parsed = Page((tmp_path / "report.html").read_text())
    assert parsed.headings == ["Scores", "Trials", "Provenance", "Not on this page"]
    assert "No labels were given" in parsed.text and "several score files" in parsed.text


def test_one_class(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("utterance_id,score,label\na,0.5,bonafide\nb,1.5,bonafide\n")
    write_report([tmp_path / "s.csv"], tmp_path / "report.html")
    parsed = Page((tmp_path / "report.html").read_text())
    assert "All labelled trials are bona fide" in parsed.text
    assert "bona fide (2)" in parsed.text


@pytest.mark.parametrize("scores", [[1.0, 1.0, 1.0, 1.0], [2.0, 1.0, -1.0, -2.0], [-2.0, -1.0, 1.0, 2.0]])
def test_scores_that_are_equal_perfect_or_reversed(scores: list[float], tmp_path: Path) -> None:
    rows = zip("abcd", scores, ["bonafide", "bonafide", "spoof", "spoof"], strict=True)
    lines = "\n".join(f"{identity},{score},{label}" for identity, score, label in rows)
    (tmp_path / "s.csv").write_text(f"utterance_id,score,label\n{lines}\n")
    write_report([tmp_path / "s.csv"], tmp_path / "report.html", resamples=20)
    assert "Calibration" in Page((tmp_path / "report.html").read_text()).headings


def test_refuses(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder / "first.csv"
    for arguments, message in (
        ((run, "-o", tmp_path / "report.pdf"), "ends in .html"),
        ((run, run, "-o", tmp_path / "report.html"), "given twice"),
        ((folder / "none.csv", "-o", tmp_path / "report.html"), "cannot be read"),
        ((run, "-o", tmp_path / "report.html", "--audio-root", tmp_path / "no"), "no such folder"),
        ((run, "-o", tmp_path / "report.html", "--model", tmp_path), "neither a .safetensors file"),
    ):
        assert spectra(monkeypatch, "report", *arguments) == 2
        assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_command(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("report", folder / "first.csv", "-o", tmp_path / "r.html", "--labels", folder / "labels.csv")
    assert spectra(monkeypatch, *words, "--title", "A & B", "--resamples", 20) == 0
    parsed = Page((tmp_path / "r.html").read_text())
    assert any(row[0] == "command" and "--title 'A & B'" in row[1] for row in parsed.rows())


def test_pooled_subsets_inverted_scores_and_one_subset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = Path(__file__).parents[1] / "inputs" / "tables"
    words = [
        "report",
        inputs / "s_inv.txt",
        "--labels",
        inputs / "p21la.txt",
        "--resamples",
        0,
        "-o",
        tmp_path / "r.html",
    ]
    assert spectra(monkeypatch, *words) == 0
    assert "p21la.txt: pools the trials of 3 subsets" in capsys.readouterr().err
    text = Page((tmp_path / "r.html").read_text()).text
    assert "Pooled subsets: eval (12), hidden_track (12), progress (16)." in text and "look inverted" in text
    words[1] = inputs / "s_flac.txt"
    assert spectra(monkeypatch, *words, "--match", "stem", "--subset", "eval") == 0
    assert "pools" not in capsys.readouterr().err
    text = Page((tmp_path / "r.html").read_text()).text
    assert "Pooled subsets" not in text and "look inverted" not in text


def test_a_report_of_many_trials_stays_small(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    bonafide = np.arange(50_000) < 10_000
    scores = random.normal(np.where(bonafide, 2, -2), 1)
    ids = np.array([f"utterance_{index:06d}" for index in range(len(scores))], object)
    for name in ("a", "b"):
        noise = random.normal(0, 0.1, len(scores))
        lines = (f"{i} {s:.6f}\n" for i, s in zip(ids, scores + noise, strict=True))
        (tmp_path / f"{name}.txt").write_text("".join(lines))
    labels = Labels("labels", ids, bonafide, {"attack": np.where(bonafide, "-", "A01").astype(object)})
    write_report([tmp_path / "a.txt", tmp_path / "b.txt"], tmp_path / "r.html", labels=labels, resamples=10)
    assert (tmp_path / "r.html").stat().st_size < 1_500_000, "of which the chart library is 0.9 MB"


def test_clips_beside_the_score_file_are_on_the_page(recordings: Path) -> None:
    write_report([recordings / "s.csv"], recordings / "r.html", resamples=0)
    parsed = Page((recordings / "r.html").read_text())
    sounds = [a for tag, a in parsed.elements if tag == "audio"]
    assert 0 < len(sounds) <= CLIPS and all((a["src"] or "").startswith("data:audio/flac;") for a in sounds)
    images = [a for tag, a in parsed.elements if tag == "img"]
    assert all((a["alt"] or "").startswith("Spectrogram of c") for a in images) and len(images) == len(sounds)
    assert (recordings / "r.html").stat().st_size < 1_100_000 + CLIP_BYTES


def test_clips_are_as_long_as_what_is_scored(recordings: Path) -> None:
    window = model_window_seconds("demo")
    assert window is not None and window != WINDOW_SECONDS
    rows = (recordings / "s.csv").read_text().splitlines()
    scored = [f"{rows[0]},window_scores", *(f"{row},1.5;2.5" for row in rows[1:])]
    (recordings / "windows.csv").write_text("\n".join(scored) + "\n")
    for name, model, seconds, reason in (
        ("s.csv", None, WINDOW_SECONDS, "the window of the published model, since no model was given"),
        ("s.csv", "demo", window, "the model's window"),
        ("windows.csv", "demo", LONGER_SECONDS, "since all windows of a recording are scored"),
    ):
        write_report([recordings / name], recordings / "r.html", resamples=0, model=model)
        parsed = Page((recordings / "r.html").read_text())
        assert f"at most the first {seconds:.2f} s, {reason}" in parsed.text
        shown = f"{min(seconds, 10):.1f} s{' of a longer clip' if seconds < 10 else ''}; score"
        assert shown in parsed.text, "the clips have ten seconds"
        assert ("not given (--model)" in parsed.text) == (model is None)


def test_pictures_come_before_metrics_and_the_verdict_before_both(html: str) -> None:
    parsed = Page(html)
    assert parsed.headings[:2] == ["Error rates", "Metrics"]
    kinds = [attributes.get("class") or tag for tag, attributes in parsed.elements]
    assert kinds.count("verdict bad") == 1 and kinds.index("verdict bad") < kinds.index("nav") < kinds.index("plot")


def test_spectrograms_have_axes(recordings: Path) -> None:
    write_report([recordings / "s.csv"], recordings / "r.html", resamples=0)
    parsed = Page((recordings / "r.html").read_text())
    clips = [attributes for tag, attributes in parsed.elements if attributes.get("class") == "spectrogram"]
    axes = [attributes["class"] for _, attributes in parsed.elements if "axis" in (attributes.get("class") or "")]
    assert len(axes) == 2 * len(clips) > 0
    assert "02468 kHz" in parsed.text and "0:000:010:020:030:04" in parsed.text
