"""What the pipeline around the network costs in one process, in several, and under Ray.

    python -m benchmarks.scale                       # 1,000, 10,000 and 100,000 short trials; an hour on 2 cores
    python -m benchmarks.scale --sizes 1000 10000    # fewer

Run from the root of a checkout. The trials are a hundred clips of a quarter of a second, under as many names as there
are trials, scored by the demo checkpoint. Each run is a process of its own. Its total time counts, including the start
and compiling, which the compilation cache shortens. "Pipeline alone" has an engine that computes nothing: what remains
is listing, decoding, preparing and writing, on all cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.speed.machine import describe_machine

RESULTS = Path(__file__).parent / "results"
BATCH, PART, PROCESSES, CLIPS, LISTED = 32, 1000, 4, 100, 1_000_000
WORKER = "--worker"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000], metavar="TRIALS")
    parser.add_argument("--most", type=int, default=100_000, help="above it only the pipeline alone is measured")
    parser.add_argument("--output", type=Path, default=RESULTS / "scale-2-cores", metavar="NAME")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": describe_machine(), "batch_size": BATCH, "part_size": PART, "rows": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_clips(folder)
        results["listing"] = run_worker("listing", write_manifest(folder, LISTED))
        warm = write_manifest(folder, BATCH)
        results["start"] = start(folder, warm)
        for size in options.sizes:
            manifest = write_manifest(folder, size)
            shares = [("--process", f"{which}/{PROCESSES}") for which in range(PROCESSES)]
            runs = {
                "one process": [command(manifest, folder / f"{size}-0")],
                f"{PROCESSES} processes": [command(manifest, folder / f"{size}-1", *share) for share in shares],
                "Ray, a cluster of this machine": [command(manifest, folder / f"{size}-2", "--engine", "ray")],
            }
            report(f"{size:,} trials, pipeline alone")
            alone = run_worker("pipeline", manifest, folder / f"{size}-alone")
            results["rows"].append({"trials": size, "how": "pipeline alone", **alone})
            if size > options.most:
                continue
            for how, commands in runs.items():
                report(f"{size:,} trials, {how}")
                results["rows"].append({"trials": size, "how": how, **run(commands)})
            files = {(folder / f"{size}-{number}" / "scores.txt").read_bytes() for number in range(len(runs))}
            results["rows"][-1]["same_scores"] = len(files) == 1
    options.output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
    text = render(results)
    options.output.with_suffix(".md").write_text(text)
    print(text)
    return 0


def report(line: str) -> None:
    print(f"{line} ...", file=sys.stderr)


def write_clips(folder: Path) -> None:
    for number in range(CLIPS):
        noise = np.random.default_rng(number).normal(size=4000) * 0.1
        soundfile.write(folder / f"{number}.flac", noise, 16000)


def write_manifest(folder: Path, size: int) -> Path:
    manifest = folder / f"{size}.csv"
    with manifest.open("w") as file:
        file.write("path,utterance_id\n")
        file.writelines(f"{number % CLIPS}.flac,trial-{number:09d}\n" for number in range(size))
    return manifest


def start(folder: Path, manifest: Path) -> dict[str, float]:
    """Seconds of a command for few trials, with an empty compilation cache and with a filled one."""
    own = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    first, cached = (run([command(manifest, folder / f"start-{which}")], own)["seconds"] for which in range(2))
    return {"first": first, "cached": cached}


def command(manifest: Path, output: Path, *more: str) -> list[str]:
    program = [sys.executable, "-c", "from spectra_jax.cli import main; main()"]
    sizes = ["--batch-size", str(BATCH), "--part-size", str(PART)]
    return [*program, "score", "--model", "demo", *sizes, *more, "--output", f"{output}/", str(manifest)]


def run(commands: Sequence[list[str]], env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run commands at the same time: seconds until the last has ended, and the sum of their peak memory."""
    start = time.monotonic()
    running = [
        subprocess.Popen(words, env=os.environ | (env or {}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for words in commands
    ]
    memory = 0
    for process in running:
        # Popen.wait does not report the child's own use of memory.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"exit status {process.returncode}: {' '.join(map(str, process.args))}")  # type: ignore[arg-type]
        memory += usage.ru_maxrss * 1024
    return {"seconds": time.monotonic() - start, "peak_bytes": memory}


def run_worker(name: str, *arguments: Path) -> dict[str, Any]:
    """What `WORKERS[name]` measures, in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.scale", WORKER, name, *map(str, arguments)]
    measured: dict[str, Any] = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)
    return measured


def listing(manifest: str) -> dict[str, Any]:
    """List trials, and iterate over them again as a run does."""
    from spectra_jax.data.sources import collect

    before, start = _peak(), time.monotonic()
    trials = collect([manifest])
    listed = time.monotonic()
    for _ in trials:
        pass
    return {
        "trials": len(trials),
        "listing_seconds": listed - start,
        "iterating_seconds": time.monotonic() - listed,
        "grown_bytes": _peak() - before,
    }


def pipeline(manifest: str, output: str) -> dict[str, Any]:
    """A run with an engine that computes nothing."""
    import pyarrow as pa

    from spectra_jax import Scorer, load
    from spectra_jax.data.sources import collect
    from spectra_jax.inference.engine import BatchScores
    from spectra_jax.jobs import BulkRun, Store

    class InstantEngine:
        """All logits are 0."""

        model, batch_size = load("demo"), BATCH

        def dispatch(self, windows: np.ndarray) -> None:
            pass

        def collect(self, windows: np.ndarray, in_flight: None) -> BatchScores:
            return BatchScores(np.zeros((len(windows), 2), np.float32), np.zeros(len(windows), bool))

    scorer = Scorer("demo", batch_size=BATCH)
    scorer.engine = InstantEngine()
    # With its first array pyarrow imports pandas, where it is installed: a third of a second that belongs to the start.
    pa.array([None])
    start = time.monotonic()
    run = BulkRun(Store(output), collect([manifest]), scorer, part_size=PART)
    spent: dict[str, float] = {}
    for part in run:
        for what, seconds in part.stage_seconds.items():
            spent[what] = spent.get(what, 0.0) + seconds
    run.merge()
    return {"seconds": time.monotonic() - start, "peak_bytes": _peak(), "spent": spent}


WORKERS: dict[str, Callable[..., dict[str, Any]]] = {"listing": listing, "pipeline": pipeline}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def render(results: dict[str, Any]) -> str:
    machine, listed, start = results["machine"], results["listing"], results["start"]
    lines = [
        f"Short trials and the demo checkpoint, batch size {results['batch_size']}, on {machine['cores']} cores of "
        f"{machine['cpu']}; written by `python -m benchmarks.scale` from the JSON beside this file.",
        "",
        "| trials | how | seconds | trials/s | ms a trial | peak memory |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in results["rows"]:
        # Ray's actors are not children of the measured process.
        memory = "not measured" if row["how"].startswith("Ray") else f"{row['peak_bytes'] / 2**20:,.0f} MiB"
        rate = row["trials"] / row["seconds"]
        lines.append(
            f"| {row['trials']:,} | {row['how']} | {row['seconds']:.1f} | {rate:,.0f} | {1000 / rate:.2f} | {memory} |"
        )
    same = all(row.get("same_scores", True) for row in results["rows"])
    lines += [
        "",
        f"- Seconds are of complete commands. One for {results['batch_size']} trials takes {start['first']:.1f} s when "
        f"it compiles and {start['cached']:.1f} s when it does not. The pipeline alone is timed without its start.",
        f"- Score files of one process, {PROCESSES} processes and Ray are {'' if same else '**not** '}the same bytes.",
        f"- {listed['trials']:,} listed trials: {listed['listing_seconds']:.1f} s to list, "
        f"{listed['iterating_seconds']:.1f} s to iterate over again, {listed['grown_bytes'] / 2**20:.0f} MiB.",
    ]
    alone = [row for row in results["rows"] if "spent" in row][-1]
    shares = ", ".join(f"{stage} {1000 * spent / alone['trials']:.3f}" for stage, spent in alone["spent"].items())
    lines.append(
        f"- The pipeline alone, in ms a trial of {alone['trials']:,}: {shares}; the rest is listing first and merging."
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:2] == [WORKER]:
        print(json.dumps(WORKERS[sys.argv[2]](*sys.argv[3:])))
        sys.exit()
    sys.exit(main())
