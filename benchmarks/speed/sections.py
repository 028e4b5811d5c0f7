"""What is measured, one function for each section: plain values for the JSON, which workers measure."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.cold import cold_starts
from benchmarks.speed.contenders import CONTENDERS
from benchmarks.speed.flops import clip_flops
from benchmarks.speed.measure import ROOT, Remote, WorkerError, alone, in_turn, loaded
from benchmarks.speed.network import Network
from benchmarks.speed.peak import LIBRARIES
from tests.golden.recipe import GOLDEN

REFERENCE = "torch-float32"
ORACLE = "torch-as-written"
# What the logits are compared with.
ORACLES = (ORACLE, "transformers-encoder")
SECONDS = (1, 2, 4, 8)  # clip lengths
DEVICES = (1, 2, 4)


@dataclass(frozen=True)
class Plan:
    """How much to measure. Every comparison ends after `rounds`, or once it has taken `seconds`."""

    network: Network
    peers: tuple[str, ...]
    rounds: int
    seconds: float
    report: Callable[[str], None]
    bfloat16: bool = True
    batches: tuple[int, ...] = (1, 8)
    sweep: tuple[int, ...] = (1, 2, 4, 8, 16)

    @property
    def ours(self) -> tuple[str, ...]:
        tf32 = ("ours-tf32",) if self.network.device == "gpu" else ()
        return ("ours-float32", *tf32, *(("ours-bfloat16", "ours-int8") if self.bfloat16 else ()))

    @property
    def samples(self) -> int:
        return self.network.config.num_samples


def devices_of(network: Network) -> dict[str, Any]:
    """What JAX computes on here, by a process that ends again."""
    with Remote(network) as worker:
        return worker.request("probe", probe="devices")["result"]


def probe(plan: Plan, name: str, env: dict[str, str] | None = None, **arguments: Any) -> Any:
    with Remote(plan.network, env=env) as worker:
        return worker.request("probe", probe=name, **arguments)["result"]


def flops(network: Network) -> dict[str, int]:
    config, samples = network.config, network.config.num_samples
    return {"clip": clip_flops(config, samples), "encoder": clip_flops(config, samples, encoder_only=True)}


def peak(plan: Plan) -> dict[str, dict[str, float]]:
    """Operations a second of the fastest large product, by number format and library; of the libraries at hand."""
    rates: dict[str, dict[str, float]] = {}
    for library in LIBRARIES if plan.network.device == "cpu" else ("XLA",):
        try:
            found = probe(plan, "peak", library=library)
        except WorkerError as error:
            plan.report(f"no products by {library}: {error}")
            continue
        for kind, rate in found.items():
            rates.setdefault(kind, {})[library] = rate
    return rates


def comparisons(plan: Plan) -> list[dict[str, Any]]:
    """Each peer beside ours, at each batch size; ours stay loaded, the peers come and go."""
    return _beside(plan, plan.ours, plan.peers)


def encoders(plan: Plan) -> list[dict[str, Any]]:
    return _beside(plan, ("ours-encoder",), ("transformers-encoder",))


def _beside(plan: Plan, ours: Sequence[str], peers: Iterable[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    reference: dict[int, np.ndarray] = {}
    with ExitStack() as stack:
        workers, broken = _load(plan, ours, stack)
        for peer in peers:
            with ExitStack() as peer_stack:
                peer_workers, why = _load(plan, [peer], peer_stack)
                if not peer_workers:
                    found.append({"peer": peer, "batch": None, "seconds": {}, "errors": why})
                    continue
                for batch in plan.batches:
                    plan.report(f"{', '.join([*ours, peer])}: batch {batch}")
                    row = _time(plan, [*workers, *peer_workers], batch, plan.samples)
                    outputs = _outputs([*workers, *peer_workers], row)
                    if peer in ORACLES and peer in outputs:
                        reference.setdefault(batch, outputs[peer])
                    if batch in reference:
                        row["differences"] = {
                            name: float(np.max(np.abs(value - reference[batch]))) for name, value in outputs.items()
                        }
                    found.append({"peer": peer, **row, "errors": broken | row["errors"]})
    return found


def sweep(plan: Plan) -> list[dict[str, Any]]:
    """Ours over batch sizes."""
    with ExitStack() as stack:
        workers, broken = _load(plan, plan.ours, stack)
        rows = []
        for batch in plan.sweep:
            plan.report(f"batch size {batch}")
            row = _time(plan, workers, batch, plan.samples)
            rows.append({**row, "errors": broken | row["errors"]})
        return rows


def lengths(plan: Plan) -> list[dict[str, Any]]:
    """Ours and eager PyTorch over clip lengths, one clip at a time."""
    config = plan.network.config
    with ExitStack() as stack:
        workers, broken = _load(plan, ("ours-float32", "ours-bfloat16", REFERENCE), stack)
        rows = []
        for seconds in SECONDS:
            plan.report(f"clips of {seconds} s")
            samples = seconds * config.sample_rate
            row = _time(plan, workers, 1, samples)
            rows.append({**row, "errors": broken | row["errors"], "flops": clip_flops(config, samples)})
        return rows


def devices(plan: Plan) -> list[dict[str, Any]]:
    """The Scorer over 1, 2 and 4 devices: the first GPUs, or a CPU that XLA presents as several."""
    rows: list[dict[str, Any]] = []
    for count in DEVICES:
        plan.report(f"{count} devices")
        if plan.network.device == "gpu":
            env = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(count)))}
        else:
            env = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
        try:
            row = probe(plan, "scorer", env, precision="float32", batch=8, rounds=min(plan.rounds, 5))
        except WorkerError as error:
            rows.append({"asked": count, "error": str(error)})
            continue
        if row["devices"] == count:
            rows.append({"asked": count, **row})
        else:
            rows.append({"asked": count, "error": f"this machine has {row['devices']}"})
    return rows


def stages(plan: Plan) -> list[dict[str, Any]]:
    return _parts(plan, "stages")


def operations(plan: Plan) -> list[dict[str, Any]]:
    return _parts(plan, "operations")


def _parts(plan: Plan, name: str) -> list[dict[str, Any]]:
    """The parts of the network's time that a probe of this name finds, in each precision and batch size."""
    rows: list[dict[str, Any]] = []
    for precision in (contender.removeprefix("ours-") for contender in plan.ours):
        for batch in plan.batches:
            plan.report(f"{name} in {precision}, batch {batch}")
            row: dict[str, Any] = {"precision": precision, "batch": batch}
            try:
                row[name] = probe(plan, name, precision=precision, batch=batch, rounds=min(plan.rounds, 7))
            except WorkerError as error:
                row["error"] = str(error)
            rows.append(row)
    return rows


