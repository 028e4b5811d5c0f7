"""From a checkpoint to a network with its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx

from spectra_jax.checkpoints.checkpoint import (
    Checkpoint,
    EncoderCheckpoint,
    StoredWeights,
    split_abstract_model,
    variables_by_path,
)
from spectra_jax.devices import local_devices
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.encoder import SpeechEncoder
from spectra_jax.model.precision import Precision
from spectra_jax.model.quantized import quantize_kernel
from spectra_jax.model.spectra import SpectraAASIST3

# A network whose arithmetic has a precision.
Network = TypeVar("Network", SpectraAASIST3, SpeechEncoder)


def load_model(checkpoint: Checkpoint, precision: Precision | str = "float32") -> SpectraAASIST3:
    """The network of a checkpoint, with its weights on the default device.

    With `bfloat16` and `float16`, the weights of the encoder's products have this dtype. With `int8`, those of the
    transformer are quantized here (`spectra_jax.model.quantized`) and the others are bfloat16. `float64` needs x64 here
    as well: `with jax.enable_x64(True):`.

    Raises:
      CheckpointError: the weights are damaged.
      ValueError: float64 without x64, or JAX cannot start its devices.
    """
    local_devices()
    return with_weights(abstract_inference_model(checkpoint.config, precision), checkpoint)


def abstract_inference_model(config: SpectraConfig, precision: Precision | str = "float32") -> SpectraAASIST3:
    """The network that `load_model` returns, with the shape and dtype of each weight in place of the weight.

    A program compiled for it fits the loaded network, so that compilation need not wait for the weights. It differs
    from `spectra_jax.model.spectra.abstract_model`, which is for training, in the narrower weights of the encoder.
    """
    precision = Precision.of(precision)
    graph, state = split_abstract_model(config, precision)
    # The variables of the cached network are shared by all callers.
    state = jax.tree.map(lambda leaf: leaf, state)
    _narrow_operands(state, precision, "encoder.")
    return nnx.merge(graph, state)


def load_encoder(checkpoint: EncoderCheckpoint, precision: Precision | str = "float32") -> SpeechEncoder:
    """The encoder of a checkpoint, with its weights on the default device; raises as `load_model` does."""
    local_devices()
    precision = Precision.of(precision)
    graph, state = nnx.split(SpeechEncoder(checkpoint.config, precision=precision, rngs=None))
    _narrow_operands(state, precision, "")
    return with_weights(nnx.merge(graph, state), checkpoint)


def _narrow_operands(state: nnx.State[Any, Any], precision: Precision, prefix: str) -> None:
    """Give the weights of an encoder's products the dtype of the operands; `prefix` precedes the encoder's paths."""
    for path, variable in variables_by_path(state).items():
        # The positional convolution stays in float32, because some backends compute it so in every precision.
        if path.startswith((f"{prefix}feature_", f"{prefix}layers.")) and path.endswith(".kernel"):
            shape = variable.get_value().shape
            variable.set_value(jax.ShapeDtypeStruct(shape, precision.operand_dtype))


def with_weights(abstract_model: Network, checkpoint: StoredWeights) -> Network:
    """An abstract network with the weights of a checkpoint, in the dtypes of the abstract network.

    Raises:
      CheckpointError: the weights are damaged.
      ValueError: float64 without x64.
    """
    abstract_model.precision.require_mode()
    graph, state = nnx.split(abstract_model)
    variables = variables_by_path(state)
    for path, array in checkpoint:
        if path in variables:
            # Faster than `jnp.asarray`, which compiles some of the conversions.
            variables[path].set_value(jax.device_put(np.asarray(array, variables[path].get_value().dtype)))
        else:
            _set_quantized(variables, path.removesuffix(".kernel"), array)
    return nnx.merge(graph, state)


def _set_quantized(variables: Mapping[str, Any], layer: str, kernel: np.ndarray) -> None:
    """Set the weights of a `QuantizedLinear` by its path."""
    weight, scale = quantize_kernel(kernel)
    variables[f"{layer}.weight"].set_value(jax.device_put(weight))
    variables[f"{layer}.scale"].set_value(jax.device_put(scale))
