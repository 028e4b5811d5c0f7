"""How many clips a device takes at a time, from its memory and the network's configuration."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.functional import split
from spectra_jax.model.precision import Precision
from spectra_jax.model.spectra import SpectraAASIST3

# Devices that do not report their memory are CPUs. There the size hardly matters: two cores score about one clip a
# second with the published network at 1, 2, 4 and 8 clips a batch. A few clips give more cores something to share.
WITHOUT_MEMORY_STATS = 4
# Matrix products of some ten thousand rows occupy any accelerator of today; a larger batch only takes more memory, and
# more padding in the last batch of a run.
MAX_CLIPS_PER_DEVICE = 64
# Arrays of the largest size that are alive at once: a layer's input, the convolution's result, and what the layer norm
# and the GELU compute from it. XLA plans for 3 in float32 and 0.8 in bfloat16 for an NVIDIA H200 and 64 clips of the
# published network; for a CPU, on which the feature extractor runs a few frames at a time, for 0.3 in either. This is
# an estimate because the batch size is needed before the program is compiled whose `memory_analysis` would state it;
# programs for small batches, to extrapolate from, would take as long to compile.
_LIVE_COPIES = 4
# The share of the free memory that the estimate may use. The rest is for what it does not count: the workspace of
# convolutions, the windows and logits of a second batch in flight, and gaps in the heap.
_SHARE = 0.5


def activation_bytes(config: SpectraConfig, precision: Precision) -> int:
    """Approximate memory of one clip on a device while the network runs; everything after the feature extractor is
    small.

    In bfloat16 as much as in float32, since norms and activations are float32 in both. A compiler that fuses them
    needs less.
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
      weight_bytes: of the network, which is not on the devices yet.
      memory: `jax.Device.memory_stats()` of each device, None for one that has none.
    """
    free = [stats["bytes_limit"] - stats["bytes_in_use"] for stats in memory if stats and "bytes_limit" in stats]
    if len(free) < len(memory):
        return WITHOUT_MEMORY_STATS
    fits = int(_SHARE * (min(free) - weight_bytes) / activation_bytes(config, precision))
    # One clip at least: the device reports whether that fits.
    return 1 << min(max(fits, 1), MAX_CLIPS_PER_DEVICE).bit_length() - 1


def total_batch_size(
    requested: int | Literal["auto"],
    network: SpectraAASIST3,
    precision: Precision,
    devices: Sequence[jax.Device],
    num_clips: int | None = None,
) -> int:
    """Clips per call of the network, over all devices: a multiple of the number of devices.

    Args:
      requested: clips over all devices, rounded up; "auto" for `clips_per_device` on each.
      network: shapes are enough.
      precision: of the network.
      devices: that share a batch.
      num_clips: how many there are to score, where that is known: no larger batch than for them.
    """
    if requested == "auto":
        weight_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(split(network)[1:]))
        memory = [device.memory_stats() for device in devices]
        batch_size = len(devices) * clips_per_device(network.config, precision, weight_bytes, memory)
    else:
        batch_size = requested
    if num_clips is not None:
        batch_size = min(batch_size, max(num_clips, 1))
    return -(-batch_size // len(devices)) * len(devices)
