"""One training step of spectra-jax beside PyTorch: the same network, weights, batch and optimiser; time and memory.

    python -m benchmarks.training_step                       # the small and the full network: a quarter of an hour
    python -m benchmarks.training_step --networks tiny       # a minute

Run from the root of a checkout with the extra `bench` installed, on a machine that is otherwise idle. Each contender
has a process of its own; one step of each makes a round. Every contender takes the same first steps from the same
weights, and nothing is timed unless their losses and gradient norms agree with those of eager PyTorch in float32.

A step is the forward pass with batch statistics and without dropout, the mean cross entropy, the backward pass,
clipping by the global norm, and AdamW with one learning rate for the encoder and one for the layers after it. On both
sides the kernel of the positional convolution is one weight, as it is in spectra-jax. The feature extractor of the full
network is frozen, as it usually is in fine-tuning. In bfloat16 the encoder runs in bfloat16 (PyTorch: under autocast);
the weights, the layers after the encoder and the optimiser stay in float32.

`--float64` compares instead the loss and the gradient of every weight in float64, without timing anything. There they
agree to about 1e-13, which shows that both sides compute the same function. In float32 gradients were seen to differ by
2e-4; a value next to a kink (of SELU, of a maximum, between two ranks of a graph pool) may be on either side of it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import safe_open

from benchmarks.processes import Worker
from benchmarks.speed.contenders import cores
from benchmarks.speed.machine import describe_machine
from benchmarks.speed.measure import ROOT, WorkerError
from benchmarks.speed.network import NAMES, Network, windows
from benchmarks.speed.results import cpu_kind, machine_name

RESULTS = Path(__file__).parent / "results"
SAMPLE_RATE = 16_000

# A hundredth of the usual ones, which take no other time. Adam moves a weight by about the learning rate even where its
# gradient is rounding alone: with those, the third loss of the tiny network with clips of 2.5 s differed by 0.6 %.
LEARNING_RATE, ENCODER_LEARNING_RATE = 1e-6, 1e-7
WEIGHT_DECAY, CLIP_NORM = 1e-4, 1.0

# The rows that a KAN layer of eager PyTorch takes at a time. With the 128 that are fastest in the forward pass alone,
# the backward pass has many small operations: a step of the tiny network took about twice as long.
TRAINING_ROWS = 1024

COMPARED_STEPS = 3
"""The first steps, whose losses and gradient norms are compared; of the full network, those of the first step."""


@dataclass(frozen=True)
class Tolerance:
    """How far a contender may differ from `REFERENCE` in float32, as a share of the reference's value."""

    loss: float
    gradient_norm: float


# In bfloat16, three steps move the losses of PyTorch itself by 8 %.
TOLERANCES = {"float32": Tolerance(1e-4, 1e-3), "bfloat16": Tolerance(2e-1, 3e-1)}
# In float32, gradient norms of the full network differ by 0.6 % on Zen 4, which is rounding: in float64 each weight's
# gradient agrees to 2e-11. In bfloat16, PyTorch's own first loss is 0.38 of its value away from that in float32. There
# the limit finds another network or batch, no less; the table states the differences.
FULL_TOLERANCES = {"float32": Tolerance(1e-4, 1e-2), "bfloat16": Tolerance(5e-1, 5e-1)}


@dataclass(frozen=True)
class Batch:
    """Windows (clips, samples) float32 and labels (clips,), 0 = spoof, 1 = bona fide."""

    windows: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Report:
    """The loss of a step, and the global norm of its gradients before clipping."""

    loss: float
    gradient_norm: float


@dataclass(frozen=True)
class Gradients:
    """The loss of a batch, and of the gradient of each weight, by its path, the norm and a product: see `_summary`."""

    loss: float
    summaries: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Agreement:
    """How far spectra-jax differs from `REFERENCE` in float64.

    Attributes:
      frozen: what is not trained.
      loss_difference: as a share of the loss.
      gradient_difference: the largest of any weight's gradient, as a share of its norm, or where the norm is below a
        millionth of the global norm, of this millionth.
      weight: the path of this weight.
    """

    network: str
    frozen: str
    batch: int
    clip_seconds: float
    loss_difference: float
    gradient_difference: float
    weight: str


