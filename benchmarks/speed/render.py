"""Tables and a picture, from the results of one machine."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from benchmarks.speed.contenders import CONTENDERS
from benchmarks.speed.results import Results, Run

Row = dict[str, Any]

OURS = ("ours-float32", "ours-tf32", "ours-bfloat16", "ours-int8")


@dataclass(frozen=True)
class Table:
    """One table of text cells, for a terminal or for Markdown."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def rich(self) -> Group:
        """The table for a terminal of 80 columns or more."""
        table = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        for index, (name, *cells) in enumerate(zip(self.head, *self.rows, strict=True)):
            # Labels and sentences are wrapped, figures are not.
            figures = index > 0 and max(map(len, cells), default=0) < 20
            table.add_column(name, justify="right" if index else "left", overflow="fold", no_wrap=figures)
        for row in self.rows:
            table.add_row(*row)
        return Group(Text(self.title, style="bold"), *([Text(self.note)] if self.note else []), table, "")

    def markdown(self, level: int = 2) -> str:
        note = [self.note, ""] if self.note else []
        return "\n".join([f"{'#' * level} {self.title}", "", *note, markdown_table(self.head, self.rows)])


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells as Markdown, the first column to the left and the others to the right."""
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)])


def tables(results: Results) -> list[Table]:
    """Every table that the results have sections for."""
    found: list[Table] = []
    if len(results.runs) > 1:
        found.append(_runs(results))
    for section, render in _RENDERERS.items():
        value = results.sections.get(section)
        if value and not _failed(value):
            found += render(results, value)
    failures = list(dict.fromkeys(_failures(results)))
    return [*found, *([Table("Not measured", ("section", "what", "why"), failures)] if failures else [])]


def report(results: Results) -> str:
    """The Markdown report."""
    machine = results.machine
    memory = f", {machine.memory_bytes / 2**30:.0f} GiB" if machine.memory_bytes else ""
    device = machine.devices
    lines = [
        f"# Speed on {machine.cores} cores of {machine.kind} with JAX {results.jax}",
        "",
        f"The {results.network} network, windows of 64,600 samples (4 s): {_count(results.flops['clip'])} each, on "
        f"{machine.cpu}, {machine.cores} cores{memory} ({', '.join(machine.cpu_flags)}); "
        f"JAX on {device['count']} x {device['kind']} ({device['platform']}).",
        "",
        f"Measured {', '.join(f'{run.date} at commit {_commit(run)}' for run in results.runs)}. "
        f"{_packages(results.runs[0], {})}.",
        "",
        "Every contender runs in its own process with as many threads as there are cores, on the same windows. In a "
        "comparison they take turns, A B C A B C ..., after a warm-up call each. The peers run the network in the form "
        "that suits each best: fused attention, splines in closed form, a static shape where that helps; see "
        "`benchmarks/speed/oracle.py`. They compute every ordered pair of graph nodes, as the published code does; "
        "spectra-jax computes each pair once. Shares of the peak are of the useful operations (matrix products and "
        "convolutions), against the fastest product in the same number format, or in float32 where that is faster.",
        *(line for warning in load_warnings(results) for line in ("", f"**{warning}**")),
    ]
    return "\n".join(lines) + "\n\n" + "\n\n".join(table.markdown() for table in tables(results)) + "\n"


def load_warnings(results: Results) -> list[str]:
    """A warning for each run that started while other programs occupied more than half of the cores."""
    cores = results.machine.cores
    return [
        f"The machine was busy when the run of {run.date} started (load average {run.load_average_at_start[0]:.1f} on "
        f"{cores} cores): repeat it."
        for run in results.runs
        if run.load_average_at_start and run.load_average_at_start[0] > cores / 2
    ]


def _packages(run: Run, known: Mapping[str, str | None]) -> str:
    """The versions of a run that are not as those known."""
    versions = {"Python": run.python, **run.packages}
    changed = {name: version for name, version in versions.items() if known.get(name, "") != version}
    return ", ".join(f"{name} {version or 'missing'}" for name, version in changed.items())


def _commit(run: Run) -> str:
    return (run.commit or "unknown")[:12] + (" with uncommitted changes" if run.uncommitted_changes else "")


def _runs(results: Results) -> Table:
    changes = (_packages(run, {"Python": before.python, **before.packages}) for before, run in pairwise(results.runs))
    rows = [
        (_parts(run, results), run.date[:16].replace("T", " "), _commit(run), changed or "the same")
        for run, changed in zip(results.runs, ("the first", *changes), strict=True)
    ]
    return Table("When it was measured", ("sections", "date", "commit", "versions"), rows)


def _parts(run: Run, results: Results) -> str:
    """The sections of a run, with the contenders where other runs measured other contenders of a section."""
    contenders: dict[str, list[str]] = {}
    for part in run.parts:
        section, _, contender = part.partition("/")
        contenders.setdefault(section, []).extend([label_of(contender)] if contender else [])
    split = {s for s in contenders if any(p.split("/")[0] == s for r in results.runs if r != run for p in r.parts)}
    return ", ".join(f"{name} ({', '.join(names)})" if name in split else name for name, names in contenders.items())


def _failed(value: Any) -> bool:
    return isinstance(value, dict) and "error" in value


def _failures(results: Results) -> Iterator[tuple[str, str, str]]:
    for section, value in results.sections.items():
        if _failed(value):
            yield section, "all", value["error"]
        for row in value if isinstance(value, list) else ():
            for name, why in row.get("errors", {}).items():
                yield section, label_of(name), why
            if "error" in row:
                case = ", ".join(f"{key} {row[key]}" for key in ("precision", "batch", "asked") if key in row)
                yield section, row.get("label") or label_of(row.get("contender", "")) or case, row["error"]


def fastest_product(results: Results, kind: str) -> tuple[str, float] | None:
    """Library and operations a second of the fastest product in a number format, or in float32 where that is faster.

    A CPU without instructions for bfloat16 is faster in float32. None where the format was not measured.
    """
    peaks = results.sections.get("peak")
    if not peaks or _failed(peaks) or not peaks.get(kind):
        return None
    return max((item for name in (kind, "float32") for item in peaks.get(name, {}).items()), key=lambda item: item[1])


def _peak(results: Results, peaks: Mapping[str, Mapping[str, float]]) -> Iterator[Table]:
    libraries = list(dict.fromkeys(library for rates in peaks.values() for library in rates))
    rows = []
    for kind, rates in peaks.items():
        fastest = max(rates, key=lambda library: rates[library])
        rows.append((kind, *(_rate(rates[name]) if name in rates else "-" for name in libraries), fastest))
    note = "Billion operations a second, each library's fastest run. The fastest library's is the peak."
    yield Table("The machine's peak: large matrix products", ("format", *libraries, "fastest"), rows, note)


def comparisons(results: Results) -> Table | None:
    """Every contender: seconds a clip, share of the peak, and how many times as fast ours are; None if not measured."""
    seconds = seconds_a_clip(results)
    if not seconds:
        return None
    batches = sorted({batch for _, batch in seconds})
    timed = {name for name, _ in seconds}
    ours = [name for name in OURS if name in timed]
    rows = []
    for name in (name for name in CONTENDERS if name in timed):
        medians = [seconds.get((name, batch)) for batch in batches]
        kind = number_format(name)
        shares = [s and share_of_peak(results.flops["clip"] / s, kind, results) for s in medians]
        ratios = [[times_as_fast(results, our, name, batch) for batch in batches] for our in ours]
        cells = [join_batches(values, ".2f") if name not in ours else "" for values in ratios]
        rows.append((label_of(name), join_batches(medians, ".3f"), join_batches(shares, ".0%"), *cells))
    head = ("batch " + " / ".join(map(str, batches)), "s/clip", "of peak", *(our.removeprefix("ours-") for our in ours))
    rounds = []
    for batch in batches:
        rows_of_batch = [row for row in rows_of(results, "comparisons") if row["batch"] == batch]
        rounds.append(f"{_range([len(s) for row in rows_of_batch for s in row['seconds'].values()])} at batch {batch}")
    note = "Median seconds a clip, share of the peak, and how many times as fast ours are, by precision. Rounds: "
    return Table("Times as fast", head, rows, f"{note}{', '.join(rounds)}.")


def _range(counts: Sequence[int]) -> str:
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _comparisons(results: Results, rows: Sequence[Row]) -> Iterator[Table]:
    if table := comparisons(results):
        yield table
    agreement: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, value in row.get("differences", {}).items():
            agreement.setdefault(name, {})[row["batch"]] = value
    if agreement:
        batches = sorted({batch for differences in agreement.values() for batch in differences})
        differences = [
            (label_of(name), *(f"{values[batch]:.1e}" if batch in values else "-" for batch in batches))
            for name, values in agreement.items()
        ]
        head = ("contender", *(f"batch {batch}" for batch in batches))
        yield Table("Largest difference of a logit from PyTorch's float32", head, differences)


def times_as_fast(results: Results, ours: str, peer: str, batch: int) -> float | None:
    """The ratio of medians, from the rounds in which both took turns; None if they did not."""
    for row in rows_of(results, "comparisons"):
        if row["peer"] == peer and row["batch"] == batch and row["seconds"].get(ours) and row["seconds"].get(peer):
            return statistics.median(row["seconds"][peer]) / statistics.median(row["seconds"][ours])
    return None


def seconds_a_clip(results: Results) -> dict[tuple[str, int], float]:
    """Median seconds a clip of every contender and batch size, over the comparisons of the last run that had it."""
    latest: dict[tuple[str, int], tuple[int, list[float]]] = {}
    for row in rows_of(results, "comparisons"):
        order = next(i for i, run in enumerate(results.runs) if f"comparisons/{row['peer']}" in run.parts)
        for name, seconds in row["seconds"].items():
            known, pooled = latest.get((name, row["batch"]), (-1, []))
            if seconds and order >= known:
                latest[name, row["batch"]] = order, [*(pooled if order == known else ()), *seconds]
    return {key: statistics.median(seconds) / key[1] for key, (_, seconds) in latest.items()}


def rows_of(results: Results, section: str) -> Sequence[Row]:
    """The rows of a section; none where it was not measured or failed."""
    rows = results.sections.get(section)
    return rows if isinstance(rows, list) else ()


def _encoders(results: Results, measured: Sequence[Row]) -> Iterator[Table]:
    rows = []
    for row in measured:
        times, batch = row["seconds"], row["batch"]
        if len(times) == 2 and all(times.values()):
            ours, peer = (statistics.median(times[name]) / batch for name in ("ours-encoder", "transformers-encoder"))
            share = _share(results.flops["encoder"] / ours, "float32", results)
            difference = row.get("differences", {}).get("ours-encoder")
            shown = "-" if difference is None else f"{difference:.1e}"
            rows.append((str(batch), f"{peer:.3f}", f"{ours:.3f}", f"{peer / ours:.2f}", share, shown))
    head = ("batch", "transformers s/clip", "ours s/clip", "times as fast", "our share of peak", "difference")
    yield Table("The encoder alone, float32", head, rows)


def _sweep(results: Results, rows: Sequence[Row]) -> Iterator[Table]:
    timed = {(name, f"batch {row['batch']}"): (row, s) for row in rows for name, s in row["seconds"].items() if s}
    yield _matrix("Batch size", "Seconds a clip, and share of the peak.", timed, results)


def _lengths(results: Results, rows: Sequence[Row]) -> Iterator[Table]:
    clips = [(f"{row['samples'] / 16000:g} s", row) for row in rows]
    timed = {(name, clip): (row, seconds) for clip, row in clips for name, seconds in row["seconds"].items() if seconds}
    note = "Seconds a clip, and share of the peak. Ours as the pure function: the `Scorer` has one length."
    yield _matrix("Clip length, one clip at a time", note, timed, results)


def _matrix(
    title: str, note: str, timed: Mapping[tuple[str, str], tuple[Row, Sequence[float]]], results: Results
) -> Table:
    """Contenders by columns: seconds a clip, and share of the peak."""
    columns = list(dict.fromkeys(column for _, column in timed))
    rows = []
    for name in dict.fromkeys(name for name, _ in timed):
        cells = [label_of(name)]
        for column in columns:
            if (name, column) not in timed:
                cells.append("-")
                continue
            row, times = timed[name, column]
            seconds = statistics.median(times) / row["batch"]
            share = _share(row.get("flops", results.flops["clip"]) / seconds, number_format(name), results)
            cells.append(f"{seconds:.3f} ({share})")
        rows.append(cells)
    return Table(title, ("contender", *columns), rows, note)


_AFTER = ("bridge", "residual encoder and attention map", "graph back-end")


def _by_precision(measured: Sequence[Row]) -> dict[str, list[Row]]:
    runs: dict[str, list[Row]] = {}
    for run in measured:
        if "error" not in run:
            runs.setdefault(run["precision"], []).append(run)
    return runs


def _stages(results: Results, measured: Sequence[Row]) -> Iterator[Table]:
    for precision, runs in _by_precision(measured).items():
        rows: dict[str, list[tuple[str, ...]]] = {}
        for run in runs:
            stages = {stage["stage"]: (statistics.median(stage["seconds"]), stage["flops"]) for stage in run["stages"]}
            total = stages.pop("whole network")
            sums = {"everything after the encoder": _AFTER, "sum of the stages": tuple(stages)}
            stages |= {name: _add(stages[part] for part in parts) for name, parts in sums.items()}
            for name, (seconds, flops) in {**stages, "complete network": total}.items():
                kind = _format_of_stage(name, precision)
                cells = f"{seconds * 1e3:.1f}", f"{seconds / total[0]:.1%}", _share(flops / seconds, kind, results)
                rows.setdefault(name, []).append(cells)
        head = (f"batch {' / '.join(str(run['batch']) for run in runs)}", "ms", "of the time", "of the peak")
        body = [(name, *(" / ".join(cells) for cells in zip(*values, strict=True))) for name, values in rows.items()]
        note = "Each stage compiled alone, on its true input; shares of time are of the complete network's."
        yield Table(f"Where the time goes: {precision}", head, body, note)


def _operations(results: Results, measured: Sequence[Row]) -> Iterator[Table]:
    for precision, runs in _by_precision(measured).items():
        found = [{part["kind"]: part for part in run["operations"]} for run in runs]
        totals = [sum(part["seconds"] for part in run["operations"]) for run in runs]
        rows = []
        for kind in dict.fromkeys(kind for parts in found for kind in parts):
            cells = [
                (f"{part['seconds'] * 1e3:.1f}", f"{part['seconds'] / total:.1%}", str(part["count"]))
                if (part := parts.get(kind))
                else ("-", "-", "-")
                for parts, total in zip(found, totals, strict=True)
            ]
            rows.append((kind, *(" / ".join(column) for column in zip(*cells, strict=True))))
        head = (f"batch {' / '.join(str(run['batch']) for run in runs)}", "ms", "of the time", "operations")
        note = "A profile by XLA of the complete network, which makes it slower, more so with one clip."
        yield Table(f"Which operations take the time: {precision}", head, rows, note)


def _format_of_stage(name: str, precision: str) -> str:
    """The number format of a stage's products: everything after the encoder keeps float32."""
    if name in (*_AFTER, "everything after the encoder"):
        return "float32"
    convolutions = ("feature extractor", "feature projection", "positional convolution")
    return "bfloat16" if precision == "int8" and name in convolutions else precision


