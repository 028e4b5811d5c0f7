"""ECAPA-TDNN: frame features -> dilated convolutions over time -> attentive pooling of the frames -> two logits.

Source: Desplanques, Thienpondt, Demuynck, "ECAPA-TDNN: Emphasized Channel Attention, Propagation and Aggregation in
TDNN Based Speaker Verification" (2020). Where the published detector `lab260/spectra_0` differs from the paper, this is
the published one, as the code that it comes with states: every batch norm follows its activation, a block takes the sum
of all earlier outputs, the attention has a batch norm between ReLU and tanh, and the last layer gives logits.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jaxtyping import Float

from spectra_jax.model.back_ends import build_head
from spectra_jax.model.config import ECAPAConfig, SpectraConfig
from spectra_jax.model.hooks import StageHook, no_hook
from spectra_jax.model.norms import BatchNorm
from spectra_jax.model.parameters import initial_value, uniform_fan_in
from spectra_jax.model.precision import Precision

# The smallest variance whose root is taken; fixed in the reference.
_VARIANCE_FLOOR = 1e-4


class TemporalConv(nnx.Module):
    """A convolution over time that keeps the number of frames; kernel (taps, in, out), an odd number of taps.

    It is computed as one matrix product over the frames that the taps see: in this network the taps are few and far
    apart, and the channels of a dilated convolution are few.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        taps: int = 1,
        dilation: int = 1,
        *,
        precision: Precision,
        rngs: nnx.Rngs | None,
    ):
        init = uniform_fan_in(taps * in_channels)
        shape = (taps, in_channels, out_channels)
        self.kernel = nnx.Param(initial_value(rngs, init, shape, precision.dtype))
        self.bias = nnx.Param(initial_value(rngs, init, (out_channels,), precision.dtype))
        self.dilation = dilation
        self.precision = precision

    def __call__(self, x: Float[Array, "batch time inputs"]) -> Float[Array, "batch time outputs"]:
        taps, _, out_channels = self.kernel[...].shape
        reach = taps // 2 * self.dilation
        padded = jnp.pad(x, ((0, 0), (reach, reach), (0, 0)))
        starts = range(0, taps * self.dilation, self.dilation)
        seen = jnp.concatenate([padded[:, start : start + x.shape[1]] for start in starts], axis=-1)
        return self.precision.dot(seen, self.kernel[...].reshape(-1, out_channels)) + self.bias[...]