FLOAT64_TOLERANCE = 1e-9
"""The largest differences of an `Agreement`."""


@dataclass(frozen=True)
class Group:
    """Weights with one learning rate and one weight decay, by their names in the PyTorch network."""

    learning_rate: float
    weight_decay: float
    names: list[str]


Frozen = Literal["nothing", "feature_extractor"]


@dataclass(frozen=True)
class Task:
    """What a contender trains, and how.

    Attributes:
      remat: compute the encoder's layers again in the backward pass instead of storing their activations.
      freeze: what is not trained.
    """

    network: Network
    precision: str
    groups: list[Group]
    remat: bool = False
    freeze: Frozen = "nothing"


Step = Callable[[Batch], Report]

FREEZE: dict[str, Frozen] = {"tiny": "nothing", "full": "feature_extractor"}
"""What is frozen in each network: small ones are trained completely."""


def load_ours(task: Task) -> Step:
    """The step of `spectra-jax train`."""
    take_step = _train_ours(task, keep_gradients=False)

    def step(batch: Batch) -> Report:
        report, _ = take_step(batch)
        return Report(float(report.loss), float(report.gradient_norm))

    return step


def load_our_gradients(task: Task) -> Callable[[Batch], Gradients]:
    """The gradients of the step of `spectra-jax train`."""
    take_step = _train_ours(task, keep_gradients=True)

    def gradients(batch: Batch) -> Gradients:
        report, state = take_step(batch)
        return Gradients(float(report.loss), {path: _summary(np.asarray(leaf)) for path, leaf in state.items()})

    return gradients


def _train_ours(task: Task, keep_gradients: bool) -> Callable[[Batch], tuple[Any, Any]]:
    """A step that returns its report and the state of the optimiser, which `keep_gradients` makes the gradients."""
    import jax
    import optax

    from spectra_jax.checkpoints.resolve import open_checkpoint
    from spectra_jax.inference.engine import return_freed_memory
    from spectra_jax.training import RunConfig, TrainingConfig
    from spectra_jax.training import step as training_step
    from spectra_jax.training.initial_weights import Start, initial_weights
    from spectra_jax.training.sharding import Layout

    jax.config.update("jax_enable_x64", task.precision == "float64")

    training = TrainingConfig(
        precision=task.precision,
        weight_decay=WEIGHT_DECAY,
        clip_norm=CLIP_NORM,
        dropout=0.0,
        ema_decay=0.0,
        freeze=task.freeze,
        remat=task.remat,
    )
    config = RunConfig(task.network.config, training)
    network = training_step.Network(config.model, task.precision, training)
    optimizer = training_step.make_optimizer(training)
    if keep_gradients:
        optimizer = optax.GradientTransformation(optax.tree.zeros_like, lambda gradients, _, __: (gradients, gradients))
    start = Start(init=open_checkpoint(task.network.native))
    layout = Layout.of(None, jax.devices()[:1])
    leaves = initial_weights(config, network, start, [])
    state, frozen = training_step.first_state(network, leaves, training, optimizer, layout)
    dtype = network.dtype
    rates = training_step.LearningRates(dtype(ENCODER_LEARNING_RATE), dtype(LEARNING_RATE))
    rates, key = jax.device_put((rates, jax.random.key(0, impl="rbg")), layout.replicated)
    take_step = training_step.make_step(config.model, training, optimizer, layout)
    is_first = True

    def step(batch: Batch) -> tuple[Any, Any]:
        nonlocal state, is_first
        weights = np.ones((1, len(batch.labels)), dtype)
        windows, labels = batch.windows[None].astype(dtype), batch.labels[None].astype(np.int32)
        state, report = take_step(state, frozen, training_step.Examples(windows, labels, weights), rates, key)
        jax.block_until_ready(state)
        if is_first:  # as `spectra-jax train` does
            return_freed_memory()
            is_first = False
        return report, state.optimizer

    return step


