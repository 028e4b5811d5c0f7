"""From the name of a model to its checkpoint: a path on this machine, a repository on the Hub, or the demo."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from spectra_jax import hub
from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.config_file import read_config
from spectra_jax.checkpoints.encoder_alone import find_encoder
from spectra_jax.checkpoints.family import find_back_end, is_published
from spectra_jax.checkpoints.load import load_model
from spectra_jax.checkpoints.native import FORMAT, read_native
from spectra_jax.convert.pytorch import read_pytorch
from spectra_jax.errors import CheckpointError, ConfigError
from spectra_jax.files.tensor_file import open_tensors
from spectra_jax.hub import CONFIG, WEIGHTS, WEIGHTS_INDEX, Fetched
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.precision import Precision
from spectra_jax.model.spectra import SpectraAASIST3

DEMO = "demo"
_SHARD = re.compile(r".*-\d+-of-\d+\.safetensors")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def open_checkpoint(model: str | Path = hub.PUBLISHED) -> Checkpoint:
    """Find the checkpoint of a model and check the header of its file. The weights are not read yet.

    Args:
      model: a native directory; a PyTorch `.safetensors` file (the `config.json` beside it is used, and without one the
        published architecture with the file's back-end) or a directory with `model.safetensors`, or with several files
        and their `model.safetensors.index.json`; a Hub id `organisation/name` or `organisation/name@revision`; or
        `demo`, the small checkpoint inside this package. A path on this machine takes precedence over the Hub, and the
        name `demo` over both.

    Raises:
      FileNotFoundError: no such path, and not a valid name of a Hub repository.
      CheckpointError, ConfigError, TensorFileError: the files are not a checkpoint of this network.
      HubError: it cannot be downloaded.
    """
    name = str(model)
    if name == DEMO:
        return read_native(Path(__file__).parents[1] / DEMO, DEMO)
    # The published model is known, so that its configuration need not be fetched first.
    if name != hub.PUBLISHED and (encoder := find_encoder(model)) is not None:
        raise encoder.error()
    found = find_weights(model)
    fetched = found.fetched
    checkpoint = _open_file(found.weights, name, published=fetched is not None and is_published(fetched.repo))
    if fetched is None:
        return checkpoint
    # A native checkpoint has a provenance of its own, which these facts replace: they have to belong together.
    origin = {
        "source": name,
        "source_format": checkpoint.provenance.get("format", "pytorch"),
        "source_revision": fetched.revision,
        "source_sha256": fetched.sha256,
    }
    return replace(checkpoint, provenance={**checkpoint.provenance, **origin})


@dataclass(frozen=True)
class FoundWeights:
    """The weights of a model on this machine.

    Attributes:
      weights: the file; of weights in several files, their index.
      fetched: what the Hub gave; None for a path on this machine.
    """

    weights: Path
    fetched: Fetched | None = None


def find_weights(model: str | Path) -> FoundWeights:
    """Find the weights of a model that is a path or a Hub id, and fetch those of a Hub id.

    Raises:
      FileNotFoundError: no such path, and not a valid name of a Hub repository; or a directory without weights.
      HubError: they cannot be fetched.
    """
    path, name = Path(model), str(model)
    if path.is_dir():
        weights = next((path / file for file in (WEIGHTS, WEIGHTS_INDEX) if (path / file).exists()), None)
        if weights is None:
            raise FileNotFoundError(
                f"{path}: the directory holds no {WEIGHTS}; weights are read from safetensors only"
                f"{_advice_on_pickles(path)}"
            )
        return FoundWeights(weights)
    if path.exists():
        return FoundWeights(path)
    looks_like_file = path.suffix == ".safetensors" or name.startswith((".", "/", "~"))
    if looks_like_file or hub.parse(name) is None:
        raise FileNotFoundError(
            f"{name}: no such file or directory. A model is a native directory, a PyTorch file or directory, a Hub id "
            f"such as {hub.PUBLISHED}, or `{DEMO}`"
        )
    fetched = hub.fetch_model(name)
    return FoundWeights(fetched.weights, fetched)


def _advice_on_pickles(directory: Path) -> str:
    """The end of the message about a directory without safetensors: what to do with its pickle, if it has one."""
    pickles = sorted(file.name for file in directory.iterdir() if file.suffix in _PICKLES)
    if not pickles:
        return ""
    return (
        f". Its {pickles[0]} is a pickle, which is never loaded because it can run code: load it with PyTorch where "
        f"you trust it, and save the tensors as {WEIGHTS} with `safetensors.torch.save_file`"
    )


def _open_file(path: Path, name: str, *, published: bool) -> Checkpoint:
    """Open the file of a model. The architecture is known if it is from a published detector's repository."""
    tensors = open_tensors(path)
    if tensors.metadata.get("format") == FORMAT:
        if path.name != WEIGHTS:
            raise CheckpointError(f"{name}: weights in the native format; name the directory that holds {WEIGHTS}")
        return read_native(path.parent, name)
    refuse_shard(path, name)
    config = path.parent / CONFIG
    back_end = find_back_end(tensors.specs) or SpectraConfig().back_end
    architecture = SpectraConfig(back_end=back_end)
    # A broken link is an error.
    if os.path.lexists(config):
        try:
            architecture = read_config(config, back_end)
        except ConfigError:
            if not published:
                raise
    return read_pytorch(path, architecture, name)


def refuse_shard(path: Path, name: str) -> None:
    """Raise a `CheckpointError` if a file is one of several that hold a checkpoint together."""
    if _SHARD.fullmatch(path.name):
        raise CheckpointError(
            f"{name}: one file of a checkpoint that is split into several; give its directory instead, which must also "
            f"hold {WEIGHTS_INDEX}"
        )


def load(model: str | Path = hub.PUBLISHED, precision: Precision | str = "float32") -> SpectraAASIST3:
    """A model, ready to score on the default device: `load("demo")(windows)` gives logits (b, 2).

    Args:
      model: as `open_checkpoint` takes it; the published model otherwise.
      precision: float32, tf32, bfloat16, float16, int8, or float64 (inside `with jax.enable_x64(True):`).
    """
    return load_model(open_checkpoint(model), precision)
