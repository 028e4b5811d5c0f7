"""Memory of one training step on each device, by XLA's own analysis of the compiled program; nothing is allocated.

    python -m benchmarks.memory                                  # XLS-R 300M, 1B and 2B on 1, 2, 4 and 8 devices
    python -m benchmarks.memory --encoders 300M --devices 1 4    # fewer

Run from the root of a checkout. The devices are forced devices of the CPU, so this is the analysis of XLA's CPU
compiler: arguments (weights, optimiser, batch) are the same on every platform, temporaries are not. They are measured
in networks of few layers and extrapolated linearly, since programs of 48 layers take long to compile. The back-end is
`pool+linear`: its weights, like those of the others (2 MB), do not matter beside the encoder's.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.speed.machine import describe_machine
from spectra_jax.model.config import EncoderConfig, SpectraConfig
from spectra_jax.training.config import TrainingConfig
from spectra_jax.training.lora import init
from spectra_jax.training.sharding import Layout
from spectra_jax.training.step import (
    Examples,
    LearningRates,
    Network,
    first_state,
    make_optimizer,
    make_step,
)

RESULTS = Path(__file__).parent / "results"
WORKER = "--worker"
MIB = 2**20
MEMORY_FLAGS = "--xla_cpu_enable_concurrency_optimized_scheduler=false --xla_disable_hlo_passes=cse"

ENCODERS: dict[str, dict[str, int]] = {
    "300M": {"num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096},
    "1B": {"num_hidden_layers": 48, "hidden_size": 1280, "intermediate_size": 5120},
    "2B": {"num_hidden_layers": 48, "hidden_size": 1920, "intermediate_size": 7680},
}
"""The configurations of XLS-R (transformers' `facebook/wav2vec2-xls-r-*`), all with 16 heads."""

DEPTHS = {"300M": (4, 8), "1B": (2, 4), "2B": (2, 4)}
"""Layers of the networks that are compiled. In shallower ones the convolutions need most of the memory."""

LAYOUTS: dict[str, dict[str, Any]] = {
    "replicated": {},
    "fsdp": {"sharding": "fsdp"},
    "LoRA, replicated": {"lora": {}},
    "LoRA, fsdp": {"lora": {}, "sharding": "fsdp"},
}


@dataclass(frozen=True)
class Case:
    """What is measured: one layout, with `remat`."""

    encoder: str
    layout: str
    devices: int
    batch_size: int


@dataclass(frozen=True)
class Measurement:
    """Memory of one step on each device.

    Attributes:
      case: what was measured.
      arguments: bytes of weights, optimiser state and batch, with all layers of the encoder.
      measured: bytes of temporaries (activations, gradients, gathered weights and the rest) by number of layers.
      temporaries: the same, extrapolated linearly to all layers of the encoder.
    """

    case: Case
    arguments: int
    measured: dict[int, int]
    temporaries: int


class Program:
    """One training step of an encoder with this many layers, for the first devices of this process."""

    def __init__(self, case: Case, layers: int):
        encoder = EncoderConfig.from_dict(ENCODERS[case.encoder] | {"num_hidden_layers": layers})
        self._config = SpectraConfig(encoder=encoder, back_end="pool+linear")
        options = {"batch_size": case.batch_size, "remat": True, **LAYOUTS[case.layout]}
        self._training = training = TrainingConfig.from_dict(options)
        self._layout = layout = Layout.of(training.sharding, jax.devices()[: case.devices])
        network, self._optimizer = Network(self._config, training.precision), make_optimizer(training)
        leaves = dict(network.shapes)
        if (adapters := training.lora) is not None:
            leaves |= jax.eval_shape(lambda leaves: init(leaves, adapters, jax.random.key(0)), leaves)
        state, frozen = jax.eval_shape(
            lambda leaves: first_state(network, leaves, training, self._optimizer, layout), leaves
        )
        windows = (1, case.batch_size, self._config.num_samples)
        examples = Examples(_shape(windows, np.float32), _shape(windows[:2], np.int32), _shape(windows[:2], np.float32))
        rates = LearningRates(*[_shape((), np.float32)] * 2)
        key = _shape((), jax.random.key(0, impl="rbg").dtype)
        self._arguments = (
            *_with_shardings((state, frozen), layout.shardings((state, frozen))),
            *_with_shardings((examples, rates, key), (layout.by_clip(axis=1), layout.replicated, layout.replicated)),
        )

    def arguments(self) -> int:
        """Bytes of the arguments on each device. Nothing is compiled."""
        arrays = [leaf for leaf in jax.tree.leaves(self._arguments[:3]) if leaf.sharding is not None]
        return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in arrays)

    def temporaries(self) -> int:
        """Bytes of the temporaries on each device, of the compiled program."""
        step: Any = make_step(self._config, self._training, self._optimizer, self._layout)
        size: int = step.lower(*self._arguments).compile().memory_analysis().temp_size_in_bytes
        return size