def load_eager(task: Task) -> Step:
    """PyTorch with the network in its fast form, see `benchmarks/speed/oracle.py`, and the fused AdamW."""
    rows_at_a_time = None if task.network.device == "gpu" else TRAINING_ROWS
    return _train_torch(task, rows_at_a_time, lambda function: function)


def load_compiled(task: Task) -> Step:
    """The same with the forward and the backward pass compiled."""
    import torch

    return _train_torch(task, None, lambda function: torch.compile(function, dynamic=False))


def _train_torch(task: Task, rows_at_a_time: int | None, form: Callable[[Any], Any]) -> Step:
    import torch
    from torch.nn import functional

    torch.set_num_threads(cores())
    device = "cuda" if task.network.device == "gpu" else "cpu"
    model = load_trainable(task.network, rows_at_a_time).to(device)
    if task.freeze == "feature_extractor":
        model.ssl_encoder.model.freeze_feature_encoder()
    if task.remat:
        model.ssl_encoder.model.gradient_checkpointing_enable({"use_reentrant": False})
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [parameters[name] for name in group.names if name in parameters],
                "lr": group.learning_rate,
                "weight_decay": group.weight_decay,
            }
            for group in task.groups
        ],
        betas=(0.9, 0.999),
        eps=1e-8,
        fused=True,
    )

    def loss_of(windows: Any, labels: Any) -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=task.precision == "bfloat16"):
            hidden = model.ssl_encoder(windows)
        return functional.cross_entropy(model.aasist(model.bridge(hidden.float())), labels)

    compiled = form(loss_of)

    def step(batch: Batch) -> Report:
        optimizer.zero_grad(set_to_none=True)
        loss = compiled(*(torch.from_numpy(array).to(device) for array in (batch.windows, batch.labels)))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP_NORM)
        optimizer.step()
        return Report(loss.item(), norm.item())

    return step


def load_eager_gradients(task: Task) -> Callable[[Batch], Gradients]:
    """The gradients of eager PyTorch in float64, laid out like those of spectra-jax."""
    import torch
    from torch.nn import functional

    from spectra_jax.checkpoints.checkpoint import weight_shapes
    from spectra_jax.convert import expand
    from spectra_jax.convert.table import POSITIONAL

    torch.set_num_threads(cores())
    model = load_trainable(task.network, TRAINING_ROWS).double()
    if task.freeze == "feature_extractor":
        model.ssl_encoder.model.freeze_feature_encoder()
    config = task.network.config
    weights = {entry.source: (entry.target, entry.axes) for entry in expand(config, weight_shapes(config))}
    weights[f"{POSITIONAL}.weight"] = "encoder.positional_convolution.conv.kernel", (2, 1, 0)

    def gradients(batch: Batch) -> Gradients:
        loss = functional.cross_entropy(model(torch.from_numpy(batch.windows).double()), torch.from_numpy(batch.labels))
        loss.backward()
        summaries = {}
        for name, value in model.named_parameters():
            if value.grad is not None:
                target, axes = weights[name]
                summaries[target] = _summary(value.grad.numpy().transpose(axes))
        return Gradients(loss.item(), summaries)

    return gradients


def _summary(gradient: np.ndarray) -> tuple[float, float]:
    """The norm, and the product with a fixed vector, which depends on the order of the elements."""
    flat = gradient.ravel()
    return float(np.linalg.norm(flat)), float(flat @ np.cos(np.arange(flat.size)))


