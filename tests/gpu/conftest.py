"""Tests on an NVIDIA GPU. `python -m pytest -m gpu tests/gpu -q -rP` also prints what they measure.

The compiler takes most of their time, so everything large is compiled in the background, several programs at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import pytest

Submit = Callable[..., Future[Any]]
"""`submit(function, *arguments)` of an executor."""


@pytest.fixture(scope="session", autouse=True)
def gpu() -> jax.Device:
    device = jax.devices()[0]
    if "cuda" not in device.client.platform_version.lower():
        pytest.skip("needs an NVIDIA GPU and JAX with CUDA")
    return device


@pytest.fixture(scope="session")
def cpu(gpu: jax.Device) -> jax.Device:
    """A CPU of a process whose default backend is the GPU."""
    return jax.devices("cpu")[0]


@pytest.fixture(scope="session")
def background(gpu: jax.Device) -> Iterator[Submit]:
    with ThreadPoolExecutor(8) as pool:
        yield pool.submit
        pool.shutdown(cancel_futures=True)
