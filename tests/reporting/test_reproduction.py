"""A reproduction as a table on a terminal, and as a page."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from spectra_jax import hub
from spectra_jax.evaluation.metrics import Interval
from spectra_jax.reporting.reproduction import print_reproduction, write_reproduction_page
from spectra_jax.reproduction.results import DatasetResult, Reproduction, SystemFigures

COMMIT = "a" * 40
OURS = SystemFigures(0.9652, Interval(0.8, 1.1), 0.0002, 71_236, 1)
MINE = SystemFigures(2.5, Interval(2.0, 3.0), 1.535, 71_237, 0)
RIGHT = DatasetResult(
    *("ASVspoof2019_LA", COMMIT, "0.965", 0.965, 0.965, OURS, MINE, 812),
    weights_sha256=hub.PUBLISHED_SHA256[hub.WEIGHTS],
    scored_with={"model": "org/model", "precision": "tf32", "batch_size": 8, "certify": False},
    agreement="The same: 71,236 trials.",
    hours=3.98,
    reproduced=True,
)
ABSENT = DatasetResult("CFAD", "main", "0.71", problem="<b>[bold]no network[/bold]</b>", notes=("a note",))


def reproduction(*results: DatasetResult, sample: int | None = None) -> Reproduction:
    provenance: dict[str, Any] = {"mine": "other/mine", "sample": sample}
    provenance["versions"] = {"jax": "1"}
    return Reproduction(results, provenance, 5.04)


def printed(found: Reproduction, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_reproduction(found, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_has_a_row_for_each_system_and_a_line_for_each_problem() -> None:
    lines = printed(reproduction(RIGHT, ABSENT)).splitlines()
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    interval = "0.800 to 1.100"
    assert cells[0] == [
        *("ASVspoof2019_LA", "0.965", "0.965", "0.965", "+0.000", interval, "71,236", "1", "812", "3.98", "yes")
    ]
    assert cells[1] == ["mine", "", "", "2.500", "+1.535", "2.000 to 3.000", "71,237", "0", "", "", ""]
    assert cells[2] == ["CFAD", "0.71", *["-"] * 9]
    assert lines[-3:] == [
        "CFAD: not reproduced: <b>[bold]no network[/bold]</b>",
        "CFAD: a note",
        "1 of 2 datasets reproduced, that is, the reported EER is in the 95 % interval of ours.",
    ]


def test_a_narrow_terminal_keeps_the_figures_that_decide() -> None:
    head = printed(reproduction(RIGHT), 80).splitlines()[2]
    assert [cell.strip() for cell in re.split("[┃]", head)[1:-1]] == [
        *("dataset", "reported", "ours", "difference", "95 % interval", "reproduced")
    ]


def test_of_a_sample_the_verdict_names_the_published_scores() -> None:
    verdict = printed(reproduction(RIGHT, sample=500)).splitlines()[-1]
    assert verdict.endswith(", that is, the EER of the published scores is in the 95 % interval of ours.")


def test_other_weights_than_the_published_ones_are_named() -> None:
    other = replace(RIGHT, weights_sha256="0" * 64)
    assert printed(reproduction(RIGHT, other)).splitlines()[-1].endswith(" The weights are not the published ones.")


def test_the_page_has_figures_notes_and_provenance(tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    write_reproduction_page(reproduction(RIGHT, ABSENT), output, ["spectra-jax", "reproduce", "two words"])
    page = output.read_text(encoding="utf-8")
    text = " ".join(re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL).split())
    for shown in ("ASVspoof2019_LA 0.965", "1 of 2 datasets reproduced", "The same: 71,236 trials.", COMMIT, "a note"):
        assert shown in text
    assert "precision tf32" in text
    assert "spectra-jax reproduce &#39;two words&#39;" in text and "5.0" in text
    assert "&lt;b&gt;[bold]no network" in page and "<b>[bold]" not in page


def test_what_passes() -> None:
    assert reproduction(RIGHT).passed and not reproduction(RIGHT, ABSENT).passed
    assert reproduction(ABSENT).empty and not reproduction(RIGHT, ABSENT).empty