def _add(stages: Iterable[tuple[float, int]]) -> tuple[float, int]:
    seconds, flops = zip(*stages, strict=True)
    return sum(seconds), sum(flops)


def _alone(results: Results, measured: Sequence[Row]) -> Iterator[Table]:
    starts, memory = [], []
    measured = [row for row in measured if row.get("batches")]
    for row in measured:
        batches = row["batches"]
        label = label_of(row["contender"])
        steps = ([batch[f"{step}_seconds"] for batch in batches] for step in ("load", "compile", "first"))
        starts.append((label, *(join_batches(seconds, ".1f") for seconds in steps)))
        load, compiling, running = (
            [(batch[f"{step}_peak_bytes"] or 0) / 2**30 for batch in batches] for step in ("load", "compile", "run")
        )
        clips = batches[-1]["batch"] - batches[0]["batch"]
        slope = f"{(running[-1] - running[0]) / clips * 2**10:.0f}" if clips else "-"
        peaks = (f"{load[-1]:.2f}", f"{compiling[-1]:.2f}", join_batches(running, ".2f"))
        memory.append((label, *peaks, slope))
    if not measured:
        return
    head = f"batch {' / '.join(str(batch['batch']) for batch in measured[0]['batches'])}"
    yield Table("Alone: seconds to the first output", (head, "load", "compile", "first call"), starts)
    resets = all(batch["memory_resets"] for row in measured for batch in row["batches"])
    note = "" if resets else "The peak could not be reset: each is the largest since the process started."
    steps_head = ("load", "compile", "run", "MiB a further clip")
    yield Table("Alone: peak memory in GiB", (head, *steps_head), memory, note)


