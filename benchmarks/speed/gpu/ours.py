"""The sections of spectra-jax: peak of the card through JAX, forward passes, stages, scorer."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.speed import probes
from benchmarks.speed.flops import clip_flops, stage_flops
from benchmarks.speed.gpu.plan import COMPILED_TOGETHER, REFERENCE_BATCH, Case, Job, Row
from benchmarks.speed.gpu.timing import time_runs
from benchmarks.speed.gpu.worker import (
    Facts,
    batch_of_windows,
    difference,
    each_case,
    guarded,
    network_of,
    out_of_time,
    reference_file,
)
from benchmarks.speed.measure import ROOT

# Dtype and precision of the matrix products that the peak is measured with.
_PRODUCTS: dict[str, tuple[Any, str]] = {
    "float32": (jnp.float32, "highest"),
    "tf32": (jnp.float32, "high"),
    "tf32, default precision": (jnp.float32, "default"),
    "bfloat16": (jnp.bfloat16, "default"),
    "float16": (jnp.float16, "default"),
}
SCORED_BATCHES = 8
"""Batches of a call of `Scorer.logits` and `Scorer.score_trials`, of which two are in flight."""


def write_network(job: Job) -> Iterator[Facts]:
    """Write the network, on the CPU; the operations of one clip."""
    network = network_of(job)
    start = time.perf_counter()
    network.write()
    config = network.config
    yield {
        "write_network_seconds": time.perf_counter() - start,
        "flops": {
            "clip": clip_flops(config, config.num_samples),
            "encoder": clip_flops(config, config.num_samples, encoder_only=True),
        },
    }


def peaks(job: Job) -> Iterator[Row | Facts]:
    """Large matrix products and a copy."""
    device = _device(job)
    yield {
        "devices": {"platform": jax.default_backend(), "kind": device.device_kind, "count": jax.local_device_count()},
        "jax_platform": str(device.client.platform_version),
    }
    yield from each_case(job, lambda case: (_copy if case.precision == "copy" else _product)(job, case))


def _device(job: Job) -> jax.Device:
    """The first device.

    Raises:
      RuntimeError: it is not of the kind that is to be measured.
    """
    if jax.default_backend() != job.device:
        raise RuntimeError(f"JAX computes on {jax.default_backend()}, not on {job.device}")
    return jax.local_devices()[0]


def _product(job: Job, case: Case) -> Row:
    dtype, precision = _PRODUCTS[case.precision]
    size = 512 if job.smoke else 8192
    keys = jax.random.split(jax.random.key(0))
    x, y = (jax.random.normal(key, (size, size), jnp.float32).astype(dtype) for key in keys)
    product = jax.jit(functools.partial(jnp.matmul, precision=precision)).lower(x, y).compile()
    steady = time_runs(functools.partial(product, x, y), jax.block_until_ready, smoke=job.smoke)
    return Row(case, steady.seconds, steady.calls, amount=2 * size**3)


def _copy(job: Job, case: Case) -> Row:
    size = 2**20 if job.smoke else 2**30
    x = jax.random.normal(jax.random.key(0), (size // 4,), jnp.float32)
    # XLA might give the argument back instead of a plain copy.
    add = jax.jit(lambda x: x + 1).lower(x).compile()
    steady = time_runs(functools.partial(add, x), jax.block_until_ready, smoke=job.smoke)
    return Row(case, steady.seconds, steady.calls, amount=2 * size)


def forwards(job: Job) -> Iterator[Row]:
    """The program of `spectra_jax.inference.engine`, its windows on the device.

    Several programs are compiled at the same time, then each of them is timed alone.
    """
    import spectra_jax

    device = _device(job)
    models: dict[str, Any] = {}
    for cases in _groups(job.cases):
        if out_of_time(job):
            return
        for precision in dict.fromkeys(case.precision for case in cases):
            if precision not in models:
                models[precision] = spectra_jax.load(network_of(job).native, precision)
        with ThreadPoolExecutor(len(cases)) as pool:
            futures = {case: pool.submit(_build, models[case.precision], case, device) for case in cases}
        for case, built in futures.items():
            if out_of_time(job):
                return
            yield guarded(case, functools.partial(_forward, job, case, built))


def _groups(cases: Sequence[Case]) -> Iterator[Sequence[Case]]:
    for start in range(0, len(cases), COMPILED_TOGETHER):
        yield cases[start : start + COMPILED_TOGETHER]


def _build(model: Any, case: Case, device: jax.Device) -> tuple[Any, float]:
    """The engine of a case, and the seconds that tracing and compiling took, beside other programs."""
    from spectra_jax.inference.engine import build_engine
    from spectra_jax.model.precision import Precision

    start = time.perf_counter()
    engine = build_engine(model, Precision.of(case.precision), batch_size=case.batch, devices=[device])
    return engine, time.perf_counter() - start


def _forward(job: Job, case: Case, built: Future[tuple[Any, float]]) -> Row:
    engine, compile_seconds = built.result()
    device = engine.windows_sharding.mesh.devices.flat[0]
    before = peak_bytes(device)
    windows = jax.device_put(batch_of_windows(job, case.batch), engine.windows_sharding)
    call = functools.partial(engine.executable, engine.params, windows)
    logits = np.asarray(call())
    if case.precision == "float32" and case.batch == REFERENCE_BATCH:
        np.save(reference_file(job), logits)
    steady = time_runs(call, jax.block_until_ready, smoke=job.smoke)
    after = peak_bytes(device)
    config = engine.model.config
    return Row(
        case,
        steady.seconds,
        steady.calls,
        amount=case.batch * clip_flops(config, config.num_samples),
        compile_seconds=compile_seconds,
        peak_bytes=after if after is not None and after != before else None,
        planned_bytes=_planned_bytes(engine.executable),
        difference=difference(job, logits),
    )


def peak_bytes(device: jax.Device) -> int | None:
    """The most memory in use since the process started, autotuning included; None where it is not reported."""
    return (device.memory_stats() or {}).get("peak_bytes_in_use")


def _planned_bytes(executable: Any) -> dict[str, int]:
    analysis = executable.memory_analysis()
    names = {
        "arguments": "argument_size_in_bytes",
        "output": "output_size_in_bytes",
        "temporaries": "temp_size_in_bytes",
        "code": "generated_code_size_in_bytes",
        "peak": "peak_memory_in_bytes",
    }
    found = {name: getattr(analysis, attribute, None) for name, attribute in names.items()}
    return {name: size for name, size in found.items() if size is not None}


def stages(job: Job) -> Iterator[Row]:
    """Each stage compiled alone and timed on its true input."""
    _device(job)
    for precision, batch in dict.fromkeys((case.precision, case.batch) for case in job.cases):
        if out_of_time(job):
            return
        network = network_of(job)
        config = network.config
        flops = stage_flops(config, config.num_samples)
        flops["whole network"] = sum(flops.values())
        start = time.perf_counter()
        runs = probes.compile_stages(network, precision, batch_of_windows(job, batch))
        seconds = time.perf_counter() - start
        for case in job.cases:
            if (case.precision, case.batch) == (precision, batch) and not out_of_time(job):
                yield guarded(
                    case, functools.partial(_stage, job, case, runs[case.variant], batch * flops[case.variant], seconds)
                )


def _stage(job: Job, case: Case, run: Callable[[], Any], flops: int, compile_seconds: float) -> Row:
    steady = time_runs(run, jax.block_until_ready, smoke=job.smoke)
    return Row(case, steady.seconds, steady.calls, amount=flops, compile_seconds=compile_seconds)


def scorers(job: Job) -> Iterator[Row]:
    """The public `Scorer`, from host memory and from files to scores in host memory."""
    import spectra_jax

    device = _device(job)
    loaded: dict[str, Any] = {}

    def measure(case: Case) -> Row:
        if case.precision not in loaded:
            loaded[case.precision] = spectra_jax.Scorer(
                network_of(job).native, precision=case.precision, batch_size=case.batch, devices=[device]
            )
        return (_score_trials if case.variant == "score_trials" else _logits)(job, case, loaded[case.precision])

    yield from each_case(job, measure)


def _logits(job: Job, case: Case, scorer: Any) -> Row:
    """Seconds a batch of `Scorer.logits`, the transfer of the windows included."""
    batches = 1 if job.smoke else SCORED_BATCHES
    windows = np.tile(batch_of_windows(job, case.batch), (batches, 1))
    start = time.perf_counter()
    scorer.load()
    compile_seconds = time.perf_counter() - start
    steady = time_runs(functools.partial(scorer.logits, windows), lambda _: None, smoke=job.smoke)
    return Row(case, [value / batches for value in steady.seconds], steady.calls, compile_seconds=compile_seconds)


def _score_trials(job: Job, case: Case, scorer: Any) -> Row:
    """Seconds a batch of `Scorer.score_trials` over the clips of the corpus, again and again; decoding included."""
    from spectra_jax.data.trial import Trial

    clips = sorted((ROOT / "examples" / "corpus").rglob("*.flac"))
    batches = 1 if job.smoke else SCORED_BATCHES
    repeated: list[Path] = list(itertools.islice(itertools.cycle(clips), batches * case.batch))

    def score() -> None:
        results = scorer.score_trials(Trial(f"{index}", clip) for index, clip in enumerate(repeated))
        problems = [result for result in results if result.score is None]
        if problems:
            raise RuntimeError(f"{len(problems)} clips were not scored, the first: {problems[0]}")

    scorer.load()
    steady = time_runs(score, lambda _: None, smoke=job.smoke)
    return Row(case, [value / batches for value in steady.seconds], steady.calls)
