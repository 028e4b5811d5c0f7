"""The picture of a run: loss and dev EER by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spectra_jax.files.atomic import atomic_file
from spectra_jax.training.run import LOG, EvaluationEvent, read_log

PICTURE = "curves.svg"
_POINTS = 500


def write_curves(output: str | Path) -> Path | None:
    """Draw the curves of the run in `output` into its `curves.svg`; None where the extra `report` is missing."""
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
    """Vega-Lite: losses above, the dev split's EER below, over the same steps."""
    events = read_log(log)
    # Each point is the mean of its share of the steps: single batches are noisy, and thousands of points no picture.
    steps = [event for event in events if not isinstance(event, EvaluationEvent)]
    width = max(-(-len(steps) // _POINTS), 1)
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