def load_trainable(network: Network, rows_at_a_time: int | None) -> Any:
    """The PyTorch network in training mode, without dropout, with the positional convolution's kernel as one weight."""
    import torch

    from benchmarks.speed import oracle

    model = oracle.load(network, rows_at_a_time=rows_at_a_time).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    convolution = model.ssl_encoder.model.encoder.pos_conv_embed.conv
    torch.nn.utils.parametrize.remove_parametrizations(convolution, "weight")
    # The product of its two parts in the file is the kernel only up to 3e-6.
    with safe_open(network.native / "model.safetensors", "np") as arrays:
        kernel = arrays.get_tensor("encoder.positional_convolution.conv.kernel").astype(np.float32)
    convolution.weight.data = torch.from_numpy(kernel.transpose(2, 1, 0).copy())
    return model


def write_network(network: Network) -> None:
    """Write the initial weights of `spectra-jax train` in both formats, unless that has been done.

    Not the weights of the speed benchmark: in training mode its losses and gradients amplify rounding too much.
    """
    if network.pytorch.exists():
        return
    from spectra_jax.checkpoints.checkpoint import Checkpoint
    from spectra_jax.checkpoints.native import write_native
    from spectra_jax.convert import convert
    from spectra_jax.training import RunConfig
    from spectra_jax.training.initial_weights import Start, initial_weights
    from spectra_jax.training.step import Network as Architecture

    config = network.config
    leaves = initial_weights(RunConfig(config), Architecture(config, "float32"), Start(), [])
    read = {path: (lambda leaf=leaf: np.asarray(leaf)) for path, leaf in leaves.items()}
    shutil.rmtree(network.folder, ignore_errors=True)  # an interrupted run leaves incomplete files
    network.folder.mkdir(parents=True)
    write_native(Checkpoint(config, read, network.name, network.native), network.native)
    part = network.pytorch.with_suffix(".part")
    convert(network.native, part, "torch")
    part.rename(network.pytorch)


def optimizer_groups(network: Network) -> list[Group]:
    """The groups of PyTorch's optimiser, such that every weight has the learning rate and decay that it has in ours."""
    from spectra_jax.checkpoints.checkpoint import weight_shapes
    from spectra_jax.convert import expand
    from spectra_jax.convert.table import POSITIONAL
    from spectra_jax.training import TrainingConfig
    from spectra_jax.training.step import Network as Architecture
    from spectra_jax.training.step import decays

    config = network.config
    statistics = Architecture(config, "float32", TrainingConfig()).statistics
    targets = {entry.source: entry.target for entry in expand(config, weight_shapes(config))}
    # The two parts of the weight norm are one kernel here.
    targets[f"{POSITIONAL}.weight"] = "encoder.positional_convolution.conv.kernel"
    names = defaultdict(list)
    for source, target in targets.items():
        if target not in statistics and ".parametrizations." not in source:
            rate = ENCODER_LEARNING_RATE if target.startswith("encoder.") else LEARNING_RATE
            names[rate, WEIGHT_DECAY if decays(target) else 0.0].append(source)
    return [Group(rate, decay, members) for (rate, decay), members in names.items()]


REFERENCE = "PyTorch, eager"
CONTENDERS: dict[str, Callable[[Task], Step]] = {
    REFERENCE: load_eager,
    "spectra-jax": load_ours,
    "PyTorch, torch.compile": load_compiled,
}


@dataclass(frozen=True)
class Row:
    """The steps of one contender.

    Attributes:
      first_steps: the reports of the first steps.
      clip_seconds: the length of each clip.
      frozen: what is not trained.
      loss_difference: the largest of the first steps to `REFERENCE` in float32, as a share of its value.
      gradient_norm_difference: likewise.
      first_seconds: of the first step, which compiles.
      seconds: of each timed step, in turn with the other contenders.
      first_peak_bytes: the most memory resident while loading and during the first steps.
      peak_bytes: the most memory resident during the timed steps; None where the system does not report it.
      problem: why the contender was not timed; None if it was.
    """

    network: str
    precision: str
    batch: int
    contender: str
    first_steps: list[Report]
    clip_seconds: float
    frozen: str
    loss_difference: float | None = None
    gradient_norm_difference: float | None = None
    first_seconds: float | None = None
    seconds: list[float] | None = None
    first_peak_bytes: int | None = None
    peak_bytes: int | None = None
    problem: str | None = None


