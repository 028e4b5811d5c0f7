"""How many clips a device takes at a time, from its memory and the network's configuration."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

import jax.numpy as jnp

from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.precision import Precision

# Devices that do not tell their memory are CPUs. There the size hardly matters: two cores score about one clip a second
# with the published network at 1, 2, 4 and 8 clips a batch. A few leave more cores something to share.
WITHOUT_MEMORY_STATS = 4
# Matrix products of some ten thousand rows occupy any accelerator of today; beyond that a batch only takes memory, and
# the last one of a run more padding.
MOST = 64
# Arrays of the largest size that are alive at once: a layer's input, the convolution's result, and what the layer norm
# and the GELU make of it. XLA for CPUs, which fuses much of that, plans for 1.5 in float32 and 2.8 in bfloat16.
_LIVE_COPIES = 4
# What the estimate may use. The rest is for what it does not count: the workspace of convolutions, the windows and
# logits of a second batch on its way, and a heap that is never filled without gaps.
_SHARE = 0.5


def activation_bytes(config: SpectraConfig, precision: Precision) -> int:
    """What one clip takes on a device while the network runs, nearly: all but its feature extractor is small.

    In bfloat16 as much as in float32, since the convolutions' results are float32 in both.
    """
    encoder = config.encoder
    largest = max(map(operator.mul, encoder.layer_frames(config.num_samples), encoder.conv_dim))
    return _LIVE_COPIES * largest * jnp.dtype(precision.dtype).itemsize


def clips_per_device(
    config: SpectraConfig, precision: Precision, weight_bytes: int, memory: Sequence[Mapping[str, int] | None]
) -> int:
    """The automatic batch size of each device: a power of two, from 1 to 64, that fits the fullest of the devices.

    Args:
      config, precision: of the network.
      weight_bytes: of the network as it is held, not on the devices yet.
      memory: `jax.Device.memory_stats()` of each device, None for one that has none.
    """
    free = [stats["bytes_limit"] - stats["bytes_in_use"] for stats in memory if stats and "bytes_limit" in stats]
    if len(free) < len(memory):
        return WITHOUT_MEMORY_STATS
    fits = int(_SHARE * (min(free) - weight_bytes) / activation_bytes(config, precision))
    # One clip at least: whether it fits is for the device to say.
    return 1 << min(max(fits, 1), MOST).bit_length() - 1
