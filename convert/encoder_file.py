"""Reading and writing speech encoders in the format of transformers, without PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from spectra_jax.checkpoints.checkpoint import EncoderCheckpoint, encoder_weight_shapes
from spectra_jax.convert.encoder import POSITIONAL, WEIGHT_NORM, WEIGHT_NORM_OLD, expand_encoder
from spectra_jax.convert.entries import Entry
from spectra_jax.convert.pytorch_file import (
    PyTorchFile,
    canonical_names,
    check_tensors,
    float_dtypes,
    in_file_order,
    parallel_prefix,
    pytorch_tensors,
    stored_tensors,
)
from spectra_jax.files.tensor_file import TensorSpec, open_tensors, write_tensors
from spectra_jax.model.config import EncoderConfig

# The attribute that holds the encoder in a model of transformers with a head, by which its tensors' names begin.
_PREFIXES = ("wav2vec2.", "hubert.", "wavlm.")
# The modules that such a model has besides its encoder.
_HEADS = frozenset(
    {
        *("lm_head", "dropout", "quantizer", "project_hid", "project_q", "dropout_features"),
        *("classifier", "projector", "layer_weights", "tdnn", "objective", "feature_extractor"),
    }
)
_MASK_EMBEDDING = "masked_spec_embed"


def expected_tensors(config: EncoderConfig) -> dict[str, TensorSpec]:
    """Dtype and shape of every tensor of an encoder in transformers, by its name without prefix."""
    return _entries_and_specs(config)[1]


def _entries_and_specs(config: EncoderConfig) -> tuple[list[Entry], dict[str, TensorSpec]]:
    shapes = encoder_weight_shapes(config)
    entries = expand_encoder(config, shapes)
    return entries, stored_tensors(entries, shapes, POSITIONAL, WEIGHT_NORM)


def read_encoder(
    path: str | Path, config: EncoderConfig, name: str | None = None, num_layers: int | None = None
) -> EncoderCheckpoint:
    """Open a speech encoder in the safetensors form of transformers.

    Strict: every tensor of the encoder is used exactly once, every weight is set exactly once, shapes agree; all wrong
    names in a file are reported together. The provenance records the accepted variants:

    | key | what it states |
    | --- | --- |
    | `names_without` | the prefix of the encoder's tensors, such as `wav2vec2.` or `module.` |
    | `heads_ignored` | the heads in the file, such as `lm_head`, which are not read |
    | `source_dtype` | the dtypes of the weights, if some are float16 or bfloat16; they are read as float32 |
    | `spec_augment` | `off`: the configuration has SpecAugment, and the file lacks the embedding of masked frames |
    | `layers` | `N of M`: only the first N layers are read |

    Args:
      path: the `.safetensors` file, or the index of several.
      config: the architecture of the file.
      name: the name of the file in messages and provenance; its path otherwise.
      num_layers: read this many layers only; None for all of them.

    Raises:
      CheckpointError: not the encoder of the configuration. Values are checked while the weights are read.
      TensorFileError, OSError: not a complete safetensors file, or not readable.
      ValueError: `num_layers` is not between 1 and the layers of the file.
    """
    tensors = open_tensors(path)
    name = name or str(path)
    notes: dict[str, str] = {}
    prefix = _prefix(tensors.specs)
    own, heads = _without_heads(tensors.specs, prefix)
    file = PyTorchFile(tensors, canonical_names(own, prefix, WEIGHT_NORM, WEIGHT_NORM_OLD))
    if prefix:
        notes["names_without"] = prefix
    if heads:
        notes["heads_ignored"] = ", ".join(heads)
    if config.has_mask_embedding and _MASK_EMBEDDING not in file.names:
        if config.apply_spec_augment:
            notes["spec_augment"] = "off"
        config = replace(config, mask_time_prob=0.0, mask_feature_prob=0.0)
    entries, specs = _entries_and_specs(config)
    # A file may have the embedding although the configuration has no SpecAugment, as transformers accepts too.
    found = {tensor: spec for tensor, spec in file.specs.items() if tensor != _MASK_EMBEDDING or tensor in specs}
    check_tensors(name, found, specs, config.model_type)
    if num_layers is not None and num_layers != config.num_hidden_layers:
        notes["layers"] = f"{num_layers} of {config.num_hidden_layers}"
        config = first_layers(config, num_layers)
        entries, specs = _entries_and_specs(config)
    dtypes = float_dtypes(file.specs[tensor] for tensor in specs)
    if dtypes != "float32":
        notes["source_dtype"] = dtypes
    return EncoderCheckpoint(
        config,
        {entry.target: file.reader(entry, WEIGHT_NORM) for entry in in_file_order(entries, file, WEIGHT_NORM)},
        name,
        tensors.path,
        provenance={"source": name, "source_format": "transformers", **notes},
    )


def first_layers(config: EncoderConfig, num_layers: int) -> EncoderConfig:
    """The configuration of the first layers of an encoder, as transformers' `num_hidden_layers=num_layers`.

    Raises:
      ValueError: not a number from 1 to the encoder's layers.
    """
    is_whole = isinstance(num_layers, int | np.integer) and not isinstance(num_layers, bool)
    if not is_whole or not 1 <= num_layers <= config.num_hidden_layers:
        raise ValueError(
            f"num_layers = {num_layers!r}, but it must be a whole number from 1 to {config.num_hidden_layers}, the "
            "layers of the encoder"
        )
    return replace(config, num_hidden_layers=int(num_layers))


def _prefix(names: Iterable[str]) -> str:
    """The prefix of the encoder's tensors in a file."""
    names = list(names)
    parallel = parallel_prefix(names)
    bare = [name.removeprefix(parallel) for name in names]
    return parallel + next((prefix for prefix in _PREFIXES if any(name.startswith(prefix) for name in bare)), "")


def _without_heads(names: Iterable[str], prefix: str) -> tuple[list[str], list[str]]:
    """The names in a file without those of heads, and the heads."""
    parallel = parallel_prefix([prefix])
    own, heads = [], set()
    for name in names:
        module = name.removeprefix(parallel).partition(".")[0]
        # Without a prefix, `feature_extractor` is the encoder's own.
        is_head = module in _HEADS and not (name.startswith(prefix) and module == "feature_extractor")
        if is_head:
            heads.add(module)
        else:
            own.append(name)
    return own, sorted(heads)


def write_encoder(
    file: BinaryIO, config: EncoderConfig, weights: Iterable[tuple[str, np.ndarray]], metadata: Mapping[str, str]
) -> None:
    """Write the weights of an encoder, in any order, under the names of transformers, in float32.

    Reading and writing keeps every bit, apart from the weight norm of the positional convolution: see `write_pytorch`.
    """
    entries, specs = _entries_and_specs(config)
    write_tensors(file, specs, pytorch_tensors(weights, entries, specs, WEIGHT_NORM), metadata)
