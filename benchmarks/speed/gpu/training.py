"""The section of training steps: ours and eager PyTorch, with and without stored activations.

The weights are those of the other sections, which are there already; `benchmarks/training_step.py` compares the losses
of the contenders, from the weights that a training run starts with.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from benchmarks import training_step
from benchmarks.speed.gpu.plan import COMPUTED_AGAIN, OURS, Case, Job, Row
from benchmarks.speed.gpu.worker import batch_of_windows, each_case, explain, network_of

STEPS = 5
SMOKE_SAMPLES = 8_000


def steps(job: Job) -> Iterator[Row]:
    """Each case in a process of its own, since JAX keeps the memory that it has taken."""
    context = multiprocessing.get_context("spawn")
    yield from each_case(job, lambda case: _in_process(context, job, case))


def _in_process(context: Any, job: Job, case: Case) -> Row:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, job, case), daemon=True)
    process.start()
    sender.close()
    try:
        row: Row = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"the process ended with status {process.exitcode}") from None
    process.join()
    return row


def _send(connection: Connection, job: Job, case: Case) -> None:
    if case.contender != OURS:
        # The groups of the optimiser come from spectra-jax, and JAX must not take the memory of the card.
        os.environ["JAX_PLATFORMS"] = "cpu"
    try:
        row = _measure(job, case)
    except Exception as error:
        row = Row(case, problem=explain(error))
    connection.send(row)


def _measure(job: Job, case: Case) -> Row:
    import numpy as np

    network = network_of(job)
    remat = case.variant == COMPUTED_AGAIN
    task = training_step.Task(network, case.precision, training_step.optimizer_groups(network), remat)
    windows = batch_of_windows(job, case.batch)
    if job.smoke:
        windows = windows[:, :SMOKE_SAMPLES]
    batch = training_step.Batch(windows, np.arange(case.batch) % 2)
    step = training_step.load_ours(task) if case.contender == OURS else _load_eager(task)
    start = time.perf_counter()
    loss = step(batch).loss
    first_seconds = time.perf_counter() - start
    if not math.isfinite(loss):
        raise ValueError(f"the loss of the first step is {loss}")
    if not job.smoke:
        step(batch)  # PyTorch still allocates in the second step
    seconds = []
    for _ in range(1 if job.smoke else STEPS):
        start = time.perf_counter()
        step(batch)
        seconds.append(time.perf_counter() - start)
    return Row(case, seconds, compile_seconds=first_seconds, peak_bytes=_peak_bytes(job, case), score=loss)


def _load_eager(task: training_step.Task) -> training_step.Step:
    from benchmarks.speed.gpu.peers import use_tf32

    # By default PyTorch computes convolutions in TF32.
    use_tf32(False)
    return training_step.load_eager(task)


def _peak_bytes(job: Job, case: Case) -> int | None:
    if case.contender == OURS:
        import jax

        from benchmarks.speed.gpu.ours import peak_bytes

        return peak_bytes(jax.local_devices()[0])
    if job.device == "cpu":
        return None
    import torch

    return torch.cuda.max_memory_allocated()
