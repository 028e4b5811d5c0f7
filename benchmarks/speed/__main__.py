"""Measure the network's speed, beside PyTorch, ONNX Runtime and OpenVINO.

    python -m benchmarks.speed quick                      # ratios and shares of the machine's peak: under 5 minutes
    python -m benchmarks.speed full                       # everything: half an hour or more
    python -m benchmarks.speed full --only stages cold    # these sections, merged into the results of the others
    python -m benchmarks.speed gpu --minutes 8            # everything on one GPU, the most important first
    python -m benchmarks.speed gpu --smoke                # the same with the tiny network on the CPU: two minutes
    python -m benchmarks.speed render results.json        # report (.md) and picture (.svg) beside the JSON
    python -m benchmarks.speed pages                      # the documentation's pages, from all results files

Run from the root of a checkout with the extra `bench` installed: `make bench-quick`, `make bench`. The network and its
ONNX export are written once (2.6 GB and as much again; minutes) under --work. Leave the machine otherwise idle.

`full` with the full network writes `benchmarks/results/CPU-CORES-cores-jax-VERSION.json` and the documentation's pages.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

from rich.console import Console

from benchmarks.speed import pages, render, sections
from benchmarks.speed.gpu import plan as gpu_plan
from benchmarks.speed.gpu import render as gpu_render
from benchmarks.speed.gpu import run as gpu_run
from benchmarks.speed.machine import describe_machine, lacks_bfloat16
from benchmarks.speed.measure import ROOT, WorkerError
from benchmarks.speed.network import NAMES, Network
from benchmarks.speed.results import Machine, MergeError, Results, Run, file_name

WORK = ROOT / "build" / "benchmarks"

console = Console()


def measure(arguments: argparse.Namespace) -> int:
    quick = arguments.command == "quick"
    wanted = sections.QUICK if quick else sections.FULL
    if unknown := set(arguments.only or ()) - set(wanted):
        console.print(f"unknown section {', '.join(sorted(unknown))}; the sections are {', '.join(wanted)}")
        return 2
    start = time.monotonic()

    def report(activity: str) -> None:
        console.print(f"[dim]{time.monotonic() - start:6.0f} s[/]  {activity}", highlight=False)

    network = Network(arguments.config, arguments.work.resolve())
    report(f"the {network.name} network, in {network.folder}")
    network.write()
    facts = describe_machine() | {"devices": sections.devices_of(network)}
    network, run = replace(network, device=facts["devices"]["platform"]), Run.from_dict(facts)
    results = Results(network.name, Machine.from_dict(facts), sections.flops(network), runs=(run,))
    output: Path = arguments.output or default_output(arguments, results)
    try:
        results = results.at(output)
    except MergeError as error:
        console.print(str(error), highlight=False)
        return 2
    report(f"results will be in {output}" + (", merged with the earlier ones" if results.sections else ""))
    plan = make_plan(arguments, network, report)
    for name, section in wanted.items():
        # Shares need a peak, so the first run measures it in any case.
        if arguments.only and name not in arguments.only and (name != "peak" or name in results.sections):
            continue
        report(f"{name} ...")
        try:
            value = section(plan)
        except WorkerError as error:
            report(f"{name} failed: {error}")
            if name in results.sections:
                continue  # What an earlier run measured is kept.
            value = {"error": str(error)}
        results = results.with_section(name, value, run)
        # After every section, so that an interrupted run keeps what it has.
        results.write(output)
    report(f"results in {output}")
    if not quick:
        write(output)
    for warning in render.load_warnings(results):
        console.print(f"[bold]{warning}[/]", highlight=False)
    for table in render.tables(results):
        console.print(table.rich())
    return 0


def make_plan(arguments: argparse.Namespace, network: Network, report: Callable[[str], None]) -> sections.Plan:
    quick = arguments.command == "quick"
    plan = sections.Plan(
        network=network,
        peers=tuple(arguments.peers or (sections.QUICK_PEERS if quick else sections.FULL_PEERS)),
        rounds=arguments.rounds or (5 if quick else 15),
        seconds=arguments.seconds or (12 if quick else 120),
        report=report,
        bfloat16=not (quick and network.device == "cpu" and lacks_bfloat16()),
    )
    if not plan.bfloat16:
        report("ours in bfloat16 is left out: this CPU has no instructions for it")
    return plan


def default_output(arguments: argparse.Namespace, results: Results) -> Path:
    """Where the complete benchmark of the full network is committed; in the work directory for other results."""
    name = f"{file_name(results.machine, results.jax)}.json"
    if (arguments.command, results.network) == ("full", "full"):
        return pages.RESULTS / name
    return arguments.work.resolve() / f"{arguments.command}-{results.network}-{name}"


def measure_gpu(arguments: argparse.Namespace) -> int:
    known = [section.name for section in gpu_plan.sections(smoke=arguments.smoke)]
    if unknown := set(arguments.only or ()) - set(known):
        print(f"unknown section {', '.join(sorted(unknown))}; the sections are {', '.join(known)}")
        return 2
    output: Path = arguments.output or arguments.work / ("gpu-smoke.json" if arguments.smoke else "gpu.json")
    results = gpu_run.run(
        output=output,
        work=arguments.work,
        minutes=arguments.minutes,
        smoke=arguments.smoke,
        only=arguments.only,
        commit=arguments.commit,
    )
    print()
    print(gpu_render.summary(results))
    print(f"results in {output}, report in {output.with_suffix('.md')}")
    return 0


def write(path: Path) -> None:
    """The report and the picture: beside the JSON, or in the documentation for a file that is committed."""
    report, picture = path.with_suffix(".md"), path.with_suffix(".svg")
    values = json.loads(path.read_text())
    if values.get("mode") == "gpu":
        report.write_text(gpu_render.report(values))
        console.print(f"report in {report}")
        return
    results = Results.read(path)
    if importlib.util.find_spec("matplotlib") and render.picture(results, picture):
        console.print(f"picture in {picture}")
    if path.parent == pages.RESULTS:
        pages.write()
    else:
        report.write_text(render.report(results))
        console.print(f"report in {report}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("quick", "full"):
        options = commands.add_parser(command)
        options.add_argument("--config", choices=NAMES, default="full", help="which network; tiny for a dry run")
        options.add_argument("--work", type=Path, default=WORK, help="directory of the network's files")
        options.add_argument("--output", type=Path, help="the JSON to write, or to merge into")
        options.add_argument(
            "--only",
            nargs="+",
            metavar="SECTION",
            help=f"of {', '.join(sections.FULL)}; the others keep theirs",
        )
        options.add_argument(
            "--peers",
            nargs="+",
            choices=sections.FULL_PEERS,
            metavar="PEER",
            help=f"of {', '.join(sections.FULL_PEERS)}; the others keep their rows",
        )
        options.add_argument("--rounds", type=int, help="at most so many rounds a comparison")
        options.add_argument("--seconds", type=float, help="no further round of a comparison after this time")
    gpu = commands.add_parser("gpu")
    gpu.add_argument("--minutes", type=float, default=8, help="until the last measurement is ended")
    gpu.add_argument("--smoke", action="store_true", help="every section with the tiny network on the CPU")
    gpu.add_argument("--work", type=Path, default=WORK, help="directory of the network's files (2.6 GB)")
    gpu.add_argument("--output", type=Path, help="the JSON to write; otherwise in the work directory")
    gpu.add_argument("--only", nargs="+", metavar="SECTION", help="these alone")
    gpu.add_argument("--commit", help="that is measured, for a copy of the tree without git")
    commands.add_parser("render").add_argument("results", type=Path)
    commands.add_parser("pages")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    # Ended from outside like interrupted at the terminal: the workers are ended on the way out.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if arguments.command == "render":
            write(arguments.results)
            return 0
        if arguments.command == "pages":
            pages.write()
            return 0
        return measure_gpu(arguments) if arguments.command == "gpu" else measure(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted; the workers are ended, and completed sections are in the JSON")
        return 130


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