def make_batch(size: int, samples: int) -> Batch:
    return Batch(windows(size, samples), np.arange(size) % 2)


def largest_difference(found: Sequence[float], expected: Sequence[float]) -> float:
    """The largest difference as a share of the expected value."""
    return max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))


def _start(worker: Worker, task: Task, batch: Batch, expected: Sequence[Report], limit: float) -> Row:
    """Take and compare the first steps.

    Raises:
      ValueError: they differ from the expected ones by more than the tolerance.
    """
    clip_seconds = batch.windows.shape[1] / SAMPLE_RATE
    row = Row(task.network.name, task.precision, len(batch.labels), worker.name, [], clip_seconds, task.freeze)
    try:
        calls = [worker.call(batch, limit=limit) for _ in range(COMPARED_STEPS)]
    except (TimeoutError, WorkerError) as error:
        return replace(row, problem=str(error))
    reports = [call.output for call in calls]
    # Later losses of the full network can differ by 3 % between two runs in float32.
    compared = 1 if task.network.name == "full" else COMPARED_STEPS
    pairs = list(zip(reports[:compared], expected[:compared], strict=True))
    loss = largest_difference([found.loss for found, _ in pairs], [report.loss for _, report in pairs])
    norm = largest_difference(
        [found.gradient_norm for found, _ in pairs], [report.gradient_norm for _, report in pairs]
    )
    tolerance = (FULL_TOLERANCES if task.network.name == "full" else TOLERANCES)[task.precision]
    if not (loss <= tolerance.loss and norm <= tolerance.gradient_norm):
        raise ValueError(
            f"{worker.name}, {task.network.name} in {task.precision}: the first {compared} losses differ from "
            f"{REFERENCE} in float32 by up to {loss:.1e} of their value and the gradient norms by up to {norm:.1e}; "
            f"allowed are {tolerance.loss:.0e} and {tolerance.gradient_norm:.0e}"
        )
    return replace(
        row,
        first_steps=reports,
        loss_difference=loss,
        gradient_norm_difference=norm,
        first_seconds=calls[0].seconds,
        first_peak_bytes=calls[-1].peak_bytes,
    )


def first_steps(task: Task, batch: Batch) -> list[Report]:
    """The reports of the first steps of `REFERENCE`, in a process of its own."""
    with Worker(REFERENCE, CONTENDERS[REFERENCE], task) as worker:
        return [worker.call(batch).output for _ in range(COMPARED_STEPS)]


def compare_gradients(task: Task, batch: Batch) -> Agreement:
    """Compare the gradients of the first step in float64, each contender in a process of its own, one after the other.

    Raises:
      ValueError: they have other weights, or differ by more than `FLOAT64_TOLERANCE`.
    """
    task = replace(task, precision="float64")
    found = []
    for name, load in (("spectra-jax", load_our_gradients), (REFERENCE, load_eager_gradients)):
        with Worker(name, load, task) as worker:
            found.append(worker.call(batch).output)
    ours, expected = found
    if ours.summaries.keys() != expected.summaries.keys():
        differing = sorted(ours.summaries.keys() ^ expected.summaries.keys())
        raise ValueError(f"spectra-jax and {REFERENCE} train different weights of {task.network.name}: {differing}")
    smallest = 1e-6 * float(np.linalg.norm([norm for norm, _ in expected.summaries.values()]))
    differences = {
        path: float(np.abs(np.subtract(ours.summaries[path], summary)).max()) / max(summary[0], smallest)
        for path, summary in expected.summaries.items()
    }
    weight = max(differences, key=differences.__getitem__)
    loss_difference = largest_difference([ours.loss], [expected.loss])
    if not max(loss_difference, differences[weight]) <= FLOAT64_TOLERANCE:
        raise ValueError(
            f"{task.network.name} in float64: the loss of spectra-jax differs from {REFERENCE} by "
            f"{loss_difference:.1e} of its value and the gradient of {weight} by "
            f"{differences[weight]:.1e} of its norm; allowed are {FLOAT64_TOLERANCE:.0e}"
        )
    return Agreement(
        task.network.name,
        task.freeze,
        len(batch.labels),
        batch.windows.shape[1] / SAMPLE_RATE,
        loss_difference,
        differences[weight],
        weight,
    )