def _cold(results: Results, measured: Sequence[Row]) -> Iterator[Table]:
    rows = []
    for row in measured:
        if seconds := row.get("seconds"):
            spread = f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"
            rows.append((row["label"], spread, "-" if row["score"] is None else f"{row['score']:.6f}"))
    yield Table("A fresh process to its first score", ("", "seconds: median (range)", "score"), rows)


def _devices(results: Results, measured: Sequence[Row]) -> Iterator[Table]:
    rows = [(str(row["asked"]), f"{statistics.median(row['seconds']):.3f}") for row in measured if "seconds" in row]
    note = "On a CPU the devices share the same cores, so this shows what sharding costs, not what it gains."
    cpu = results.machine.devices["platform"] == "cpu"
    yield Table("Scorer over devices, batch 8, float32", ("devices", "s a batch"), rows, note if cpu else "")


def _accuracy(results: Results, measured: Sequence[Row]) -> Iterator[Table]:
    import numpy as np
    from scipy.stats import spearmanr

    rows = []
    for row in measured:
        known = {"demo": "demo checkpoint", "tiny": "tiny network, seeded weights"}
        name = known.get(row["model"], f"{results.network} network, seeded weights")
        truth = row["scores"].get("float64")
        for precision, scores in row["scores"].items():
            against = row["reference"] if precision == "float64" else truth
            if against is None or None in against:
                continue
            error = np.abs(np.array(scores) - np.array(against))
            rank = spearmanr(scores, against).statistic
            rows.append((name, precision, f"{error.max():.1e}", f"{error.mean():.1e}", f"{rank:.4f}"))
    head = ("weights", "precision", "largest error", "mean error", "rank correlation")
    note = "float64 against PyTorch's float64, the others against our float64. Rank correlation: Spearman's."
    clips = len(measured[0]["clips"])
    yield Table(f"Error of the score over {clips} clips", head, rows, note)


