"""The speech encoder: waveforms to hidden states.

Source: Baevski et al., "wav2vec 2.0" (2020); Hsu et al., "HuBERT" (2021); Babu et al., "XLS-R" (2021); Chen et al.,
"WavLM" (2022). Agrees with `Wav2Vec2Model`, `HubertModel` and `WavLMModel` of Hugging Face's transformers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax
from jax.nn import initializers
from jaxtyping import Bool, Float, Integer, PRNGKeyArray

from spectra_jax.model.config import EncoderConfig
from spectra_jax.model.encoder.attention import RelativePositionBias
from spectra_jax.model.encoder.augment import dropout, span_mask, split_key
from spectra_jax.model.encoder.features import FeatureExtractor, FeatureProjection
from spectra_jax.model.encoder.frames import frame_mask, normalize_waveform
from spectra_jax.model.encoder.transformer import PositionalConvolution, TransformerLayer, run_layer
from spectra_jax.model.hooks import StageHook, no_hook
from spectra_jax.model.norms import LayerNorm
from spectra_jax.model.parameters import initial_value
from spectra_jax.model.precision import Precision
from spectra_jax.model.quantized import QuantizedWeight
from spectra_jax.model.symbolic import is_outside, num_frames


class SpeechEncoder(nnx.Module):
    """A speech encoder of the wav2vec 2.0 family: waveforms (batch, samples) -> (batch, frames, hidden).

    The encoder evaluates until `train()` is called. Then the dropouts, `layerdrop` and SpecAugment of the configuration
    take effect, and each call needs `rngs=nnx.Rngs(dropout=key)` unless all their rates are 0. `layerdrop` skips a
    layer for the complete batch with `lax.cond`, which saves its time on a device (inside `jax.vmap` over keys, both
    branches are computed). The first layer of WavLM is never skipped, as in transformers.

    Attributes:
      config, precision: as given.
      remat: whether a backward pass computes the layers again instead of storing their intermediate values.
      do_normalize: whether each waveform is first normalized (`normalize_waveform`). False at the start: the waveform
        is taken as it is, as the models of transformers do.
      masked_spec_embed: the vector that SpecAugment puts in place of masked frames; None if the configuration masks
        neither frames nor features.
    """

    def __init__(self, config: EncoderConfig, *, precision: Precision | str = "float32", rngs: nnx.Rngs | None):
        precision = Precision.of(precision)
        self.feature_extractor = FeatureExtractor(config, precision=precision, rngs=rngs)
        self.feature_projection = FeatureProjection(config, precision=precision, rngs=rngs)
        self.positional_convolution = PositionalConvolution(config, precision=precision, rngs=rngs)
        # Separate layers rather than a scan over stacked weights: slicing the weights costs more time on a CPU than
        # the longer compilation.
        self.layers = nnx.List(
            TransformerLayer(config, precision=precision, rngs=rngs) for _ in range(config.num_hidden_layers)
        )
        self.norm = LayerNorm(config.hidden_size, config.layer_norm_eps, precision=precision, rngs=rngs)
        self.relative_position_bias = (
            RelativePositionBias(config, precision=precision, rngs=rngs) if config.model_type == "wavlm" else None
        )
        self.masked_spec_embed = (
            nnx.Param(initial_value(rngs, initializers.uniform(1.0), (config.hidden_size,), precision.dtype))
            if config.has_mask_embedding
            else None
        )
        self.config = config
        self.precision = precision
        self.remat = False
        self.do_normalize = False
        self.deterministic = True

    def __call__(
        self,
        x: Float[Array | np.ndarray, "batch samples"],
        lengths: Integer[Array | np.ndarray, " batch"] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        hook: StageHook = no_hook,
    ) -> Float[Array, "batch frames hidden"]:
        """Encode waveforms; the last hidden state.

        With `lengths`, padded frames are set to zero before the positional convolution and are not attended to, as with
        an attention mask in transformers; their own outputs have no meaning. Padding then never changes the valid
        frames of an encoder with `feat_extract_norm="layer"`. With "group", as in wav2vec2-base and HuBERT base, the
        first norm takes its statistics over the padding too, which changes them, as it does in transformers.

        Args:
          x: float waveforms, at 16 kHz for the published weights, padded at the end.
          lengths: samples of each clip before padding; by default, all are valid. May be traced: then a length below
            one frame is not reported, and the outputs of this clip are finite, but have no meaning.
          rngs: the stream `dropout`, needed after `train()` only.
          hook: called with the stages `ssl.*`, and may replace them.

        Raises:
          ValueError: other axes or not floating-point; a clip that is too short for one frame or longer than `x`;
            `rngs` is needed and lacks the stream `dropout`.
        """
        return self._encode(x, lengths, rngs, hook)[-1]

    def hidden_states(
        self,
        x: Float[Array | np.ndarray, "batch samples"],
        lengths: Integer[Array | np.ndarray, " batch"] | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> tuple[Float[Array, "batch frames hidden"], ...]:
        """The input of the first layer, then the output of each layer: `num_hidden_layers + 1` hidden states.

        The last one is that of a call, so that it has been normalized in a pre-norm encoder
        (`do_stable_layer_norm`). This is `output_hidden_states=True` of transformers, whose releases from version 5
        leave the norm of the last one out. Arguments and errors are those of a call.
        """
        return tuple(self._encode(x, lengths, rngs, no_hook))

    def _encode(
        self, x: Array | np.ndarray, lengths: Array | np.ndarray | None, rngs: nnx.Rngs | None, hook: StageHook
    ) -> list[Array]:
        """All hidden states."""
        config = self.config
        # Lists and tensors of other libraries become arrays.
        x = x if isinstance(x, jax.Array) else np.asarray(x)
        lengths = lengths if lengths is None or isinstance(lengths, jax.Array) else np.asarray(lengths)
        self._check_shapes(x, lengths)
        projection_key, augment_key, input_key, layer_key = split_key(self._key(rngs), 4)
        x = jnp.asarray(x, self.precision.dtype)
        if self.do_normalize:
            x = normalize_waveform(x, lengths)
        x = hook("ssl.feature_extractor", self.feature_extractor(x))
        mask = None if lengths is None else frame_mask(config, lengths, x.shape[1])
        x = hook("ssl.feature_projection", self.feature_projection(x, projection_key))
        if augment_key is not None and config.apply_spec_augment:
            x = self._augment(x, mask, augment_key)
        if mask is not None:
            x = jnp.where(mask[..., None], x, 0)
        x = x + hook("ssl.pos_conv_embed", self.positional_convolution(x))
        if not config.do_stable_layer_norm:
            x = self.norm(x)
        states = self._run_layers(dropout(x, config.hidden_dropout, input_key), mask, layer_key, hook)
        if config.do_stable_layer_norm:
            states[-1] = self.norm(states[-1])
        states[-1] = hook("ssl.last_hidden_state", states[-1])
        return states

    def _run_layers(self, x: Array, mask: Array | None, key: PRNGKeyArray | None, hook: StageHook) -> list[Array]:
        """The input of the first layer and the output of each."""
        states = [x]
        bias = None if self.relative_position_bias is None else self.relative_position_bias(x.shape[1])
        for index, layer in enumerate(self.layers):
            key, layer_key, drop_key = split_key(key, 3)
            optional = {"mask": mask, "position_bias": bias, "key": layer_key}
            # A layer of a class of the user's own may take fewer arguments.
            context = {name: value for name, value in optional.items() if value is not None}
            run = self._runner(layer)
            is_first_of_wavlm = index == 0 and bias is not None
            if drop_key is not None and self.config.layerdrop > 0 and not is_first_of_wavlm:
                run = functools.partial(_run_or_skip, run, jax.random.bernoulli(drop_key, self.config.layerdrop))
            states.append(hook(f"ssl.layer{index}", run(states[-1], **context)))
        return states

    def _runner(self, layer: TransformerLayer) -> Callable[..., Array]:
        graph, weights, *others = nnx.split(layer, (nnx.Param, QuantizedWeight), ...)
        # A layer of a class of the user's own may hold and change other state, which `run_layer` would lose.
        run = layer if jax.tree.leaves(others) else functools.partial(run_layer, graph, weights)
        return jax.checkpoint(run) if self.remat else run

    def _augment(
        self, x: Float[Array, "batch frames hidden"], mask: Bool[Array, "batch frames"] | None, key: PRNGKeyArray
    ) -> Float[Array, "batch frames hidden"]:
        """SpecAugment: spans of frames become `masked_spec_embed`, then spans of features become zeros."""
        config, (batch, frames, hidden) = self.config, x.shape
        time_key, feature_key = jax.random.split(key)
        if config.mask_time_prob > 0 and self.masked_spec_embed is not None:
            lengths = jnp.full(batch, frames, jnp.int32) if mask is None else jnp.sum(mask, axis=1, dtype=jnp.int32)
            masked = span_mask(
                time_key,
                lengths,
                frames,
                probability=config.mask_time_prob,
                span=config.mask_time_length,
                min_spans=config.mask_time_min_masks,
            )
            x = jnp.where(masked[..., None], self.masked_spec_embed[...], x)
        if config.mask_feature_prob > 0:
            masked = span_mask(
                feature_key,
                jnp.full(batch, hidden, jnp.int32),
                hidden,
                probability=config.mask_feature_prob,
                span=config.mask_feature_length,
                min_spans=config.mask_feature_min_masks,
            )
            x = jnp.where(masked[:, None, :], 0, x)
        return x

    def _key(self, rngs: nnx.Rngs | None) -> PRNGKeyArray | None:
        """A key for one training pass; None in evaluation, or if nothing in the configuration is random."""
        config = self.config
        rates = [config.hidden_dropout, config.attention_dropout, config.activation_dropout]
        rates += [config.feat_proj_dropout, config.layerdrop]
        if config.apply_spec_augment:
            rates += [config.mask_time_prob, config.mask_feature_prob]
        if self.deterministic or not any(rates):
            return None
        if rngs is None or not hasattr(rngs, "dropout"):
            found = "" if rngs is None else f"; found {rngs!r:.100}, which has no stream `dropout`"
            raise ValueError(
                "the encoder is in training mode and its configuration has dropout, layerdrop or SpecAugment: pass "
                f"rngs=nnx.Rngs(dropout=key), or call eval() first{found}"
            )
        key: PRNGKeyArray = rngs.dropout()
        return key

    def _check_shapes(self, x: Array | np.ndarray, lengths: Array | np.ndarray | None) -> None:
        if x.ndim != 2:
            raise ValueError(f"expected waveforms of shape (batch, samples), found {x.shape}")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                f"expected waveforms of floating-point samples, found {x.dtype}; divide 16-bit samples by 32768"
            )
        shortest = self.config.num_samples(1)
        if is_outside(num_frames(self.config, x.shape[1]), 1):
            raise ValueError(
                f"a waveform of {x.shape[1]} samples is too short: the encoder needs at least "
                f"{shortest} samples for one frame"
            )
        if lengths is None:
            return
        if lengths.shape != x.shape[:1] or not jnp.issubdtype(lengths.dtype, jnp.integer):
            raise ValueError(
                f"lengths must be one whole number of samples for each of the {x.shape[0]} waveforms, found shape "
                f"{lengths.shape} of {lengths.dtype}"
            )
        if isinstance(lengths, jax.core.Tracer):
            return
        for index, length in enumerate(np.asarray(lengths).tolist()):
            if not shortest <= length <= x.shape[1]:
                raise ValueError(
                    f"lengths[{index}] = {length}, but it must be {shortest} (the samples of one frame) to "
                    f"{x.shape[1]} (the samples of the waveform)"
                )


def _run_or_skip(run: Callable[..., Array], skip: Array, x: Array, **context: Array) -> Array:
    """`run` unless `skip`, which may be traced."""
    result: Array = lax.cond(skip, lambda: x, lambda: run(x, **context))
    return result
