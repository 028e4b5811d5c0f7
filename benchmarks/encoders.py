"""Speech encoders alone, beside transformers: wav2vec2-base, XLS-R 300M and WavLM-base with random weights.

    python -m benchmarks.encoders                                # every encoder; tens of minutes on 2 cores
    python -m benchmarks.encoders --encoders wavlm-base --rounds 5

Run from the root of a checkout with the extra `bench` installed, on a machine that is otherwise idle. Each network is a
directory written by transformers, which all contenders read. Each contender has a process of its own; one call of each
makes a round. Before anything is timed, the last hidden states are held to those of eager PyTorch in float32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import Worker
from benchmarks.speed.contenders import cores
from benchmarks.speed.machine import describe_machine
from benchmarks.speed.measure import WorkerError
from benchmarks.speed.results import cpu_kind

RESULTS = Path(__file__).parent / "results" / "encoders"
SAMPLE_RATE = 16_000

# What differs from the defaults of `Wav2Vec2Config` and `WavLMConfig`, which are the base models.
_SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
_XLSR: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2-base": ("wav2vec2", {}),
    "xls-r-300m": ("wav2vec2", _XLSR),
    "wavlm-base": ("wavlm", {}),
    "small": ("wavlm", _SMALL),
}
FULL_SIZE = ("wav2vec2-base", "xls-r-300m", "wavlm-base")

# The largest root mean square of the difference to eager float32, as a share of the output's own.
TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2}

Run = Callable[[np.ndarray], np.ndarray]


def load_ours(directory: Path, precision: str) -> Run:
    import jax
    from flax import nnx

    from spectra_jax.encoders import from_pretrained

    graph, weights = nnx.split(from_pretrained(directory, precision))
    forward = jax.jit(lambda weights, x: nnx.merge(graph, weights)(x))
    return lambda x: np.asarray(forward(weights, x))


def load_eager(directory: Path, precision: str) -> Run:
    return _run_torch(_read_torch(directory), precision)


def load_compiled(directory: Path, precision: str) -> Run:
    import torch

    return _run_torch(torch.compile(_read_torch(directory), dynamic=False), precision)


def _read_torch(directory: Path) -> Any:
    import torch
    from transformers import AutoModel

    torch.set_num_threads(cores())
    return AutoModel.from_pretrained(directory).eval()


def _run_torch(model: Any, precision: str) -> Run:
    import torch

    def run(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            hidden: np.ndarray = model(torch.from_numpy(x)).last_hidden_state.float().numpy()
            return hidden

    return run


REFERENCE = "transformers, eager"
CONTENDERS: dict[str, Callable[[Path, str], Run]] = {
    REFERENCE: load_eager,
    "spectra-jax": load_ours,
    "transformers, torch.compile": load_compiled,
}


@dataclass(frozen=True)
class Row:
    """The calls of one contender for one batch of one encoder.

    Attributes:
      difference: root mean square of the difference to `REFERENCE` in float32, as a share of the output's own.
      first_seconds: of the first call, which compiles.
      seconds: of each further call, in turn with the other contenders.
      problem: why the contender was not timed; None if it was.
    """

    encoder: str
    precision: str
    batch: int
    contender: str
    difference: float | None = None
    first_seconds: float | None = None
    seconds: list[float] | None = None
    problem: str | None = None


def write_encoder(name: str, directory: Path) -> Path:
    """A network with random weights, as transformers writes it."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2Model, WavLMConfig, WavLMModel

    kind, options = ENCODERS[name]
    torch.manual_seed(0)
    model = WavLMModel(WavLMConfig(**options)) if kind == "wavlm" else Wav2Vec2Model(Wav2Vec2Config(**options))
    model.save_pretrained(directory)
    return directory


def waveforms(batch: int, seconds: float) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(batch, int(seconds * SAMPLE_RATE))).astype(np.float32)


def relative_difference(output: np.ndarray, reference: np.ndarray) -> float:
    """The root mean square of the difference, as a share of that of the reference."""
    scale = np.sqrt(np.mean(np.square(reference, dtype=np.float64)))
    return float(np.sqrt(np.mean(np.square(output.astype(np.float64) - reference))) / scale)


def measure(
    name: str, directory: Path, precision: str, batches: Sequence[int], *, seconds: float, rounds: int, limit: float
) -> list[Row]:
    """Time all contenders in turn. One that fails, or whose first call takes longer than `limit` seconds, is not timed.

    Raises:
      ValueError: an output differs by more than its tolerance.
    """
    return [
        row
        for batch in batches
        for row in _measure_batch(name, directory, precision, waveforms(batch, seconds), rounds=rounds, limit=limit)
    ]


