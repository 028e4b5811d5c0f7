"""Tables and a picture, from the results' JSON alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table as RichTable

from benchmarks.speed.contenders import CONTENDERS
from benchmarks.speed.measure import ratios

Results = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """One table of text cells, for a terminal or for Markdown."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def rich(self) -> RichTable:
        table = RichTable(title=self.title, caption=self.note or None, box=box.SIMPLE, title_justify="left")
        for index, name in enumerate(self.head):
            table.add_column(name, justify="right" if index else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", *([self.note, ""] if self.note else [])]
        lines += [f"| {' | '.join(self.head)} |", "| --- |" + " ---: |" * (len(self.head) - 1)]
        return "\n".join([*lines, *(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in self.rows)])


def tables(results: Results) -> list[Table]:
    """Every table that the results have sections for."""
    renderers = {
        "peak": _peak,
        "comparisons": _comparisons,
        "encoders": _encoders,
        "sweep": _sweep,
        "stages": _stages,
        "alone": _alone,
        "cold": _cold,
        "lengths": _lengths,
        "devices": _devices,
        "accuracy": _accuracy,
    }
    found: list[Table] = []
    for section, render in renderers.items():
        value = results.get(section)
        if isinstance(value, dict) and "error" in value:
            found.append(Table(section, ("not measured",), [(value["error"],)]))
        elif value:
            found.extend(render(results))
    return found


def report(results: Results) -> str:
    """The Markdown report."""
    where = results["environment"]
    packages = ", ".join(f"{name} {version or 'missing'}" for name, version in where["packages"].items())
    memory = f", {where['memory_bytes'] / 2**30:.0f} GiB" if where["memory_bytes"] else ""
    device = where["devices"]
    lines = [
        "# Speed",
        "",
        f"The {results['network']} network, windows of 64,600 samples (4 s): {_count(results['flops']['clip'])} each.",
        f"Measured {where['date']} at commit {(where['commit'] or 'unknown')[:12]}"
        + (" with uncommitted changes" if where["uncommitted_changes"] else "")
        + f" on {where['cpu']}, {where['cores']} cores{memory} ({', '.join(where['cpu_flags'])}); "
        f"JAX on {device['count']} x {device['kind']} ({device['platform']}).",
        "",
        f"Python {where['python']}, {packages}.",
        "",
        "Every contender runs in its own process with as many threads as there are cores, on the same windows. In a "
        "comparison they take turns, A B C A B C ..., after a warm-up call each. A ratio above 1 means that "
        "spectra-jax is faster. The peers run the network in the form that suits each best: fused attention, "
        "splines in closed form, a static shape where that helps; see `benchmarks/speed/oracle.py`. They "
        "compute every ordered pair of graph nodes, as the published code does; spectra-jax computes each pair once.",
        *(["", f"**{busy}**"] if (busy := load_warning(where)) else []),
    ]
    return "\n".join(lines) + "\n\n" + "\n\n".join(table.markdown() for table in tables(results)) + "\n"


def load_warning(environment: Results) -> str | None:
    """A warning where other programs occupied more than half of the cores when the run started."""
    load = (environment.get("load_average_at_start") or [0])[0]
    if load <= environment["cores"] / 2:
        return None
    cores = environment["cores"]
    return f"The machine was busy when the run started (load average {load:.1f} on {cores} cores): repeat the run."


def _peak(results: Results) -> Iterator[Table]:
    rows = [(name, _rate(rate)) for name, rate in results["peak"].items()]
    yield Table("The machine's peak: one large matrix product, the fastest of its runs", ("in", "rate"), rows)


def _comparisons(results: Results) -> Iterator[Table]:
    rows: list[tuple[str, ...]] = []
    failures: list[tuple[str, ...]] = []
    agreement: dict[tuple[str, int], float] = {}
    ours = [name for name in CONTENDERS if name.startswith("ours-") and not CONTENDERS[name].encoder_only]
    ours = [name for name in ours if any(name in row["seconds"] for row in results["comparisons"])]
    for row in results["comparisons"]:
        peer, seconds = row["peer"], row["seconds"]
        failures += [(_label(name), str(row["batch"] or "any"), why) for name, why in row["errors"].items()]
        for name, value in row.get("differences", {}).items():
            agreement[name, row["batch"]] = value
        if peer not in seconds:
            continue
        cells = [_label(peer), str(row["batch"]), _each(seconds[peer], row["batch"])]
        for name in ours:
            if seconds.get(name):
                medians, pairs = ratios(seconds, name, peer)
                cells += [_each(seconds[name], row["batch"]), f"{medians:.2f} ({pairs:.2f})"]
            else:
                cells += ["-", "-"]
        rows.append((*cells, str(len(seconds[peer]))))
    head = ["peer", "batch", "peer s/clip"]
    for name in ours:
        short = name.removeprefix("ours-")
        head += [f"ours {short} s/clip", f"peer / ours {short}"]
    note = "Median seconds a clip; ratio of medians (median of the rounds' ratios)."
    yield Table("Side by side", [*head, "rounds"], rows, note)
    yield _shares(results)
    if agreement:
        differences = [(_label(name), str(batch), f"{value:.1e}") for (name, batch), value in agreement.items()]
        head = ["contender", "batch", "difference"]
        yield Table("Largest difference of a logit from PyTorch's float32", head, differences)
    if failures:
        yield Table("Not measured", ("contender", "batch", "why"), list(dict.fromkeys(failures)))


def seconds_a_clip(results: Results) -> dict[tuple[str, int], float]:
    """Median seconds a clip of every contender and batch size, over all comparisons that it was in."""
    pooled: dict[tuple[str, int], list[float]] = {}
    for row in results["comparisons"]:
        for name, seconds in row["seconds"].items():
            pooled.setdefault((name, row["batch"]), []).extend(seconds)
    return {key: statistics.median(seconds) / key[1] for key, seconds in pooled.items() if seconds}


def _shares(results: Results) -> Table:
    rows = []
    for (name, batch), seconds in sorted(seconds_a_clip(results).items(), key=lambda item: (item[0][1], item[1])):
        rate = results["flops"]["clip"] / seconds
        rows.append((_label(name), str(batch), f"{seconds:.3f}", _rate(rate), _share(rate, _kind(name), results)))
    note = (
        "Of useful operations (matrix products and convolutions), against the peak in the same number format, or in "
        "float32 where that is higher."
    )
    return Table("Share of the machine's peak", ("contender", "batch", "s/clip", "rate", "share of peak"), rows, note)


def _encoders(results: Results) -> Iterator[Table]:
    rows, failures = [], []
    for row in results["encoders"]:
        failures += [f"{_label(name)}: {why}" for name, why in row["errors"].items()]
        times = row["seconds"]
        if len(times) == 2 and all(times.values()):
            ours, peer = times["ours-encoder"], times["transformers-encoder"]
            medians, pairs = ratios(times, "ours-encoder", "transformers-encoder")
            share = _share(results["flops"]["encoder"] * row["batch"] / statistics.median(ours), "float32", results)
            difference = row.get("differences", {}).get("ours-encoder")
            rows.append(
                (
                    str(row["batch"]),
                    _each(peer, row["batch"]),
                    _each(ours, row["batch"]),
                    f"{medians:.2f} ({pairs:.2f})",
                    share,
                    "-" if difference is None else f"{difference:.1e}",
                )
            )
    head = ("batch", "transformers s/clip", "ours s/clip", "transformers / ours", "our share of peak", "difference")
    yield Table("The encoder alone, float32", head, rows, "; ".join(dict.fromkeys(failures)))


def _sweep(results: Results) -> Iterator[Table]:
    rows = []
    for row in results["sweep"]:
        for name, seconds in row["seconds"].items():
            if seconds:
                rate = results["flops"]["clip"] * row["batch"] / statistics.median(seconds)
                share = _share(rate, _kind(name), results)
                rows.append((_label(name), str(row["batch"]), _each(seconds, row["batch"]), _rate(rate), share))
        rows += [(_label(name), str(row["batch"]), why, "", "") for name, why in row["errors"].items()]
    yield Table("Batch size", ("contender", "batch", "s/clip", "rate", "share of peak"), rows)


def _stages(results: Results) -> Iterator[Table]:
    for run in results["stages"]:
        title = f"Where the time goes: {run['precision']}, batch {run['batch']}"
        if "error" in run:
            yield Table(title, ("not measured",), [(run["error"],)])
            continue
        medians = {stage["stage"]: statistics.median(stage["seconds"]) for stage in run["stages"]}
        flops = {stage["stage"]: stage["flops"] for stage in run["stages"]}
        after = ("bridge", "residual encoder and attention map", "graph back-end")
        alone = [name for name in medians if name != "whole network"]
        medians["sum of the stages"], flops["sum of the stages"] = (
            sum(values[name] for name in alone) for values in (medians, flops)
        )
        medians["everything after the encoder"], flops["everything after the encoder"] = (
            sum(values[name] for name in after) for values in (medians, flops)
        )
        total = medians["whole network"]
        rows = []
        for name, seconds in medians.items():
            # Everything after the encoder keeps float32.
            kind = "float32" if name in after or "after" in name else run["precision"]
            rate = flops[name] / seconds
            share = _share(rate, kind, results)
            rows.append(
                (name, f"{seconds * 1e3:.1f}", f"{seconds / total:.1%}", _count(flops[name]), _rate(rate), share)
            )
        note = "Each stage compiled alone, on its true input; shares of time are of the whole network's."
        yield Table(title, ("stage", "ms", "share of time", "operations", "rate", "share of peak"), rows, note)


def _alone(results: Results) -> Iterator[Table]:
    rows = []
    resets = all(batch["memory_resets"] for row in results["alone"] for batch in row.get("batches", ()))
    for row in results["alone"]:
        rows += [
            (
                _label(row["contender"]),
                str(batch["batch"]),
                f"{batch['load_seconds']:.2f}",
                f"{batch['compile_seconds']:.2f}",
                f"{batch['first_seconds']:.2f}",
                f"{statistics.median(batch['seconds']):.3f}",
                _gib(batch["load_peak_bytes"]),
                _gib(batch["compile_peak_bytes"]),
                _gib(batch["run_peak_bytes"]),
            )
            for batch in row.get("batches", ())
        ]
        if "error" in row:
            rows.append((_label(row["contender"]), "-", row["error"], *[""] * 6))
    head = ("contender", "batch", "load s", "compile s", "first call s", "steady call s")
    memory = ("peak GiB: load", "compile", "run")
    note = "" if resets else "The peak could not be reset: each is the largest since the process started."
    yield Table("Alone: start and memory", (*head, *memory), rows, note)
    slopes = []
    for row in results["alone"]:
        points = [(b["batch"], b["run_peak_bytes"]) for b in row.get("batches", ()) if b["run_peak_bytes"]]
        if resets and len(points) > 1:
            (first, low), (last, high) = points[0], points[-1]
            slopes.append((_label(row["contender"]), f"{(high - low) / (last - first) / 2**20:.0f}"))
    if slopes:
        yield Table("Memory of each further clip in a batch", ("contender", "MiB"), slopes)


def _cold(results: Results) -> Iterator[Table]:
    rows = []
    for row in results["cold"]:
        if "error" in row:
            rows.append((row["label"], row["error"], ""))
        else:
            spread = f"{statistics.median(row['seconds']):.1f} ({min(row['seconds']):.1f} to {max(row['seconds']):.1f})"
            rows.append((row["label"], spread, "-" if row["score"] is None else f"{row['score']:.6f}"))
    yield Table("A fresh process to its first score", ("", "seconds: median (range)", "score"), rows)


def _lengths(results: Results) -> Iterator[Table]:
    rows = []
    for row in results["lengths"]:
        for name, seconds in row["seconds"].items():
            if seconds:
                median = statistics.median(seconds)
                share = _share(row["flops"] / median, _kind(name), results)
                rows.append(
                    (f"{row['samples'] / 16000:g} s", _label(name), f"{median:.3f}", _count(row["flops"]), share)
                )
        rows += [(f"{row['samples'] / 16000:g} s", _label(name), why, "", "") for name, why in row["errors"].items()]
    head = ("clip", "contender", "s", "operations", "share of peak")
    yield Table(
        "Clip length, one clip at a time", head, rows, "Ours as the pure function: the `Scorer` has one length."
    )


def _devices(results: Results) -> Iterator[Table]:
    rows = [
        (str(row["asked"]), row["error"] if "error" in row else f"{statistics.median(row['seconds']):.3f}")
        for row in results["devices"]
    ]
    note = "On a CPU the devices share the same cores, so this shows what sharding costs, not what it gains."
    cpu = results["environment"]["devices"]["platform"] == "cpu"
    yield Table("Scorer over devices, batch 8, float32", ("devices", "s a batch"), rows, note if cpu else "")


def _accuracy(results: Results) -> Iterator[Table]:
    import numpy as np
    from scipy.stats import spearmanr

    rows = []
    for row in results["accuracy"]:
        known = {"demo": "demo checkpoint", "tiny": "tiny network, seeded weights"}
        name = known.get(row["model"], f"{results['network']} network, seeded weights")
        truth = row["scores"].get("float64")
        for precision, scores in row["scores"].items():
            against = row["reference"] if precision == "float64" else truth
            if against is None or None in against:
                continue
            error = np.abs(np.array(scores) - np.array(against))
            kind = "PyTorch float64" if precision == "float64" else "float64"
            rank = spearmanr(scores, against).statistic
            rows.append((name, precision, kind, f"{error.max():.1e}", f"{error.mean():.1e}", f"{rank:.4f}"))
        rows += [(name, precision, why, "", "", "") for precision, why in row["errors"].items()]
    head = ("weights", "precision", "against", "largest error", "mean error", "rank correlation")
    clips = len(results["accuracy"][0]["clips"])
    yield Table(f"Error of the score over {clips} clips", head, rows, "Rank correlation: Spearman's.")


def picture(results: Results, path: Path) -> bool:
    """Seconds a clip by contender and batch size; False if nothing was compared.

    Transparent, in greys and blue of middle lightness, so that it is legible on a light page and on a dark one.
    """
    seconds = seconds_a_clip(results) if isinstance(results.get("comparisons"), list) else {}
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
                [_label(name) for _, name in bars], [value for value, _ in bars], color=colours, height=0.7
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


def _label(name: str) -> str:
    return CONTENDERS[name].label if name in CONTENDERS else name


def _kind(name: str) -> str:
    """The number format whose peak a contender is compared with; that of int8 is not measured."""
    return next((kind for kind in ("bfloat16", "tf32", "int8") if kind in name), "float32")


def _share(rate: float, kind: str, results: Results) -> str:
    """The share of the best rate in a format, or in float32 where that is higher: a CPU without instructions for
    bfloat16 is faster in float32."""
    peaks = results["peak"] if isinstance(results.get("peak"), dict) else {}
    if kind not in peaks:
        return "-"
    return f"{rate / max(peaks[name] for name in (kind, 'float32', 'numpy float32') if name in peaks):.0%}"


def _each(seconds: Sequence[float], batch: int) -> str:
    return f"{statistics.median(seconds) / batch:.3f}" if seconds else "-"


def _rate(rate: float) -> str:
    return f"{rate / 1e12:.1f} TFLOP/s" if rate >= 1e13 else f"{rate / 1e9:.0f} GFLOP/s"


def _count(flops: float) -> str:
    return f"{flops / 1e9:.1f} GFLOP" if flops >= 1e9 else f"{flops / 1e6:.1f} MFLOP"


def _gib(count: int | None) -> str:
    return "-" if count is None else f"{count / 2**30:.2f}"
