"""Tables and the Markdown report of the GPU benchmark, from its JSON alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.speed.gpu.plan import COMPILED, EAGER, OURS, STAGES, Case, Row
from benchmarks.speed.render import Table

Results = dict[str, Any]

FORWARDS = ("ours", "eager", "compiled", "more-batches")
PEAKS = ("peak-jax", "peak-torch")
GOALS = {EAGER: 3.0, COMPILED: 1.5}
"""How many times as fast as a peer spectra-jax is to be, at the same precision and batch."""

_BACK_END = ("bridge", "residual encoder and attention map", "graph back-end")
"""Stages in float32 in every precision."""


def rows_of(results: Results, *sections: str) -> list[Row]:
    """The rows of sections, those without a measurement included."""
    found = results["sections"]
    return [Row.from_dict(row) for name in sections for row in found.get(name, {}).get("rows", ())]


def median(row: Row) -> float:
    """Median seconds of one call of a measured row."""
    assert row.seconds is not None
    return statistics.median(row.seconds)


def line(row: Row) -> str:
    """One row in words, for a terminal."""
    if row.seconds is None:
        return f"{row.case}: not measured: {row.problem}"
    text = f"{row.case}: {1e3 * median(row):.3f} ms"
    if row.case.batch and row.case.variant not in STAGES:
        text += f", {row.case.batch / median(row):.1f} clips/s"
    if row.amount is not None:
        text += f", {_rate(row)}"
    if row.compile_seconds is not None:
        text += f", compiled in {row.compile_seconds:.1f} s"
    return text


def peaks(results: Results) -> dict[str, tuple[float, str]]:
    """By precision the fastest rate of any library and run, and the library; `copy` is in bytes a second."""
    best: dict[str, tuple[float, str]] = {}
    for row in rows_of(results, *PEAKS):
        if row.seconds and row.amount:
            kind = row.case.precision.split(",")[0]
            found = row.amount / min(row.seconds), row.case.contender
            best[kind] = max(best.get(kind, found), found)
    return best


def report(results: Results) -> str:
    """The Markdown report."""
    where = results["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in where["packages"].items() if version)
    gpu = where.get("gpu") or {}
    details = ", ".join(f"{name} {value}" for name, value in gpu.items() if name != "name")
    flops = where.get("flops", {}).get("clip")
    lines = [
        f"# Speed on {card(results)}",
        "",
        f"The {results['network']} network with seeded weights, windows of 64,600 samples (4 s)"
        + (f": {flops / 1e9:.1f} GFLOP each." if flops else "."),
        f"Measured {where['date']} at commit {(where['commit'] or 'unknown')[:12]}"
        + (" with uncommitted changes" if where["uncommitted_changes"] else "")
        + f" on {card(results)}{f' ({details})' if details else ''}, {where['cpu']}, {where['cores']} cores.",
        "",
        f"Python {where['python']}, {packages}.",
        "",
        "The windows are on the device, and each section has a process and the card to itself. A time is the median "
        "of runs of many calls with one synchronisation at the end of a run. spectra-jax runs the program that its "
        "`Scorer` runs; PyTorch runs the network in its fast form (`benchmarks/speed/oracle.py`) under "
        "`inference_mode`. In bfloat16 the encoder is in bfloat16 (PyTorch: under autocast), and what follows it is in "
        "float32 without TF32 on both sides. Shares are of useful operations, against the fastest matrix product of "
        "any library in this run.",
    ]
    if results["smoke"]:
        lines += ["", "**A smoke run: the figures mean nothing.**"]
    return "\n".join(lines) + "\n\n" + "\n\n".join(table.markdown() for table in tables(results)) + "\n"


def summary(results: Results) -> str:
    """The tables that matter most, as plain text for a terminal of eighty columns."""
    chosen = [table for table in (*_peaks(results), *_clips(results), *_ratios(results)) if table.rows]
    return "\n\n".join([f"Speed on {card(results)}", *map(_plain, chosen), _missing_counts(results)])


def card(results: Results) -> str:
    where = results["environment"]
    return (where.get("gpu") or {}).get("name") or where.get("devices", {}).get("kind") or "an unknown device"


def tables(results: Results) -> list[Table]:
    """All tables that have rows."""
    renderers = (_peaks, _clips, _ratios, _forwards, _stages, _cold, _training, _scorer, _sections, _missing)
    return [table for renderer in renderers for table in renderer(results) if table.rows]


def _plain(table: Table) -> str:
    """Columns side by side; the first to the left, the others to the right."""
    cells = [list(table.head), *map(list, table.rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(table.head))]
    lines = [
        "  ".join(cell.rjust(width) if index else cell.ljust(width) for index, (cell, width) in enumerate(row_widths))
        for row_widths in (list(zip(row, widths, strict=True)) for row in cells)
    ]
    return "\n".join([table.title, *lines])


def _missing_counts(results: Results) -> str:
    counts = []
    for name, section in results["sections"].items():
        missing = sum(row["seconds"] is None for row in section["rows"])
        if missing:
            counts.append(f"{name} {missing} of {len(section['rows'])}")
    return f"Not measured: {', '.join(counts) or 'nothing; every case has a result'}"


def _peaks(results: Results) -> Iterator[Table]:
    best = peaks(results)
    rows = [
        (kind, _per_second(rate, kind), library)
        for kind, (rate, library) in sorted(best.items(), key=lambda item: -item[1][0])
    ]
    yield Table("The card's peak: the fastest large matrix product, and a copy", ("in", "rate", "through"), rows)


def _forward_rows(results: Results) -> list[Row]:
    return [row for row in rows_of(results, *FORWARDS) if row.seconds]


def _contender(case: Case) -> str:
    return f"{case.contender}{f', {case.variant}' if case.variant else ''}, {case.precision}"


def _clips(results: Results) -> Iterator[Table]:
    rows = _forward_rows(results)
    batches = sorted({row.case.batch for row in rows})
    contenders = sorted({_contender(row.case) for row in rows}, key=_order)
    found = {(_contender(row.case), row.case.batch): row.case.batch / median(row) for row in rows}
    cells = [(name, *(_number(found.get((name, batch))) for batch in batches)) for name in contenders]
    yield Table("Clips a second, by batch", ("", *map(str, batches)), cells)


def _order(name: str) -> tuple[bool, bool, str]:
    return not name.startswith(OURS), not name.startswith(EAGER), name


def _ratios(results: Results) -> Iterator[Table]:
    rows = _forward_rows(results)
    ours = {(row.case.precision, row.case.batch): median(row) for row in rows if row.case.contender == OURS}
    cells = []
    for row in sorted(rows, key=lambda row: (_order(_contender(row.case)), row.case.batch)):
        case = row.case
        if case.contender == OURS or (case.precision, case.batch) not in ours:
            continue
        ratio = median(row) / ours[case.precision, case.batch]
        goal = GOALS[case.contender]
        reached = "reached" if ratio >= goal else "not reached"
        cells.append((_contender(case), str(case.batch), f"{ratio:.2f}", f"{goal:g}", reached))
    yield Table("How many times as fast as a peer spectra-jax is", ("peer", "batch", "ratio", "goal", ""), cells)


def _forwards(results: Results) -> Iterator[Table]:
    best = peaks(results)
    cells = []
    for row in sorted(_forward_rows(results), key=lambda row: (_order(_contender(row.case)), row.case.batch)):
        planned = row.planned_bytes
        plan = sum(planned.get(name, 0) for name in ("arguments", "output", "temporaries", "code")) or None
        cells.append(
            (
                _contender(row.case),
                str(row.case.batch),
                _spread(row),
                _number(row.case.batch / median(row)),
                _share(row, row.case.precision, best),
                _gib(plan),
                _gib(row.peak_bytes),
                "-" if row.difference is None else f"{row.difference:.1e}",
                "-" if row.compile_seconds is None else f"{row.compile_seconds:.1f}",
            )
        )
    head = ("", "batch", "ms a batch (range)", "clips/s", "share of peak", "planned GiB", "peak GiB", "difference", "s")
    note = (
        "Planned: what the compiled program needs, weights included. Peak: the most in use; of spectra-jax only where "
        "this program raised it above what compiling and earlier programs of the process had used. Difference: the "
        "largest of a logit from spectra-jax in float32. The last column is compiling (spectra-jax: several programs "
        "at a time; PyTorch: the first call)."
    )
    yield Table("Forward passes", head, cells, note)


def _stages(results: Results) -> Iterator[Table]:
    best = peaks(results)
    rows = [row for row in rows_of(results, "stages") if row.seconds]
    for precision, batch in dict.fromkeys((row.case.precision, row.case.batch) for row in rows):
        chosen = [row for row in rows if (row.case.precision, row.case.batch) == (precision, batch)]
        whole = next((median(row) for row in chosen if row.case.variant == "whole network"), None)
        cells = [
            (
                row.case.variant,
                f"{1e3 * median(row):.2f}",
                f"{median(row) / whole:.1%}" if whole else "-",
                _rate(row),
                _share(row, "float32" if row.case.variant in _BACK_END else precision, best),
            )
            for row in chosen
        ]
        note = "Each stage compiled alone, on its true input; shares of time are of the complete network's."
        head = ("stage", "ms", "share of time", "rate", "share of peak")
        yield Table(f"Where the time goes: {precision}, batch {batch}", head, cells, note)


def _cold(results: Results) -> Iterator[Table]:
    cells = [
        (_contender(row.case), f"{median(row):.1f}", "-" if row.score is None else f"{row.score:.6f}")
        for row in rows_of(results, "cold")
        if row.seconds
    ]
    yield Table("A fresh process to its first score", ("", "seconds", "score"), cells)


def _training(results: Results) -> Iterator[Table]:
    rows = [row for row in rows_of(results, "training") if row.seconds]
    peers = {(row.case.batch, row.case.variant): median(row) for row in rows if row.case.contender == EAGER}
    cells = []
    for row in rows:
        peer = peers.get((row.case.batch, row.case.variant))
        cells.append(
            (
                row.case.contender,
                row.case.variant,
                str(row.case.batch),
                _spread(row),
                f"{peer / median(row):.2f}" if peer else "-",
                _gib(row.peak_bytes),
                "-" if row.compile_seconds is None else f"{row.compile_seconds:.1f}",
                "-" if row.score is None else f"{row.score:.4f}",
            )
        )
    head = ("", "in the backward pass", "batch", "ms a step (range)", "speed-up", "peak GiB", "first step s", "loss")
    note = "bfloat16, AdamW, no dropout. Speed-up: over eager PyTorch in the same row. Loss: of the first step."
    yield Table("A training step", head, cells, note)


def _scorer(results: Results) -> Iterator[Table]:
    cells = [
        (row.case.variant, row.case.precision, str(row.case.batch), _spread(row), _number(row.case.batch / median(row)))
        for row in rows_of(results, "scorer")
        if row.seconds
    ]
    note = "`logits`: from windows in host memory; `score_trials`: from FLAC files, decoded by all cores."
    yield Table("The `Scorer`, end to end", ("", "precision", "batch", "ms a batch (range)", "clips/s"), cells, note)


def _sections(results: Results) -> Iterator[Table]:
    cells = [
        (name, _number(section.get("seconds")), _number(section.get("limit_seconds")), section.get("problem", ""))
        for name, section in results["sections"].items()
    ]
    yield Table("Seconds of each section", ("section", "taken", "at most", "problem"), cells)


def _missing(results: Results) -> Iterator[Table]:
    cells = [
        (f"{name}: {row.case}", row.problem or "no reason is known")
        for name in results["sections"]
        for row in rows_of(results, name)
        if row.seconds is None
    ]
    yield Table("Not measured", ("case", "why"), cells)


def _share(row: Row, precision: str, best: dict[str, tuple[float, str]]) -> str:
    if precision not in best or row.amount is None:
        return "-"
    return f"{row.amount / median(row) / best[precision][0]:.0%}"


def _rate(row: Row) -> str:
    assert row.amount is not None
    return _per_second(row.amount / median(row), row.case.precision)


def _per_second(rate: float, kind: str) -> str:
    if kind == "copy":
        return f"{rate / 1e9:.0f} GB/s"
    return f"{rate / 1e12:.1f} TFLOP/s" if rate >= 1e12 else f"{rate / 1e9:.0f} GFLOP/s"


def _spread(row: Row) -> str:
    seconds: Sequence[float] = row.seconds or ()
    low, high = (f"{1e3 * value:.2f}" for value in (min(seconds), max(seconds)))
    return f"{1e3 * median(row):.2f} ({low} to {high})"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _gib(size: int | None) -> str:
    return "-" if size is None else f"{size / 2**30:.2f}"
