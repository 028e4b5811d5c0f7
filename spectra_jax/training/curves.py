"""The chart of a run: loss and dev EER by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spectra_jax.files.atomic import atomic_file
from spectra_jax.training.log import LOG, EvaluationEvent, StepEvent, read_log

PICTURE = "curves.svg"
_MAX_POINTS = 500


def write_curves(output: str | Path) -> Path | None:
    """Write the chart of the run in `output` to its `curves.svg`; None if the extra `report` is not installed."""
    try:
        import vl_convert
    except ModuleNotFoundError:
        return None
    path = Path(output) / PICTURE
    svg = vl_convert.vegalite_to_svg(_spec(Path(output) / LOG))
    with atomic_file(path) as file:
        file.write(svg.encode())
    return path


def _spec(log: Path) -> dict[str, Any]:
    """The Vega-Lite specification: losses above, the dev split's EER below, over the same steps."""
    events = read_log(log)
    # A point is the mean of several steps: single batches are noisy, and thousands of points overlap.
    steps = [event for event in events if isinstance(event, StepEvent)]
    width = max(-(-len(steps) // _MAX_POINTS), 1)
    groups = [steps[start : start + width] for start in range(0, len(steps), width)]
    rows: list[dict[str, Any]] = [
        {"step": group[-1].step, "loss": sum(event.loss for event in group) / len(group), "split": "train"}
        for group in groups
    ]
    evaluations = [event for event in events if isinstance(event, EvaluationEvent)]
    rows += [{"step": event.step, "loss": event.loss, "split": "dev"} for event in evaluations]
    rates = [{"step": event.step, "eer": 100 * event.eer, "best": event.best} for event in evaluations]
    step = {"field": "step", "type": "quantitative", "title": "step"}
    loss = {"field": "loss", "type": "quantitative", "title": "cross entropy"}
    eer = {"field": "eer", "type": "quantitative", "title": "dev EER, %"}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "background": "white",
        "vconcat": [
            {
                "width": 480,
                "height": 180,
                "data": {"values": rows},
                "mark": "line",
                "encoding": {"x": step, "y": loss, "color": {"field": "split", "type": "nominal", "sort": None}},
            },
            {
                "width": 480,
                "height": 120,
                "data": {"values": rates},
                "layer": [
                    {"mark": "line", "encoding": {"x": step, "y": eer}},
                    {
                        "transform": [{"filter": "datum.best"}],
                        "mark": {"type": "point", "filled": True},
                        "encoding": {"x": step, "y": eer},
                    },
                ],
            },
        ],
    }
