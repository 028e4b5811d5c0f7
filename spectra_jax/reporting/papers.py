"""DET and ROC curves as figures for papers: .png, .pdf or .svg by extension, 3.5 inches (89 mm) wide and high."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spectra_jax.errors import InputError
from spectra_jax.evaluation.evaluate import Evaluation
from spectra_jax.files.outputs import output_file, require_writable
from spectra_jax.reporting.curves import Curve, curve
from spectra_jax.reporting.extra import require_report_extra

if TYPE_CHECKING:
    import altair as alt

    from spectra_jax.reporting.charts.chart import CurveStyle, Key

FORMATS = (".png", ".pdf", ".svg")
# Okabe and Ito's palette, which colour-blind readers can distinguish; dash patterns for print in grey.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES = ((1, 0), (6, 2), (6, 2, 1, 2), (1, 2))
# More points than print resolves, and few enough for a vector file.
_POINTS = 3000
# In units of 1/72 inch, and of a .png the dots per inch.
_SIDE, _RESOLUTION = 252, 300


def plot_det(evaluations: Sequence[Evaluation], path: str | Path) -> None:
    """Draw DET curves on normal-deviate axes, the EERs marked.

    Args:
      evaluations: at least one; a curve each.
      path: ends in .png, .pdf or .svg; written atomically.

    Raises:
      InputError: another extension, a folder in which nothing can be written, or the extra `report` is not installed.
    """
    _check(evaluations, path)
    from spectra_jax.reporting.charts.det import det_layers

    keys = _keys([f"{one.name}: EER {one.eer_percent:.2f} %" for one in evaluations])
    _write(det_layers(evaluations, keys, _curves(evaluations), _style("top-right")), Path(path))


def plot_roc(evaluations: Sequence[Evaluation], path: str | Path) -> None:
    """Draw ROC curves, the EERs marked; arguments and errors are those of `plot_det`."""
    _check(evaluations, path)
    from spectra_jax.reporting.charts.roc import roc_layers

    keys = _keys([f"{one.name}: AUC {one.auc:.4f}" for one in evaluations])
    _write(roc_layers(evaluations, keys, _curves(evaluations), _style("bottom-right")), Path(path))


def require_figure(path: str | Path) -> None:
    """Check that a figure can be drawn and written to `path`.

    Raises:
      InputError: another extension, a folder in which nothing can be written, or the extra `report` is not installed.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise InputError(f"{path}: not a known format of figures; its name must end in one of {', '.join(FORMATS)}")
    require_writable(path)
    require_report_extra()


def _check(evaluations: Sequence[Evaluation], path: str | Path) -> None:
    require_figure(path)
    if not evaluations:
        raise InputError("no evaluation to draw")


def _keys(names: Sequence[str]) -> list[Key]:
    from spectra_jax.reporting.charts.chart import Key

    # Curves are coloured by name: the second of two equal names gets a number.
    distinct = [
        name if name not in names[:index] else f"{name} ({names[: index + 1].count(name)})"
        for index, name in enumerate(names)
    ]
    return [
        Key(name, _COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)]) for index, name in enumerate(distinct)
    ]


def _curves(evaluations: Sequence[Evaluation]) -> list[Curve]:
    return [
        curve(one.scores[one.bonafide], one.scores[~one.bonafide], resamples=0, points=_POINTS) for one in evaluations
    ]


def _style(corner: Literal["top-right", "bottom-right"]) -> CurveStyle:
    import altair as alt

    from spectra_jax.reporting.charts.chart import CurveStyle

    legend = alt.Legend(orient=corner, title=None, symbolType="stroke", symbolSize=400, symbolStrokeWidth=1.5)
    return CurveStyle(line=1.5, dot=16, faint="#b3b3b3", legend=legend)


def _write(layers: Sequence[alt.Chart], path: Path) -> None:
    import altair as alt
    import vl_convert

    from spectra_jax.reporting.charts.chart import VEGA_LITE

    figure = alt.layer(*layers).properties(
        width=_SIDE,
        height=_SIDE,
        padding=4,
        background="white",
        # The plot and all around it together have the given size.
        autosize=alt.AutoSizeParams(type="fit", contains="padding"),
        config=_config(),
    )
    spec, kind = figure.to_dict(), path.suffix.lower()
    if kind == ".png":
        content = vl_convert.vegalite_to_png(spec, vl_version=VEGA_LITE, scale=1, ppi=_RESOLUTION)
    elif kind == ".pdf":
        content = vl_convert.vegalite_to_pdf(spec, vl_version=VEGA_LITE)
    else:
        svg = vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE)
        # A length without a unit is in pixels of 1/96 inch.
        content = svg.replace(f'width="{_SIDE}" height="{_SIDE}"', f'width="{_SIDE}pt" height="{_SIDE}pt"', 1).encode()
    with output_file(path) as file:
        file.write(content)


def _config() -> dict[str, Any]:
    """Vega-Lite's configuration for print; equal extents of both axes make the plot square."""
    axis = {"labelFontSize": 7.5, "titleFontSize": 9, "titleFontWeight": "normal", "titlePadding": 2}
    lines = {"domainColor": "black", "tickColor": "black", "tickSize": 3.5, "gridColor": "#e5e5e5", "gridWidth": 0.6}
    legend = {
        "labelFontSize": 8,
        "labelLimit": 0,
        "rowPadding": 1,
        "offset": 2,
        "fillColor": "rgba(255, 255, 255, 0.8)",
        "padding": 2,
    }
    return {
        "font": "sans-serif",
        "view": {"stroke": None},
        "axis": {**axis, **lines, "minExtent": 20, "maxExtent": 20},
        "legend": legend,
    }
