"""DET and ROC curves as figures for papers: .png, .pdf or .svg by extension."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spectra_jax.errors import InputError
from spectra_jax.evaluation.evaluate import Evaluation
from spectra_jax.files.outputs import output_file, require_writable
from spectra_jax.reporting.curves import curve, probit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".pdf", ".svg")
# Okabe and Ito's palette, which the colour-blind tell apart; line styles for those who print in grey.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
# More than print shows, and few enough for a vector file.
_POINTS = 3000
_STYLES = ("-", "--", "-.", ":")
_TICKS = np.array([0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99])


def plot_det(evaluations: Sequence[Evaluation], path: str | Path) -> None:
    """Draw DET curves on normal-deviate axes, the EERs marked.

    Args:
      evaluations: at least one; a curve each.
      path: ends in .png, .pdf or .svg; replaced whole or not at all.

    Raises:
      InputError: another extension, or a folder in which nothing can be written.
    """
    _check(evaluations, path)
    worst = max(one.numbers["eer_percent"] for one in evaluations) / 100
    fewest = max(min(one.numbers["n_bonafide"], one.numbers["n_spoof"]) for one in evaluations)
    low, high = float(np.clip(0.5 / fewest, 1e-4, 0.05)), float(np.clip(3 * worst, 0.5, 0.97))

    def draw(axes: Axes) -> None:
        ends = probit([low, high])
        axes.plot(ends, ends, color="0.7", linewidth=0.8, linestyle=(0, (2, 3)), zorder=0)
        for style, one in zip(_looks(len(evaluations)), evaluations, strict=True):
            rates = curve(one.scores[one.bonafide], one.scores[~one.bonafide], resamples=0, points=_POINTS)
            equal = one.numbers["eer_percent"]
            far, frr = probit(rates.false_acceptance), probit(rates.false_rejection)
            axes.plot(far, frr, **style, label=_label(f"{one.name}: EER {equal:.2f} %"))
            axes.plot(*probit([equal / 100, equal / 100])[:, None], "o", color=style["color"], markersize=4)
        ticks = _TICKS[np.clip(_TICKS, low, high) == _TICKS]
        names = [f"{100 * tick:g}" for tick in ticks]
        axes.set(xlim=ends, ylim=ends, aspect="equal")
        axes.set_xticks(probit(ticks), names)
        axes.set_yticks(probit(ticks), names)
        axes.set(xlabel="false acceptance (%)", ylabel="false rejection (%)")

    _figure(draw, Path(path))


def plot_roc(evaluations: Sequence[Evaluation], path: str | Path) -> None:
    """Draw ROC curves, the EERs marked; arguments and errors are those of `plot_det`."""
    _check(evaluations, path)

    def draw(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color="0.7", linewidth=0.8, linestyle=(0, (2, 3)), zorder=0)
        for style, one in zip(_looks(len(evaluations)), evaluations, strict=True):
            rates = curve(one.scores[one.bonafide], one.scores[~one.bonafide], resamples=0, points=_POINTS)
            x, y = 100 * rates.false_acceptance, 100 * (1 - rates.false_rejection)
            axes.plot(x, y, **style, label=_label(f"{one.name}: AUC {one.numbers['auc']:.4f}"))
            equal = one.numbers["eer_percent"]
            axes.plot([equal], [100 - equal], "o", color=style["color"], markersize=4)
        axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
        axes.set(xlabel="false acceptance (%)", ylabel="bona fide accepted (%)")

    _figure(draw, Path(path))


def require_figure(path: str | Path) -> None:
    """See that a figure can be written to `path`.

    Raises:
      InputError: another extension, or a folder in which nothing can be written.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise InputError(f"{path}: not a known format of figures; its name must end in one of {', '.join(FORMATS)}")
    require_writable(path)


def _check(evaluations: Sequence[Evaluation], path: str | Path) -> None:
    require_figure(path)
    if not evaluations:
        raise InputError("no evaluation to draw")


def _looks(number: int) -> list[dict[str, Any]]:
    return [
        {"color": _COLOURS[i % len(_COLOURS)], "linestyle": _STYLES[i % len(_STYLES)], "linewidth": 1.5}
        for i in range(number)
    ]


def _label(text: str) -> str:
    # A file's name is no formula, and matplotlib leaves labels that begin with _ out of the legend.
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def _figure(draw: Callable[[Axes], None], path: Path) -> None:
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("figures need matplotlib: pip install 'spectra-jax[report]'") from error
    # Text stays text, which a paper's authors can search and set in their own font.
    with rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "font.size": 9}):
        figure = Figure(figsize=(3.5, 3.5), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.tick_params(labelsize=7.5)
        axes.grid(color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
        with output_file(path) as file:
            figure.savefig(file, format=path.suffix[1:].lower(), dpi=300)
