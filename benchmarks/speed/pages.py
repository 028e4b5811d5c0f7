"""The documentation's pages of speeds, from the results files: one for each file, and the tables of the page of all."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.speed import render
from benchmarks.speed.measure import ROOT
from benchmarks.speed.results import Results

RESULTS = ROOT / "benchmarks" / "results"
REPORTS = ROOT / "docs" / "reports"
PATTERN = "*-cores-jax-*"
BATCHES = (1, 8)
PRECISIONS = ("float32", "bfloat16", "int8")


@dataclass(frozen=True)
class Aim:
    """How many times as fast as `peer`, or which share of the peak, a precision of ours should be at least.

    Attributes:
      least: for each of `BATCHES`; zeros where there is no aim.
    """

    ours: str
    least: tuple[float, float]
    peer: str | None = None


AIMS = (
    Aim("float32", (1.0, 1.05), "openvino-float32"),
    Aim("bfloat16", (1.0, 1.0), "openvino-bfloat16"),
    Aim("int8", (1.1, 1.1), "openvino-int8"),
    Aim("int8", (1.3, 1.3), "openvino-bfloat16"),
    Aim("int8", (1.3, 1.5), "onnxruntime-int8"),
    Aim("float32", (0.8, 0.85)),
    Aim("bfloat16", (0.6, 0.7)),
    Aim("int8", (0.0, 0.0)),
)


def write() -> None:
    """Write every generated page whose text differs."""
    for path, text in generate().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"written: {path}")


def generate() -> dict[Path, str]:
    """The text of each page that comes from the results files."""
    files = {path.stem: Results.read(path) for path in sorted(RESULTS.glob(f"{PATTERN}.json"), reverse=True)}
    pages = {REPORTS / f"{name}.md": _page(name, results) for name, results in files.items()}
    page = REPORTS / "speed.md"
    text = page.read_text(encoding="utf-8")
    for name, table in {"aims": _aims, "contenders": _contenders, "starts": _starts}.items():
        text = insert(text, name, table(files))
    return {**pages, page: text}


def _page(name: str, results: Results) -> str:
    source = f"<!-- Generated from benchmarks/results/{name}.json by `python -m benchmarks.speed pages`. -->"
    picture = f"\n![Median seconds a clip of every contender](../../benchmarks/results/{name}.svg)\n"
    return f"{source}\n\n{render.report(results)}{picture if (RESULTS / f'{name}.svg').exists() else ''}"


def insert(text: str, name: str, generated: str) -> str:
    """A page with what is between its comments `generated: NAME` and `end` replaced.

    Raises:
      ValueError: the page lacks these comments.
    """
    start, end = f"<!-- generated: {name} -->", "<!-- end -->"
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the page has no lines {start!r} and {end!r}")
    return pattern.sub(lambda _: f"{start}\n\n{generated}\n\n{end}", text, count=1)


def _name(results: Results) -> str:
    return f"{results.machine.kind}, {results.machine.cores} cores, JAX {results.jax}"


def _aims(files: dict[str, Results]) -> str:
    """Rows of aims, then of seconds and peaks. What reaches its aim at both batch sizes is bold."""
    rows = []
    for aim in AIMS:
        what, spec = (
            (f"times as fast as {render.label_of(aim.peer)}", ".2f") if aim.peer else ("share of the peak", ".0%")
        )
        cells = []
        for results in files.values():
            found = [_reached(results, aim, batch) for batch in BATCHES]
            cell = render.join_batches(found, spec)
            reached = all(value is not None and value >= least for value, least in zip(found, aim.least, strict=True))
            cells.append(f"**{cell}**" if reached and any(aim.least) else cell)
        least = render.join_batches(aim.least, spec) if any(aim.least) else ""
        rows.append((f"{aim.ours}: {what}", least, *cells))
    for precision in PRECISIONS:
        ours = f"ours-{precision}"
        seconds = [[render.seconds_a_clip(r).get((ours, batch)) for batch in BATCHES] for r in files.values()]
        rows.append((f"{precision}: seconds a clip", "", *(render.join_batches(found, ".3f") for found in seconds)))
    peak = "the peak, billion operations a second"
    rows += [(f"{kind}: {peak}", "", *(_peak(results, kind) for results in files.values())) for kind in PRECISIONS]
    rows.append(("measured", "", *(_measured(results) for results in files.values())))
    return _table(files, "batch 1 / 8", rows, "aim")


def _reached(results: Results, aim: Aim, batch: int) -> float | None:
    ours = f"ours-{aim.ours}"
    if aim.peer:
        return render.times_as_fast(results, ours, aim.peer, batch)
    seconds = render.seconds_a_clip(results).get((ours, batch))
    return render.share_of_peak(results.flops["clip"] / seconds, aim.ours, results) if seconds else None


def _measured(results: Results) -> str:
    """Dates and commits of the runs that compared the contenders."""
    runs = [run for run in results.runs if any(part.startswith("comparisons/") for part in run.parts)]
    return ", ".join(f"{run.date[:10]}, {(run.commit or 'unknown')[:7]}" for run in runs)


def _peak(results: Results, kind: str) -> str:
    fastest = render.fastest_product(results, kind)
    return f"{fastest[1] / 1e9:,.0f} ({fastest[0]})" if fastest else "-"


def _contenders(files: dict[str, Results]) -> str:
    tables = [(_name(results), render.comparisons(results)) for results in files.values()]
    return "\n\n".join(replace(table, title=name).markdown(level=3) for name, table in tables if table)


def _starts(files: dict[str, Results]) -> str:
    """Seconds to the first score, and the most memory while batches of 8 are scored."""
    rows: dict[str, dict[str, str]] = {}
    for name, results in files.items():
        for row in render.rows_of(results, "cold"):
            if "seconds" in row:
                first = f"{statistics.median(row['seconds']):.1f} s"
                rows.setdefault(f"first score of a new process: {row['label']}", {})[name] = first
        for row in render.rows_of(results, "alone"):
            for batch in row.get("batches", ()):
                if batch["batch"] == BATCHES[-1] and batch["run_peak_bytes"]:
                    memory = f"{batch['run_peak_bytes'] / 1e9:.2f} GB"
                    label = f"memory at batch {BATCHES[-1]}: {render.label_of(row['contender'])}"
                    rows.setdefault(label, {})[name] = memory
    return _table(files, "", [(label, *(cells.get(name, "-") for name in files)) for label, cells in rows.items()])


def _table(files: dict[str, Results], head: str, rows: Sequence[Sequence[str]], *more: str) -> str:
    """A table with a column for each results file, whose heads link to the files' pages."""
    heads = (head, *more, *(f"[{_name(results)}]({name}.md)" for name, results in files.items()))
    return render.markdown_table(heads, rows)