def measure(
    task: Task, batch: Batch, expected: Sequence[Report], contenders: Sequence[str], *, rounds: int, limit: float
) -> list[Row]:
    """Time the contenders in turn. One that fails, or takes longer than `limit` seconds, is not timed.

    Args:
      expected: the result of `first_steps` in float32.

    Raises:
      ValueError: losses or gradient norms differ by more than the tolerance.
    """
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(name, CONTENDERS[name], task)) for name in contenders]
        rows = {worker: _start(worker, task, batch, expected, limit) for worker in workers}
        timed = [worker for worker, row in rows.items() if row.problem is None]
        calls = {worker: [worker.call(batch, reset_peak=True)] for worker in timed}
        for _ in range(rounds - 1):
            for worker in timed:
                calls[worker].append(worker.call(batch))
    return [
        replace(row, seconds=[call.seconds for call in calls[worker]], peak_bytes=calls[worker][-1].peak_bytes)
        if worker in calls
        else row
        for worker, row in rows.items()
    ]


def render(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    machine = results["machine"]
    packages = machine["packages"]
    kind = cpu_kind(machine["cpu"], machine["cpu_family_model"])
    lines = [
        f"One training step on {machine['cores']} cores of {machine['cpu']} ({kind}); torch {packages['torch']}, "
        f"transformers {packages['transformers']}, jax {packages['jax']}. "
        "Medians of interleaved steps; written by `python -m benchmarks.training_step` from the JSON beside this file.",
        "",
        f"| network | frozen | precision | batch | contender | s a step | times {REFERENCE} | first step, s | "
        "memory of a step, GB | memory at the start, GB | loss | gradient norm |",
        "| --- | --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    rows = [Row(**row) for row in results["rows"]]
    medians = {
        (row.network, row.precision, row.batch, row.contender): statistics.median(row.seconds)
        for row in rows
        if row.seconds is not None
    }
    for row in rows:
        start = (
            f"| {row.network} | {row.frozen.replace('_', ' ')} | {row.precision} | "
            f"{row.batch} x {row.clip_seconds:.2f} s | {row.contender} |"
        )
        if row.seconds is None:
            lines.append(f"{start} {row.problem} | | | | | | |")
            continue
        median = medians[row.network, row.precision, row.batch, row.contender]
        eager = medians.get((row.network, row.precision, row.batch, REFERENCE))
        lines.append(
            f"{start} {median:.3f} | {'' if eager is None else f'{median / eager:.2f}'} | {row.first_seconds:.1f} | "
            f"{_gigabytes(row.peak_bytes)} | {_gigabytes(row.first_peak_bytes)} | {row.loss_difference:.0e} | "
            f"{row.gradient_norm_difference:.0e} |"
        )
    tolerances = "; ".join(
        f"in {precision} {tolerance['loss']:.0e} of the loss and {tolerance['gradient_norm']:.0e} of the norm"
        for precision, tolerance in results["tolerances"].items()
    )
    lines += [
        "",
        f"The last two columns are the largest differences of the first {results['compared_steps']} steps, of the full "
        f"network of the first step, to {REFERENCE} in float32, as shares of its values. Nothing is timed above these "
        f"limits: {tolerances}. The "
        "memory is the most that is resident at one time in the contender's process: during the timed steps, and "
        "before them, while it loads the weights, compiles and takes its first steps.",
    ]
    for each in (Agreement(**values) for values in results.get("float64", [])):
        lines += [
            "",
            f"In float64, {each.network} with {each.batch} clips of {each.clip_seconds:.2f} s, frozen: "
            f"{each.frozen.replace('_', ' ')}: the loss differs by {each.loss_difference:.0e} of its value, and the "
            f"gradient of any weight by at most {each.gradient_difference:.0e} of its norm (of `{each.weight}`).",
        ]
    return "\n".join(lines) + "\n"


def _gigabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e9:.2f}"


def earlier_results(output: Path, machine: dict[str, Any]) -> dict[str, Any]:
    """The results that a run adds to: those of an earlier run on this machine with the same packages, or none."""
    empty: dict[str, Any] = {
        "machine": machine,
        "compared_steps": COMPARED_STEPS,
        "tolerances": {
            f"{name}{network}": asdict(tolerance)
            for network, tolerances in (("", TOLERANCES), (" of the full network", FULL_TOLERANCES))
            for name, tolerance in tolerances.items()
        },
        "rows": [],
        "float64": [],
    }
    if not output.with_suffix(".json").exists():
        return empty
    earlier: dict[str, Any] = json.loads(output.with_suffix(".json").read_text())
    same = ("cpu", "cpu_family_model", "cores", "packages")
    is_same = "float64" in earlier and all(earlier["machine"][name] == machine[name] for name in same)
    return {**empty, "rows": earlier["rows"], "float64": earlier["float64"]} if is_same else empty


def _merge(results: dict[str, Any], key: str, found: list[dict[str, Any]], identity: Sequence[str]) -> None:
    """Put `found` in the list `results[key]`, in place of what has the same values of `identity`."""
    identities = [[row[name] for name in identity] for row in found]
    results[key] = [row for row in results[key] if [row[name] for name in identity] not in identities] + found


def _write(results: dict[str, Any], output: Path) -> None:
    output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    output.with_suffix(".md").write_text(render(results))


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NAMES, default=["tiny", "full"])
    parser.add_argument("--precisions", nargs="+", choices=TOLERANCES, default=list(TOLERANCES))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="CONTENDER")
    parser.add_argument("--batches", nargs="+", type=int, default=[2], help="clips of a step")
    parser.add_argument("--seconds", type=float, help="length of each clip; by default the network's window")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--limit", type=float, default=300.0, help="seconds after which one of the first steps is given up"
    )
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "training-step", help="directory of the networks")
    machine = describe_machine()
    kind = cpu_kind(machine["cpu"], machine["cpu_family_model"])
    output = RESULTS / f"training-step-{machine_name(kind, machine['cores'])}"
    parser.add_argument("--output", type=Path, default=output, metavar="NAME", help="NAME.json and NAME.md")
    parser.add_argument(
        "--float64", action="store_true", help="compare the gradients in float64 instead of timing anything"
    )
    options = parser.parse_args(words)
    results = earlier_results(options.output, machine)
    for name in options.networks:
        network = Network(name, options.work.resolve())
        write_network(network)
        groups = optimizer_groups(network)
        samples = int(options.seconds * SAMPLE_RATE) if options.seconds else network.config.num_samples
        for size in options.batches:
            batch = make_batch(size, samples)
            task = Task(network, "float32", groups, freeze=FREEZE[name])
            if options.float64:
                print(f"{name}, float64, batch {size} ...", file=sys.stderr)
                _merge(results, "float64", [asdict(compare_gradients(task, batch))], ("network", "frozen"))
                _write(results, options.output)
                continue
            expected = first_steps(task, batch)
            for precision in options.precisions:
                print(f"{name}, {precision}, batch {size} ...", file=sys.stderr)
                rows = measure(
                    replace(task, precision=precision),
                    batch,
                    expected,
                    options.contenders,
                    rounds=options.rounds,
                    limit=options.limit,
                )
                identity = ("network", "frozen", "precision", "batch", "clip_seconds", "contender")
                _merge(results, "rows", [asdict(row) for row in rows], identity)
                # After every comparison, so that an interrupted run keeps what it has.
                _write(results, options.output)
    print(render(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