def one_by_one(plan: Plan) -> list[dict[str, Any]]:
    """Load, compile, first call, steady time, memory: one contender at a time."""
    rows = []
    for name in dict.fromkeys((*plan.ours, *plan.peers)):
        plan.report(f"{name} alone")
        if reason := _impossible(plan, name):
            rows.append({"contender": name, "error": reason})
        else:
            rows.append(alone(plan.network, name, (1, 4, 8), min(plan.rounds, 5)))
    return rows


def cold(plan: Plan) -> list[dict[str, Any]]:
    plan.report("cold starts")
    return cold_starts(plan.network, 3)


def accuracy(plan: Plan) -> list[dict[str, Any]]:
    """Scores of the example clips in float64 and below, by the tiny, the demo and the measured network."""
    folder = ROOT / "examples" / "corpus"
    with (folder / "reference.csv").open(newline="") as file:
        names = [row["path"] for row in csv.DictReader(file)]
    golden = json.loads((GOLDEN / "trials" / "expected.json").read_text())["networks"]
    known = {str(GOLDEN / "tiny"): "tiny", "demo": None, "network": plan.network.name}
    rows = []
    for model, network in known.items():
        row: dict[str, Any] = {"model": Path(model).name, "clips": names, "scores": {}, "errors": {}}
        reference = {Path(trial["path"]).name: trial["logits_float64"][1] for trial in golden.get(network, ())}
        row["reference"] = [reference.get(Path(name).name) for name in names]
        for precision in ("float64", *(name.removeprefix("ours-") for name in plan.ours)):
            plan.report(f"scores of {model} in {precision}")
            try:
                clips = [str(folder / name) for name in names]
                row["scores"][precision] = probe(plan, "scores", model=model, precision=precision, clips=clips)
            except WorkerError as error:
                row["errors"][precision] = str(error)
        rows.append(row)
    return rows


def _time(plan: Plan, workers: Sequence[Remote], batch: int, samples: int) -> dict[str, Any]:
    return in_turn(workers, batch, samples, rounds=plan.rounds, seconds=plan.seconds)


def _outputs(workers: Sequence[Remote], row: dict[str, Any]) -> dict[str, np.ndarray]:
    shape = {"batch": row["batch"], "samples": row["samples"]}
    return {w.name: np.array(w.request("output", **shape)["output"]) for w in workers if w.name in row["seconds"]}


def _impossible(plan: Plan, name: str) -> str | None:
    platforms = CONTENDERS[name].platforms
    return None if plan.network.device in platforms else f"not measured: runs on {', '.join(platforms)} only"


def _load(plan: Plan, names: Iterable[str], stack: ExitStack) -> tuple[list[Remote], dict[str, str]]:
    """Workers for those that can run here, kept alive by `stack`, and the reasons of the others."""
    workers, errors = [], {}
    for name in names:
        if reason := _impossible(plan, name):
            errors[name] = reason
            continue
        plan.report(f"loading {name}")
        try:
            workers.append(stack.enter_context(loaded(plan.network, name)))
        except WorkerError as error:
            errors[name] = str(error)
    return workers, errors


QUICK: dict[str, Callable[[Plan], Any]] = {
    "peak": peak,
    "comparisons": comparisons,
}
FULL: dict[str, Callable[[Plan], Any]] = {
    **QUICK,
    "encoders": encoders,
    "sweep": sweep,
    "stages": stages,
    "operations": operations,
    "alone": one_by_one,
    "cold": cold,
    "lengths": lengths,
    "devices": devices,
    "accuracy": accuracy,
}
FULL_PEERS = (
    ORACLE,  # the first, since the others' logits are compared with its
    *(
        name
        for name, contender in CONTENDERS.items()
        if name != ORACLE and not name.startswith("ours-") and not contender.encoder_only
    ),
)
QUICK_PEERS = tuple(
    name
    for name in FULL_PEERS
    if name in (ORACLE, "onnxruntime-int8", "openvino-float32", "openvino-bfloat16", "openvino-int8")
)
