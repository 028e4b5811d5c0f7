"""From the name of a speech encoder, or of a detector that has one, to the encoder with its weights."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path

from spectra_jax import hub
from spectra_jax.checkpoints.checkpoint import Checkpoint, EncoderCheckpoint
from spectra_jax.checkpoints.encoder_alone import find_config, is_detector
from spectra_jax.checkpoints.load import load_encoder
from spectra_jax.checkpoints.resolve import DEMO, find_weights, open_checkpoint, refuse_shard
from spectra_jax.convert.encoder_file import first_layers, read_encoder
from spectra_jax.convert.pytorch import has_encoder_only
from spectra_jax.convert.transformers_config import read_encoder_config
from spectra_jax.errors import CheckpointError, ConfigError, NoSafetensorsError
from spectra_jax.files.tensor_file import open_tensors
from spectra_jax.files.untrusted import read_json
from spectra_jax.hub import CONFIG, WEIGHTS
from spectra_jax.model.encoder import SpeechEncoder
from spectra_jax.model.precision import Precision

PREPROCESSOR = "preprocessor_config.json"
"""The file in which transformers states how a waveform is prepared for an encoder."""
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_DETECTOR_PREFIX = "encoder."


def from_pretrained(
    name_or_path: str | Path,
    precision: Precision | str = "float32",
    num_layers: int | None = None,
    do_normalize: bool | None = False,
) -> SpeechEncoder:
    """A pretrained speech encoder, with its weights on the default device.

    Args:
      name_or_path: a directory or Hub id (`organisation/name` or `organisation/name@revision`) of an encoder in the
        format of transformers, with or without a head; its `.safetensors` file, with the `config.json` beside it; or a
        detector, as `spectra_jax.load` takes it, whose encoder is taken. A path takes precedence over the Hub.
      precision: as for `spectra_jax.load`. `float64` needs x64: `with jax.enable_x64(True):`.
      num_layers: only the first N layers, as `num_hidden_layers=N` of transformers; the weights of later layers are
        not read. The final norm of a pre-norm encoder (`do_stable_layer_norm`) then follows layer N.
        `encoder.hidden_states(x)[N]` of the complete encoder is the output of layer N without that norm.
      do_normalize: whether the encoder normalizes each waveform to zero mean and unit variance. None: what the
        `preprocessor_config.json` beside the weights states. By default the waveform is taken as it is, as the models
        of transformers do.

    Warns:
      UserWarning: the configuration has SpecAugment, but the weights lack the embedding of masked frames. SpecAugment
        is then off. What else was left out of the file, such as heads, is in `open_encoder(...).provenance`.

    Raises:
      FileNotFoundError: no such path, and not a valid name of a Hub repository.
      CheckpointError: the weights are not those of the configuration, or damaged, or there is only a pickle.
      ConfigError: another kind of model, or an option that this package lacks.
      TensorFileError, HubError, OSError: a file is not valid, or cannot be fetched or read.
      ValueError: no such precision, number of layers or `do_normalize`; float64 without x64.
    """
    precision = Precision.of(precision)
    precision.require_mode()
    if not isinstance(do_normalize, bool | None):
        raise ValueError(f"do_normalize = {do_normalize!r}, but it must be True, False or None")
    checkpoint = open_encoder(name_or_path, num_layers)
    normalize = _read_do_normalize(checkpoint) if do_normalize is None else do_normalize
    if checkpoint.provenance.get("spec_augment") == "off":
        warnings.warn(
            f"{checkpoint.name}: the configuration has SpecAugment, but the weights have no masked_spec_embed to put "
            "in place of masked frames; SpecAugment is off",
            stacklevel=2,
        )
    encoder = load_encoder(checkpoint, precision)
    encoder.do_normalize = normalize
    return encoder


def open_encoder(name_or_path: str | Path, num_layers: int | None = None) -> EncoderCheckpoint:
    """Find the checkpoint of an encoder and check the header of its file. The weights are not read yet.

    Arguments and errors are those of `from_pretrained`. The `provenance` of the result states where it came from and
    which parts of the file are not read: see `spectra_jax.convert.encoder_file.read_encoder`.
    """
    name = str(name_or_path)
    config = None if name in (hub.PUBLISHED, DEMO) else find_config(name_or_path)
    if config is None or is_detector(config):
        return _of_detector(_open_detector(name_or_path), num_layers)
    try:
        found = find_weights(name_or_path)
    except FileNotFoundError as error:
        if any((Path(name_or_path) / pickle).exists() for pickle in _PICKLES):
            raise CheckpointError(_advice_on_pickle(name)) from error
        raise
    except NoSafetensorsError as error:
        raise CheckpointError(_advice_on_pickle(name)) from error
    refuse_shard(found.weights, name)
    checkpoint = read_encoder(found.weights, read_encoder_config(found.weights.parent / CONFIG), name, num_layers)
    if found.fetched is None:
        return checkpoint
    origin = {"source_revision": found.fetched.revision, "source_sha256": found.fetched.sha256}
    return replace(checkpoint, provenance={**checkpoint.provenance, **origin})


def _open_detector(model: str | Path) -> Checkpoint:
    """The checkpoint of a detector; an encoder without a `config.json` is reported as such."""
    path = Path(model)
    if path.exists() and str(model) != DEMO:
        weights = find_weights(model).weights
        has_config = os.path.lexists(weights.parent / CONFIG)
        if not has_config and has_encoder_only(open_tensors(weights).specs):
            raise CheckpointError(
                f"{model}: the tensors of a speech encoder, but there is no {CONFIG} beside them, which states its "
                "architecture. Put the one of transformers there"
            )
    try:
        return open_checkpoint(model)
    except FileNotFoundError as error:
        if path.exists():
            raise
        raise FileNotFoundError(
            f"{model}: no such file or directory. An encoder is a directory or a Hub id in the format of transformers, "
            f"such as facebook/wav2vec2-xls-r-300m, or a detector, whose encoder is taken"
        ) from error


def _of_detector(checkpoint: Checkpoint, num_layers: int | None) -> EncoderCheckpoint:
    """The encoder of a detector, without its back-end."""
    config = checkpoint.config.encoder
    notes = {"part": "the encoder of a detector"}
    if num_layers is not None and num_layers != config.num_hidden_layers:
        notes["layers"] = f"{num_layers} of {config.num_hidden_layers}"
        config = first_layers(config, num_layers)
    kept = {
        path.removeprefix(_DETECTOR_PREFIX): read
        for path, read in checkpoint.read.items()
        if path.startswith(_DETECTOR_PREFIX)
    }
    later = tuple(f"layers.{index}." for index in range(config.num_hidden_layers, len(kept)))
    return EncoderCheckpoint(
        config,
        {path: read for path, read in kept.items() if not path.startswith(later)},
        checkpoint.name,
        checkpoint.weights,
        provenance={**checkpoint.provenance, **notes},
    )


def _advice_on_pickle(name: str) -> str:
    """The message about weights that are a pickle only, with the lines of Python that convert them."""
    repo, revision = hub.parse(name) or (name, None)
    is_local = Path(name).exists()
    source = repr(name) if is_local or revision is None else f"{repo!r}, revision={revision!r}"
    directory = f"{Path(repo).name}-safetensors"
    return (
        f"{name}: has no {WEIGHTS}. Weights in {_PICKLES[0]} or the like are pickles, which are never loaded because "
        "they can run code. Convert them with transformers where you trust it, and load the new directory:\n"
        "  from transformers import AutoFeatureExtractor, AutoModel\n"
        f"  AutoModel.from_pretrained({source}).save_pretrained({directory!r})\n"
        f"  AutoFeatureExtractor.from_pretrained({source}).save_pretrained({directory!r})"
    )


def _read_do_normalize(checkpoint: EncoderCheckpoint) -> bool:
    """Whether the `preprocessor_config.json` of an encoder states that its waveforms are normalized.

    Raises:
      FileNotFoundError, HubError: there is no such file.
      ConfigError: it is not valid.
    """
    path = checkpoint.weights.parent / PREPROCESSOR
    revision = checkpoint.provenance.get("source_revision")
    if not path.exists() and revision is not None and (parsed := hub.parse(checkpoint.name)) is not None:
        path = hub.fetch_file(parsed[0], revision, PREPROCESSOR)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no such file, which states whether waveforms are normalized; pass do_normalize=True or False"
        )
    try:
        values = read_json(path)
    except ValueError as error:
        raise ConfigError(f"{path}: not a JSON file of a feature extractor ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a JSON object, found {values!r:.100}")
    # transformers normalizes if the file does not state it.
    normalize = values.get("do_normalize", True)
    if not isinstance(normalize, bool):
        raise ConfigError(f"{path}: do_normalize = {normalize!r:.100}, but it must be true or false")
    return normalize