def _measure_batch(
    name: str, directory: Path, precision: str, x: np.ndarray, *, rounds: int, limit: float
) -> list[Row]:
    with Worker(REFERENCE, CONTENDERS[REFERENCE], directory, "float32") as reference:
        expected = reference.call(x).output
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(contender, load, directory, precision)) for contender, load in CONTENDERS.items()
        ]
        started = {
            worker: _first_call(worker, x, expected, Row(name, precision, len(x), worker.name), limit)
            for worker in workers
        }
        times: dict[str, list[float]] = {worker.name: [] for worker, row in started.items() if row.problem is None}
        for _ in range(rounds):
            for worker in workers:
                if worker.name in times:
                    times[worker.name].append(worker.call(x).seconds)
    return [replace(row, seconds=times.get(row.contender)) for row in started.values()]


def _first_call(worker: Worker, x: np.ndarray, expected: np.ndarray, row: Row, limit: float) -> Row:
    """The row with the results of the first call, which compiles, or with the reason why there are none."""
    try:
        call = worker.call(x, limit=limit)
    except (TimeoutError, WorkerError) as error:
        return replace(row, problem=str(error))
    difference = relative_difference(call.output, expected)
    if not difference <= TOLERANCES[row.precision]:
        raise ValueError(
            f"{row.contender}, {row.encoder} in {row.precision}: the output differs from {REFERENCE} in float32 by "
            f"{difference:.1e} of its size, more than {TOLERANCES[row.precision]:.0e}"
        )
    return replace(row, difference=difference, first_seconds=call.seconds)


def render(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    machine = results["machine"]
    packages = machine["packages"]
    lines = [
        f"Speech encoders with random weights, clips of {results['clip_seconds']:g} s, on {machine['cores']} cores of "
        f"{machine['cpu']} ({cpu_kind(machine['cpu'], machine['cpu_family_model'])}); torch {packages['torch']}, "
        f"transformers {packages['transformers']}, jax {packages['jax']}. "
        "Medians of interleaved calls; written by `python -m benchmarks.encoders` from the JSON beside this file.",
        "",
        f"| encoder | precision | batch | contender | ms | times {REFERENCE} | first call, s | difference |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    rows = [Row(**row) for row in results["rows"]]
    medians = {
        (row.encoder, row.precision, row.batch, row.contender): statistics.median(row.seconds)
        for row in rows
        if row.seconds is not None
    }
    for row in rows:
        start = f"| {row.encoder} | {row.precision} | {row.batch} | {row.contender} |"
        if row.seconds is None:
            lines.append(f"{start} {row.problem} | | | |")
            continue
        median = medians[row.encoder, row.precision, row.batch, row.contender]
        eager = medians.get((row.encoder, row.precision, row.batch, REFERENCE))
        lines.append(
            f"{start} {1000 * median:,.1f} | {'' if eager is None else f'{median / eager:.2f}'} | "
            f"{row.first_seconds:.1f} | {row.difference:.0e} |"
        )
    lines += [
        "",
        f"The difference is to {REFERENCE} in float32: the root mean square, as a share of the output's own. In "
        "bfloat16 PyTorch runs under autocast.",
    ]
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=FULL_SIZE)
    parser.add_argument("--precisions", nargs="+", choices=TOLERANCES, default=list(TOLERANCES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each clip")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--limit", type=float, default=120.0, help="seconds after which a first call is given up")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="NAME", help="NAME.json and NAME.md")
    options = parser.parse_args(words)
    rows: list[Row] = []
    machine = describe_machine()
    for name in options.encoders:
        with tempfile.TemporaryDirectory() as temporary:
            directory = write_encoder(name, Path(temporary) / name)
            for precision in options.precisions:
                print(f"{name}, {precision} ...", file=sys.stderr)
                rows += measure(
                    name,
                    directory,
                    precision,
                    options.batches,
                    seconds=options.seconds,
                    rounds=options.rounds,
                    limit=options.limit,
                )
        results = {"machine": machine, "clip_seconds": options.seconds, "rows": [asdict(row) for row in rows]}
        # After every encoder, so that an interrupted run keeps what it has.
        options.output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
        options.output.with_suffix(".md").write_text(render(results))
    print(render(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
