"""Memory of one training step on each device, by XLA's own analysis of the compiled program; nothing is allocated.

    python -m benchmarks.memory                                  # XLS-R 300M, 1B and 2B; hours on 2 cores
    python -m benchmarks.memory --encoders 300M --devices 1 4    # fewer

Run from the root of a checkout. The devices are forced devices of the CPU, so this is the analysis of XLA's CPU
compiler: arguments (weights, optimiser, batch) are the same on every platform, temporaries are not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
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

ENCODERS: dict[str, dict[str, int]] = {
    "300M": {"num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096},
    "1B": {"num_hidden_layers": 48, "hidden_size": 1280, "intermediate_size": 5120},
    "2B": {"num_hidden_layers": 48, "hidden_size": 1920, "intermediate_size": 7680},
}
"""The configurations of XLS-R (transformers' `facebook/wav2vec2-xls-r-*`), all with 16 heads."""

LAYOUTS: dict[str, dict[str, Any]] = {
    "replicated": {},
    "fsdp": {"sharding": "fsdp"},
    "LoRA, replicated": {"lora": {}},
    "LoRA, fsdp": {"lora": {}, "sharding": "fsdp"},
}


@dataclass(frozen=True)
class Measurement:
    """Memory of one step on each device.

    Attributes:
      encoder, layers, layout, remat, devices, batch_size: what was compiled.
      arguments: bytes of weights, optimiser state, statistics and batch.
      temporaries: bytes of activations, gradients, gathered weights and the rest.
      compile_seconds: to trace and compile.
    """

    encoder: str
    layers: int
    layout: str
    remat: bool
    devices: int
    batch_size: int
    arguments: int
    temporaries: int
    compile_seconds: float


def measure(encoder: str, layers: int, layout: str, remat: bool, batch_size: int) -> Measurement:
    """Compile one step for all devices of this process."""
    sizes = ENCODERS[encoder] | {"num_hidden_layers": layers}
    config = SpectraConfig(encoder=EncoderConfig.from_dict(sizes))
    training = TrainingConfig.from_dict({"batch_size": batch_size, "remat": remat, **LAYOUTS[layout]})
    devices = jax.devices()
    arrays = Layout.of(training.sharding, devices)
    network, optimizer = Network(config, training.precision), make_optimizer(training)
    key = jax.ShapeDtypeStruct((), jax.random.key(0, impl="rbg").dtype)
    leaves = dict(network.shapes)
    if training.lora is not None:
        config_of_adapters = training.lora
        leaves |= jax.eval_shape(lambda leaves: init(leaves, config_of_adapters, jax.random.key(0)), leaves)
    state, frozen = jax.eval_shape(lambda leaves: first_state(network, leaves, training, optimizer, arrays), leaves)

    def struct(shape: tuple[int, ...], dtype: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    def placed(tree: Any) -> Any:
        return jax.tree.map(lambda leaf, at: struct(leaf.shape, leaf.dtype, at), tree, arrays.shardings(tree))

    by_clip, everywhere = arrays.by_clip(axis=1), arrays.replicated
    examples = Examples(
        struct((1, batch_size, config.num_samples), np.float32, by_clip),
        struct((1, batch_size), np.int32, by_clip),
        struct((1, batch_size), np.float32, by_clip),
    )
    rates = LearningRates(*[struct((), np.float32, everywhere)] * 2)
    start = time.monotonic()
    step: Any = make_step(config, training, optimizer, arrays)
    compiled = step.lower(placed(state), placed(frozen), examples, rates, struct((), key.dtype, everywhere)).compile()
    analysis = compiled.memory_analysis()
    return Measurement(
        encoder, layers, layout, remat, len(devices), batch_size,
        analysis.argument_size_in_bytes, analysis.temp_size_in_bytes, round(time.monotonic() - start, 1),
    )  # fmt: skip


def measure_in_process(devices: int, *given: Any) -> Measurement:
    """`measure` in a process with this many forced devices of the CPU."""
    # Machine code has no part in the analysis, and takes longest to optimise.
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    command = [sys.executable, "-m", "benchmarks.memory", WORKER, json.dumps(given)]
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return Measurement(**json.loads(done.stdout))


def table(rows: Sequence[Measurement]) -> str:
    """The rows as Markdown."""
    lines = [
        "Memory of one training step on each device in MiB, by XLA's CPU compiler; nothing was run or allocated.",
        "",
        "| XLS-R | layers | layout | remat | devices | batch | arguments | temporaries | both |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        sizes = (row.arguments, row.temporaries, row.arguments + row.temporaries)
        figures = " | ".join(f"{size / MIB:,.0f}" for size in sizes)
        remat = "on" if row.remat else "off"
        what = f"{row.encoder} | {row.layers} | {row.layout} | {remat} | {row.devices} | {row.batch_size}"
        lines.append(f"| {what} | {figures} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--layers", type=int, help="fewer layers than the encoder has")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--remat", choices=("on", "off", "both"), default="both")
    parser.add_argument("--output", type=Path, default=RESULTS / "memory", metavar="NAME")
    options = parser.parse_args()
    rows: list[Measurement] = []
    recomputes = {"on": [True], "off": [False], "both": [True, False]}[options.remat]
    for encoder, layout, remat, devices in product(options.encoders, options.layouts, recomputes, options.devices):
        layers = options.layers or ENCODERS[encoder]["num_hidden_layers"]
        rows.append(measure_in_process(devices, encoder, layers, layout, remat, options.batch_size))
        # After each row, since the table takes hours.
        results = {"machine": describe_machine(), "rows": [asdict(row) for row in rows]}
        options.output.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n")
        options.output.with_suffix(".md").write_text(table(rows))
        print(rows[-1], flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == [WORKER]:
        print(json.dumps(asdict(measure(*json.loads(sys.argv[2])))))
    else:
        main()
