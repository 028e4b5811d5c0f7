"""A reproduction of the reported EERs as a table on a terminal, and as an HTML page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from spectra_jax.files.outputs import output_file
from spectra_jax.messages import count
from spectra_jax.reporting.console import Column, print_table
from spectra_jax.reporting.extra import require_report_extra
from spectra_jax.reproduction.results import DatasetResult, Reproduction, SystemFigures

_COLUMNS = (
    Column("dataset", "text"),
    Column("reported", "number"),
    Column("recomputed", "number", optional=4),
    Column("ours", "number"),
    Column("difference", "number"),
    Column("95 % interval", "number"),
    Column("trials", "number", optional=1),
    Column("skipped", "number", optional=3),
    Column("near ties", "number", optional=3),
    Column("hours", "number", optional=2),
    Column("reproduced", "word"),
)
_LEAD = (
    "EER in percent. Recomputed is the EER of the published scores on the same trials; ours is that of this run, with "
    "a bootstrap interval. A dataset is reproduced if the reported EER is in the interval; for a sample, the "
    "recomputed EER has to be."
)


def print_reproduction(reproduction: Reproduction, console: Console) -> None:
    """Print the table, a line for each note and problem, and the verdict."""
    print_table(console, _COLUMNS, _rows(reproduction), title="EER in percent, reported and reproduced")
    for line in _notes(reproduction):
        console.print(Text(line), soft_wrap=True, highlight=False)
    console.print(Text(_verdict(reproduction)), highlight=False)


def write_reproduction_page(reproduction: Reproduction, output: Path, command: Sequence[str]) -> None:
    """Write the table, its notes and its provenance as one HTML page that fetches nothing.

    Raises:
      InputError: the extra `report` is not installed.
      OSError: the page cannot be written.
    """
    require_report_extra()
    from spectra_jax.reporting.rendering import render
    from spectra_jax.reporting.sections import Section, Table

    head = [column.name for column in _COLUMNS]
    table = Table("EER in percent, reported and reproduced", head, _rows(reproduction))
    verdict = (_verdict(reproduction), reproduction.passed)
    sections = [Section("benchmark", "Benchmark", _LEAD, verdict, [table])]
    compared = [[one.dataset, one.agreement] for one in reproduction.results if one.agreement is not None]
    if compared:
        lead = "Our scores and the published scores of the same trials."
        table = Table("score by score", ["dataset", "verdict"], compared)
        sections.append(Section("scores", "Score by score", lead, tables=[table]))
    if notes := _note_rows(reproduction):
        sections.append(Section("notes", "Notes", tables=[Table("notes", ["dataset", "note"], notes)]))
    facts = Table("provenance", ["", ""], _provenance(reproduction, command))
    sections.append(Section("provenance", "Provenance", tables=[facts]))
    html = render("Reproduction of the reported EERs", [], sections)
    with output_file(output) as file:
        file.write(html.encode("utf-8", "backslashreplace"))


def _rows(reproduction: Reproduction) -> list[list[str]]:
    rows = []
    for result in reproduction.results:
        rows.append(_row(result))
        if result.mine is not None:
            name = Path(str(reproduction.provenance.get("mine"))).resolve().name
            rows.append([f"  {name}", "", "", *_figures(result.mine), "", "", ""])
    return rows


def _row(result: DatasetResult) -> list[str]:
    ours = ["-"] * 5 if result.ours is None else _figures(result.ours)
    return [
        result.dataset,
        result.reported,
        "-" if result.recomputed is None else f"{result.recomputed:.3f}",
        *ours,
        "-" if result.near_ties is None else f"{result.near_ties:,}",
        "-" if result.hours is None else f"{result.hours:.2f}",
        "yes" if result.reproduced else "no" if result.ours is not None else "-",
    ]


def _figures(figures: SystemFigures) -> list[str]:
    interval = figures.interval
    return [
        f"{figures.eer_percent:.3f}",
        "-" if figures.difference is None else f"{figures.difference:+.3f}",
        f"{interval.low:.3f} to {interval.high:.3f}",
        f"{figures.num_trials:,}",
        f"{figures.num_without_score:,}",
    ]


def _note_rows(reproduction: Reproduction) -> list[list[str]]:
    rows = []
    for result in reproduction.results:
        problem = [] if result.problem is None else [f"not reproduced: {result.problem}"]
        rows += [[result.dataset, note] for note in (*problem, *result.notes)]
    return rows


def _notes(reproduction: Reproduction) -> list[str]:
    return [f"{dataset}: {note}" for dataset, note in _note_rows(reproduction)]


def _verdict(reproduction: Reproduction) -> str:
    number, total = sum(result.reproduced for result in reproduction.results), len(reproduction.results)
    what = "the reported EER" if reproduction.provenance.get("sample") is None else "the EER of the published scores"
    verdict = f"{number} of {count(total, 'dataset')} reproduced, that is, {what} is in the 95 % interval of ours."
    return verdict + " The weights are not the published ones." * reproduction.other_weights


def _provenance(reproduction: Reproduction, command: Sequence[str]) -> list[list[str]]:
    facts = {name.replace("_", " "): value for name, value in reproduction.provenance.items() if name != "versions"}
    facts |= {f"version of {name}": value for name, value in reproduction.provenance["versions"].items()}
    if reproduction.clips_per_second is not None:
        facts["clips per second of the network alone"] = f"{reproduction.clips_per_second:,.1f}"
    for name in ("model", "precision", "batch_size", "certify"):
        values = {str(result.scored_with[name]) for result in reproduction.results if result.scored_with is not None}
        facts[name.replace("_", " ")] = ", ".join(sorted(values)) or None
    weights = {result.weights_sha256 for result in reproduction.results if result.weights_sha256 is not None}
    facts |= {"sha256 of the weights": ", ".join(sorted(weights)) or None}
    facts |= {f"commit of {result.dataset}": result.revision for result in reproduction.results}
    return [
        ["command", shlex.join(command)],
        *([name, str(value)] for name, value in facts.items() if value is not None),
    ]
