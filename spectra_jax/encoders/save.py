"""Writing a speech encoder as transformers does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from spectra_jax.checkpoints.checkpoint import variables_by_path
from spectra_jax.checkpoints.encoder_alone import SAMPLE_RATE
from spectra_jax.convert.encoder_file import write_encoder
from spectra_jax.convert.transformers_config import transformers_config
from spectra_jax.encoders.pretrained import PREPROCESSOR
from spectra_jax.errors import CheckpointError, InputError
from spectra_jax.files.atomic import atomic_directory
from spectra_jax.hub import CONFIG, WEIGHTS
from spectra_jax.model.encoder import SpeechEncoder


def save_pretrained(encoder: SpeechEncoder, directory: str | Path) -> None:
    """Write an encoder in the format of transformers: `AutoModel.from_pretrained(directory)` there loads it.

    The directory gets `config.json`, `model.safetensors` and `preprocessor_config.json`, all at once when they are
    complete, or not at all. The weights are written in float32. Reading and writing an encoder keeps every bit of
    float32, float16 and bfloat16 weights, apart from the weight norm of the positional convolution, whose product is
    equal to within one float32 ulp.

    Args:
      encoder: of any precision but `int8`.
      directory: must not exist yet, or be empty.

    Raises:
      CheckpointError: a weight is NaN or infinite; nothing was written.
      ConfigError: transformers lacks an option of the encoder's configuration; nothing was written.
      InputError: the encoder is of the precision `int8`, whose weights are 8-bit integers; nothing was written.
      FileExistsError: the directory is not empty.
      TypeError: not a `SpeechEncoder`.
      OSError: the disk is full or not writable; nothing was written.
    """
    if not isinstance(encoder, SpeechEncoder):
        raise TypeError(
            f"expected a SpeechEncoder, found a {type(encoder).__name__}; of a detector, pass its `encoder`"
        )
    if encoder.precision.quantizes:
        raise InputError("an encoder in int8 cannot be saved: its weights were rounded to 8 bits; load it in float32")
    config = transformers_config(encoder.config)
    with atomic_directory(directory) as partial:
        _write_json(partial / CONFIG, config)
        _write_json(partial / PREPROCESSOR, _feature_extractor(encoder))
        with (partial / WEIGHTS).open("wb") as file:
            write_encoder(file, encoder.config, _finite_weights(encoder, directory), {"format": "pt"})


def _feature_extractor(encoder: SpeechEncoder) -> dict[str, Any]:
    """What `Wav2Vec2FeatureExtractor` of transformers has to do with a waveform before it calls the encoder."""
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": encoder.do_normalize,
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        # The group norm takes its statistics over the padding too, so that those encoders were trained without masks.
        "return_attention_mask": encoder.config.feat_extract_norm == "layer",
        "sampling_rate": SAMPLE_RATE,
    }


def _finite_weights(encoder: SpeechEncoder, directory: str | Path) -> Iterator[tuple[str, np.ndarray]]:
    """The weights by their Flax paths, all of them checked."""
    problems = []
    for path, variable in variables_by_path(nnx.state(encoder, nnx.Param)).items():
        array = np.asarray(variable.get_value())
        array = array if array.dtype == np.float64 else array.astype(np.float32)
        if not_finite := array.size - np.count_nonzero(np.isfinite(array)):
            problems.append(f"{path}: {not_finite:,} of {array.size:,} values are NaN or infinite")
        yield path, array
    if problems:
        raise CheckpointError(f"{directory}: not written, since the encoder has weights that are not finite", problems)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