_RENDERERS: dict[str, Callable[[Results, Any], Iterator[Table]]] = {
    "peak": _peak,
    "comparisons": _comparisons,
    "encoders": _encoders,
    "sweep": _sweep,
    "stages": _stages,
    "operations": _operations,
    "alone": _alone,
    "cold": _cold,
    "lengths": _lengths,
    "devices": _devices,
    "accuracy": _accuracy,
}


def picture(results: Results, path: Path) -> bool:
    """Seconds a clip by contender and batch size; False if nothing was compared.

    Transparent, in greys and blue of middle lightness, so that it is legible on a light page and on a dark one.
    """
    seconds = seconds_a_clip(results)
    if not seconds:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ink, ours, peers = "#808890", "#2f81f7", "#a9a9a9"
    batches = sorted({batch for _, batch in seconds})
    count = max(sum(key[1] == batch for key in seconds) for batch in batches)
    style: Any = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "svg.hashsalt": "speed"}
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), ink)
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(1, len(batches), figsize=(5.2 * len(batches), 0.6 + 0.36 * count), squeeze=False)
        for axis, batch in zip(axes[0], batches, strict=True):
            bars = sorted(((value, name) for (name, b), value in seconds.items() if b == batch), reverse=True)
            colours = [ours if name.startswith("ours-") else peers for _, name in bars]
            drawn = axis.barh(
                [label_of(name) for _, name in bars], [value for value, _ in bars], color=colours, height=0.7
            )
            axis.bar_label(drawn, [f"{value:.2g}" if value < 1 else f"{value:.1f}" for value, _ in bars], padding=3)
            axis.set_title(f"seconds a clip, batch {batch}", color=ink, fontsize=11)
            axis.spines[["top", "right", "bottom"]].set_visible(False)
            axis.tick_params(axis="x", bottom=False, labelbottom=False)
            axis.margins(x=0.15)
        figure.tight_layout()
        figure.savefig(path, transparent=True, metadata={"Date": None})
        pyplot.close(figure)
    return True


def label_of(name: str) -> str:
    return CONTENDERS[name].label if name in CONTENDERS else name


def number_format(name: str) -> str:
    """The number format of a contender's products, whose peak it is compared with."""
    return next((kind for kind in ("bfloat16", "tf32", "int8") if kind in name), "float32")


def share_of_peak(rate: float, kind: str, results: Results) -> float | None:
    """The share of the machine's peak that a rate in a number format is; None where the peak was not measured."""
    fastest = fastest_product(results, kind)
    return rate / fastest[1] if fastest else None


def _share(rate: float, kind: str, results: Results) -> str:
    return join_batches([share_of_peak(rate, kind, results)], ".0%")


def join_batches(values: Sequence[float | None], spec: str) -> str:
    """One cell for all batch sizes; a dash where nothing was measured."""
    return " / ".join("-" if value is None else format(value, spec) for value in values) if any(values) else "-"


def _rate(rate: float) -> str:
    return f"{rate / 1e9:,.0f}"


def _count(flops: float) -> str:
    return f"{flops / 1e9:.1f} GFLOP" if flops >= 1e9 else f"{flops / 1e6:.1f} MFLOP"
