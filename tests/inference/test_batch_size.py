"""The batch size, from invented figures of memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import jax
import jax.numpy as jnp
import pytest

from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.load import abstract_inference_model
from spectra_jax.inference.batch_size import (
    MAX_CLIPS_PER_DEVICE,
    WITHOUT_MEMORY_STATS,
    activation_bytes,
    clips_per_device,
    total_batch_size,
)
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.precision import Precision

GIB = 2**30
CONFIG = SpectraConfig()
FLOAT32, FLOAT64 = Precision.of("float32"), Precision.of("float64")
WEIGHTS = int(1.27e9)


def memory(limit: float, used: float = 0) -> dict[str, int]:
    return {"bytes_limit": int(limit * GIB), "bytes_in_use": int(used * GIB)}


def test_the_published_network_takes_a_tenth_of_a_gigabyte_for_a_clip() -> None:
    assert activation_bytes(CONFIG, FLOAT32) == 4 * 12919 * 512 * 4
    assert activation_bytes(CONFIG, Precision.of("bfloat16")) == activation_bytes(CONFIG, FLOAT32)
    assert activation_bytes(CONFIG, FLOAT64) == 2 * activation_bytes(CONFIG, FLOAT32)
    assert (
        1.99 < activation_bytes(CONFIG, FLOAT32) / activation_bytes(replace(CONFIG, num_samples=32300), FLOAT32) < 2.01
    )


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ([memory(100)], MAX_CLIPS_PER_DEVICE),
        ([memory(12)], 32),
        ([memory(12), memory(12, used=9)], 8),  # the fullest decides
        ([memory(12), None], WITHOUT_MEMORY_STATS),
        ([None], WITHOUT_MEMORY_STATS),
        ([memory(1)], 1),  # less than the weights: one clip, and the device says whether it fits
        ([{"bytes_in_use": 5}], WITHOUT_MEMORY_STATS),
    ],
)
def test_what_fits(devices: list[dict[str, int] | None], expected: int) -> None:
    assert clips_per_device(CONFIG, FLOAT32, WEIGHTS, devices) == expected


def test_always_a_power_of_two_that_fits() -> None:
    sizes = [clips_per_device(CONFIG, FLOAT32, WEIGHTS, [memory(0.25 * step)]) for step in range(1, 200)]
    assert sizes == sorted(sizes)
    assert set(sizes) == {1, 2, 4, 8, 16, 32, 64}
    for step, size in enumerate(sizes, start=1):
        assert size == 1 or size * activation_bytes(CONFIG, FLOAT32) + WEIGHTS < 0.25 * step * GIB


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16", "int8", "float64"])
@pytest.mark.parametrize(("gigabytes", "expected", "expected_in_float64"), [(16, 32, 16), (24, 64, 32), (80, 64, 64)])
def test_the_published_network_on_common_cards(
    gigabytes: int, expected: int, expected_in_float64: int, precision: str
) -> None:
    """JAX takes three quarters of a card. Twice the batch would not fit half of that, unless it is the largest."""
    policy = Precision.of(precision)
    weights = WEIGHTS * jnp.dtype(policy.dtype).itemsize // 4  # at most: narrower operands have narrower weights
    size = clips_per_device(CONFIG, policy, weights, [memory(0.75 * gigabytes)])
    assert size == (expected_in_float64 if precision == "float64" else expected)
    half_of_the_free = (0.75 * gigabytes * GIB - weights) / 2
    assert size * activation_bytes(CONFIG, policy) <= half_of_the_free
    assert size == MAX_CLIPS_PER_DEVICE or 2 * size * activation_bytes(CONFIG, policy) > half_of_the_free


@pytest.mark.parametrize(
    ("requested", "num_clips", "expected"),
    [
        ("auto", None, 3 * WITHOUT_MEMORY_STATS),
        ("auto", 100, 3 * WITHOUT_MEMORY_STATS),
        ("auto", 4, 6),  # as few as a share for each of three devices allows
        (8, None, 9),
        (8, 5, 6),
        (1, 0, 3),
    ],
)
def test_the_batch_over_three_devices(
    requested: int | Literal["auto"], num_clips: int | None, expected: int, tiny_checkpoint: Checkpoint
) -> None:
    network = abstract_inference_model(tiny_checkpoint.config)
    assert total_batch_size(requested, network, FLOAT32, jax.devices()[:1] * 3, num_clips) == expected