class NormedConv(nnx.Module):
    """A convolution over time, ReLU, batch norm."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        taps: int = 1,
        dilation: int = 1,
        *,
        precision: Precision,
        rngs: nnx.Rngs | None,
    ):
        self.conv = TemporalConv(in_channels, out_channels, taps, dilation, precision=precision, rngs=rngs)
        self.norm = BatchNorm(out_channels, precision=precision, rngs=rngs)

    def __call__(self, x: Float[Array, "batch time inputs"]) -> Float[Array, "batch time outputs"]:
        return self.norm(jax.nn.relu(self.conv(x)))


class SqueezeExcitation(nnx.Module):
    """Scales each channel by a gate between 0 and 1, which depends on the means of all channels over time."""

    def __init__(self, config: ECAPAConfig, *, precision: Precision, rngs: nnx.Rngs | None):
        conv = functools.partial(TemporalConv, precision=precision, rngs=rngs)
        self.squeeze = conv(config.channels, config.squeeze_channels)
        self.excite = conv(config.squeeze_channels, config.channels)

    def __call__(self, x: Float[Array, "batch time channels"]) -> Float[Array, "batch time channels"]:
        mean = jnp.mean(x, axis=1, keepdims=True)
        return x * jax.nn.sigmoid(self.excite(jax.nn.relu(self.squeeze(mean))))


class SERes2Block(nnx.Module):
    """Dilated convolutions of groups of channels, each of which also takes the result of the group before.

    The last group is passed on as it is. Pointwise convolutions before and after mix the groups; squeeze and excitation
    and a shortcut follow.
    """

    def __init__(self, config: ECAPAConfig, dilation: int, *, precision: Precision, rngs: nnx.Rngs | None):
        conv = functools.partial(NormedConv, precision=precision, rngs=rngs)
        width = config.channels // config.scale
        self.first = conv(config.channels, config.channels)
        self.groups = nnx.List(conv(width, width, config.kernel_size, dilation) for _ in range(config.scale - 1))
        self.last = conv(config.channels, config.channels)
        self.squeeze_excitation = SqueezeExcitation(config, precision=precision, rngs=rngs)

    def __call__(self, x: Float[Array, "batch time channels"]) -> Float[Array, "batch time channels"]:
        *groups, unchanged = jnp.split(self.first(x), len(self.groups) + 1, axis=-1)
        results: list[Array] = []
        for convolve, group in zip(self.groups, groups, strict=True):
            results.append(convolve(group + results[-1] if results else group))
        y = self.last(jnp.concatenate([*results, unchanged], axis=-1))
        return self.squeeze_excitation(y) + x


class AttentiveStatisticsPooling(nnx.Module):
    """The mean and the standard deviation of each channel over time, weighted by an attention for each channel.

    The attention sees each frame beside the plain statistics of the clip, its context.
    """

    def __init__(self, channels: int, inner_channels: int, *, precision: Precision, rngs: nnx.Rngs | None):
        self.attention_in = NormedConv(3 * channels, inner_channels, precision=precision, rngs=rngs)
        self.attention_out = TemporalConv(inner_channels, channels, precision=precision, rngs=rngs)

    def __call__(self, x: Float[Array, "batch time channels"]) -> Float[Array, "batch 2*channels"]:
        mean = jnp.mean(x, axis=1, keepdims=True)
        # The unbiased variance, as `torch.var` computes it.
        variance = jnp.sum(jnp.square(x - mean), axis=1, keepdims=True) / (x.shape[1] - 1)
        context = [jnp.broadcast_to(each, x.shape) for each in (mean, _root(variance))]
        scores = self.attention_out(jnp.tanh(self.attention_in(jnp.concatenate([x, *context], axis=-1))))
        weights = jax.nn.softmax(scores, axis=1)
        weighted_mean = jnp.sum(weights * x, axis=1, keepdims=True)
        # Around the mean: the reference subtracts the mean's square from that of the frames, and float32 loses digits.
        weighted_variance = jnp.sum(weights * jnp.square(x - weighted_mean), axis=1)
        return jnp.concatenate([weighted_mean[:, 0], _root(weighted_variance)], axis=-1)


def _root(variance: Array) -> Array:
    """The standard deviation, of a variance of at least `_VARIANCE_FLOOR`; its gradient is zero below."""
    return jnp.sqrt(jnp.maximum(variance, _VARIANCE_FLOOR))


class ECAPATDNN(nnx.Module):
    """Frame features -> logits: spoof, bona fide. The back-end `ecapa-tdnn`.

    It ranks nothing, so that no scores are near a tie.
    """

    def __init__(self, config: SpectraConfig, *, precision: Precision | str = "float32", rngs: nnx.Rngs | None):
        precision = Precision.of(precision)
        sizes = config.ecapa
        channels, aggregated = sizes.channels, sizes.aggregation_channels
        self.first = NormedConv(config.bridge_dim, channels, sizes.kernel_size + 2, precision=precision, rngs=rngs)
        self.blocks = nnx.List(
            SERes2Block(sizes, dilation, precision=precision, rngs=rngs) for dilation in sizes.dilations
        )
        self.aggregation = TemporalConv(len(self.blocks) * channels, aggregated, precision=precision, rngs=rngs)
        self.pooling = AttentiveStatisticsPooling(aggregated, sizes.attention_channels, precision=precision, rngs=rngs)
        self.norm = BatchNorm(2 * aggregated, precision=precision, rngs=rngs)
        self.head = build_head(2 * aggregated, config, precision=precision, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch frames bridge_dim"], *, rngs: nnx.Rngs | None = None, hook: StageHook = no_hook
    ) -> Float[Array, "batch 2"]:
        """Classify frame features, at least two frames; `rngs` is not used, since there is no dropout."""
        del rngs
        total = hook("ecapa.first", self.first(x))
        outputs = []
        for number, block in enumerate(self.blocks, start=1):
            outputs.append(hook(f"ecapa.layer{number}", block(total)))
            total = total + outputs[-1]
        # Named as in the reference, where the aggregation is the layer after the blocks.
        x = hook(f"ecapa.layer{len(outputs) + 1}", self.aggregation(jnp.concatenate(outputs, axis=-1)))
        pooled = hook("ecapa.pooled", self.norm(self.pooling(jax.nn.relu(x))))
        return hook("logits", self.head(pooled))
