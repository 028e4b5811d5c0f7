"""The sections of PyTorch: peak of the card, eager and compiled forward passes."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.speed import oracle
from benchmarks.speed.contenders import cores
from benchmarks.speed.flops import clip_flops
from benchmarks.speed.gpu.plan import BFLOAT16_WEIGHTS, Case, Job, Row
from benchmarks.speed.gpu.timing import time_runs
from benchmarks.speed.gpu.worker import Facts, batch_of_windows, difference, each_case, network_of

_DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Forward = Callable[[Any], Any]


def device_of(job: Job) -> str:
    """PyTorch's name of the device.

    Raises:
      RuntimeError: this PyTorch has no such device.
    """
    if job.device == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise RuntimeError("this PyTorch sees no CUDA device")
    return "cuda"


def use_tf32(allowed: bool) -> None:
    """Whether float32 products and convolutions are computed in TF32."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def wait(device: str) -> Callable[[Any], None]:
    return lambda _: torch.cuda.synchronize() if device == "cuda" else None


def peaks(job: Job) -> Iterator[Row | Facts]:
    """Large matrix products and a copy."""
    device = device_of(job)
    yield {"torch_cuda": torch.version.cuda, "torch_cudnn": torch.backends.cudnn.version()}
    yield from each_case(job, lambda case: (_copy if case.precision == "copy" else _product)(job, case, device))


def _product(job: Job, case: Case, device: str) -> Row:
    size = 512 if job.smoke else 8192
    use_tf32(case.precision == "tf32")
    x, y = (torch.randn(size, size, device=device).to(_DTYPES[case.precision]) for _ in range(2))
    steady = time_runs(lambda: x @ y, wait(device), smoke=job.smoke)
    return Row(case, steady.seconds, steady.calls, amount=2 * size**3)


def _copy(job: Job, case: Case, device: str) -> Row:
    size = 2**20 if job.smoke else 2**31
    x = torch.randn(size // 4, device=device)
    y = torch.empty_like(x)
    steady = time_runs(lambda: y.copy_(x), wait(device), smoke=job.smoke)
    return Row(case, steady.seconds, steady.calls, amount=2 * size)


def eager(job: Job) -> Iterator[Row]:
    """The fast form of `benchmarks/speed/oracle.py`."""
    device, model = device_of(job), _load(job)
    for row in each_case(job, lambda case: _forward(job, case, device, _program(model, case, device))):
        yield row
        _free(device)


def compiled(job: Job) -> Iterator[Row]:
    """The same with `torch.compile` for one shape; the variant of a case is the mode."""
    device, model = device_of(job), _load(job)
    for row in each_case(job, lambda case: _compiled(job, case, device, model)):
        yield row
        torch.compiler.reset()
        _free(device)


def _compiled(job: Job, case: Case, device: str, model: Any) -> Row:
    # Inductor compiles for a CPU for minutes.
    options: dict[str, Any] = {"backend": "eager"} if job.smoke else {"mode": case.variant or "default"}
    return _forward(job, case, device, torch.compile(_program(model, case, device), dynamic=False, **options))


def _load(job: Job) -> Any:
    # Threads that wait for one another are slow where other programs run, as they may beside a smoke run.
    torch.set_num_threads(1 if job.smoke else cores())
    # A GPU, and a compiler, get all rows of a KAN layer at once; a CPU gets what its caches hold.
    rows_at_a_time = oracle.CACHED_ROWS if job.device == "cpu" and job.section == "eager" else None
    return oracle.load(network_of(job), rows_at_a_time=rows_at_a_time).to(device_of(job)).eval()


def _free(device: str) -> None:
    if device == "cuda":
        torch.cuda.empty_cache()


def _program(model: Any, case: Case, device: str) -> Forward:
    """The forward pass in a precision. In bfloat16, as in ours, what follows the encoder stays in true float32."""
    if case.precision != "bfloat16":
        return lambda windows: model(windows)
    if case.variant == BFLOAT16_WEIGHTS:
        encoder = copy.deepcopy(model.ssl_encoder).bfloat16()
        return lambda windows: model.aasist(model.bridge(encoder(windows.bfloat16()).float()))

    def forward(windows: Any) -> Any:
        with torch.autocast(device, dtype=torch.bfloat16):
            hidden = model.ssl_encoder(windows)
        return model.aasist(model.bridge(hidden.float()))

    return forward


def _forward(job: Job, case: Case, device: str, program: Forward) -> Row:
    use_tf32(case.precision == "tf32")
    windows = torch.from_numpy(batch_of_windows(job, case.batch)).to(device)
    waiting = wait(device)
    with torch.inference_mode():
        start = time.perf_counter()
        logits = program(windows).float().cpu().numpy()
        first_seconds = time.perf_counter() - start

        def call() -> Any:
            # Without this, a CUDA graph would keep the outputs of earlier calls apart.
            torch.compiler.cudagraph_mark_step_begin()
            return program(windows)

        # After the first call, which compiles and autotunes, and before the second, which records a CUDA graph.
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        steady = time_runs(call, waiting, smoke=job.smoke)
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    config = network_of(job).config
    return Row(
        case,
        steady.seconds,
        steady.calls,
        amount=case.batch * clip_flops(config, config.num_samples),
        compile_seconds=first_seconds,
        peak_bytes=peak,
        difference=difference(job, np.asarray(logits)),
    )
