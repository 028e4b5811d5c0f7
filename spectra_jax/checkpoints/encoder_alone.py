"""What a checkpoint of a speech encoder alone is, from its `config.json`; commands that need a detector report it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectra_jax import hub
from spectra_jax.checkpoints.checkpoint import encoder_weight_shapes
from spectra_jax.convert.pytorch_file import float_dtypes
from spectra_jax.convert.transformers_config import encoder_config, is_encoder
from spectra_jax.errors import CheckpointError, ConfigError
from spectra_jax.files.tensor_file import open_tensors
from spectra_jax.files.untrusted import read_json
from spectra_jax.hub import CONFIG, WEIGHTS, WEIGHTS_INDEX
from spectra_jax.model.config import MODEL_TYPE, EncoderConfig

SAMPLE_RATE = 16000
"""Of the waveforms that every published encoder of the family takes."""
_KINDS = {"wav2vec2": "wav2vec 2.0", "hubert": "HuBERT", "wavlm": "WavLM"}


@dataclass(frozen=True)
class EncoderSummary:
    """A speech encoder's configuration, and what messages call it.

    Attributes:
      name: as the user gave it.
      config: the architecture; None where `problem` says why it cannot be loaded.
      model_type: `wav2vec2`, `hubert` or `wavlm`.
      dtype: of the weights, as the file's header or the configuration states it; None where neither does.
      problem: why the encoder cannot be loaded; None for one that can.
    """

    name: str
    config: EncoderConfig | None
    model_type: str
    dtype: str | None
    problem: str | None = None

    @property
    def kind(self) -> str:
        """The name of the architecture, such as `HuBERT`."""
        return _KINDS[self.model_type]

    @property
    def num_parameters(self) -> int:
        """Of the encoder, without heads."""
        return 0 if self.config is None else count_parameters(self.config)

    def error(self) -> CheckpointError:
        """The error of a command that needs a complete detector."""
        size = (
            f", {self.config.num_hidden_layers} layers of width {self.config.hidden_size:,}, "
            f"{self.num_parameters:,} parameters"
            if self.config is not None
            else ""
        )
        return CheckpointError(
            f"{self.name}: a speech encoder alone ({self.kind}{size}), without the back-end that classifies speech as "
            f"bona fide or spoof. Its hidden states: `spectra_jax.encoders.from_pretrained({self.name!r})` in Python. "
            f"A new detector that starts from it: `spectra-jax train --encoder {self.name}`"
        )


def count_parameters(config: EncoderConfig) -> int:
    """The number of an encoder's parameters. PyTorch's weight norm has one more for each position of its kernel."""
    return sum(math.prod(shape.shape) for shape in encoder_weight_shapes(config).values())


def find_config(model: str | Path) -> Path | None:
    """The `config.json` of a model: beside its weights, or in its Hub repository; None if there is none.

    Of a Hub repository, only the `config.json` is fetched.

    Args:
      model: a directory, a file, or a Hub id, as for `spectra_jax.load`.

    Raises:
      HubError: the configuration cannot be fetched.
    """
    path, name = Path(model), str(model)
    if path.exists():
        config = (path if path.is_dir() else path.parent) / CONFIG
        return config if config.exists() else None
    looks_like_file = path.suffix == ".safetensors" or name.startswith((".", "/", "~"))
    return None if looks_like_file or hub.parse(name) is None else hub.fetch_config(name)


def is_detector(config: Path) -> bool:
    """Whether a `config.json` does not state a kind of model other than the detector."""
    values = _read(config)
    return not isinstance(values, dict) or values.get("model_type", MODEL_TYPE) == MODEL_TYPE


def find_encoder(model: str | Path) -> EncoderSummary | None:
    """What a model is, if it is a speech encoder alone by its `config.json`; None if it is not, or has none.

    Arguments and errors are those of `find_config`.
    """
    config_path = find_config(model)
    values = None if config_path is None else _read(config_path)
    if values is None or not is_encoder(values):
        return None
    name, model_type = str(model), values["model_type"]
    dtype = _dtype(values, Path(model))
    try:
        return EncoderSummary(name, encoder_config(values), model_type, dtype)
    except ConfigError as error:
        return EncoderSummary(name, None, model_type, dtype, str(error))


def _read(config: Path) -> Any:
    """The content of a `config.json`; None if it cannot be read, which whoever needs the configuration reports."""
    try:
        return read_json(config)
    except (OSError, ValueError):
        return None


def _dtype(values: dict[str, Any], model: Path) -> str | None:
    """The dtypes of a checkpoint's tensors, or the one that its configuration states."""
    files = (model / WEIGHTS, model / WEIGHTS_INDEX) if model.is_dir() else (model,)
    for file in files:
        if file.exists():
            try:
                return float_dtypes(open_tensors(file).specs.values()) or None
            except (OSError, ValueError):
                return None  # whoever reads the weights reports this
    stated = values.get("dtype", values.get("torch_dtype"))
    return stated if isinstance(stated, str) else None