def _shape(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def _with_shardings(tree: Any, shardings: Any) -> Any:
    """The shapes in the tree with a sharding for each, or for each subtree."""
    shardings = jax.tree.broadcast(shardings, tree)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree, shardings
    )


def measure(case: Case) -> Measurement:
    """Compile the step at two depths."""
    few, more = DEPTHS[case.encoder]
    layers = ENCODERS[case.encoder]["num_hidden_layers"]
    measured = {depth: Program(case, depth).temporaries() for depth in (few, more)}
    per_layer = (measured[more] - measured[few]) / (more - few)
    temporaries = round(measured[more] + per_layer * (layers - more))
    return Measurement(case, Program(case, layers).arguments(), measured, temporaries)


def measure_in_process(case: Case) -> dict[str, Any]:
    """`measure` in a process with forced devices of the CPU; as JSON."""
    # Machine code has no part in the analysis, and takes longest to optimise. The default scheduler of the CPU prefers
    # concurrency to memory. Its pass `cse` merges the gathering of a weight in the forward and in the backward pass, so
    # that all gathered weights are stored between the two; compilers that keep `remat`'s barriers do not.
    flags = f"--xla_force_host_platform_device_count={case.devices} --xla_backend_optimization_level=0 {MEMORY_FLAGS}"
    command = [sys.executable, "-m", "benchmarks.memory", WORKER, json.dumps(asdict(case))]
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "Memory of one training step on each device in MiB, with `remat`, by XLA's CPU compiler; nothing was run.",
        "Temporaries are extrapolated linearly from the two numbers of layers in `compiled` to all layers of the",
        "encoder, which is too little where the convolutions need the most memory of the compiled networks. Flags:",
        f"`{MEMORY_FLAGS}`. The back-end is `pool+linear`.",
        "",
        "| XLS-R | layers | compiled | layout | devices | batch | arguments | temporaries | both |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        case, sizes = row["case"], (row["arguments"], row["temporaries"], row["arguments"] + row["temporaries"])
        figures = " | ".join(f"{size / MIB:,.0f}" for size in sizes)
        layers = ENCODERS[case["encoder"]]["num_hidden_layers"]
        compiled = " and ".join(map(str, row["measured"]))
        what = (
            f"{case['encoder']} | {layers} | {compiled} | {case['layout']} | {case['devices']} | {case['batch_size']}"
        )
        lines.append(f"| {what} | {figures} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=["replicated", "fsdp"])
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "memory", metavar="NAME")
    options = parser.parse_args()
    # On one device there is nothing to shard.
    cases = [
        Case(encoder, layout, devices, options.batch_size)
        for encoder, devices, layout in product(options.encoders, options.devices, options.layouts)
        if devices > 1 or "fsdp" not in layout
    ]
    rows: dict[int, dict[str, Any]] = {}
    with ThreadPoolExecutor(options.processes) as pool:
        futures = {pool.submit(measure_in_process, case): index for index, case in enumerate(cases)}
        for future in as_completed(futures):
            rows[futures[future]] = future.result()
            found = [rows[index] for index in sorted(rows)]
            # After each, since the table takes long.
            results = {"machine": describe_machine(), "flags": MEMORY_FLAGS, "rows": found}
            options.output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
            options.output.with_suffix(".md").write_text(table(found))
            print(rows[futures[future]], flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == [WORKER]:
        print(json.dumps(asdict(measure(Case(**json.loads(sys.argv[2]))))))
    else:
        main()
