"""Settings and data that several tests share."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import jax
import numpy as np
import pytest

from spectra_jax import cli
from spectra_jax.checkpoints.native import Checkpoint
from spectra_jax.convert import read_pytorch
from spectra_jax.model.config import SpectraConfig
from tests.golden import recipe

# A promotion that nobody wrote down is how a float32 network turns float64, or the reverse.
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Many tests compile the same small networks, in this process and in ones they start: each is compiled once a run.
_cache = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", mkdtemp(prefix="spectra-jax-tests-"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
jax.config.update("jax_compilation_cache_dir", _cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would the programs that they interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

GOLDEN = Path(__file__).parent / "golden"


def spectra(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command line in this process; the exit status."""
    monkeypatch.setattr(sys, "argv", ["spectra-jax", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code or 0


def expected(network: str) -> dict:
    """`expected.json` of a golden folder."""
    return json.loads((GOLDEN / network / "expected.json").read_text())


def golden_windows(waveforms: list[dict]) -> np.ndarray:
    """The windows (n, 64600) of golden waveforms, each given by its seed and length."""
    return np.stack([recipe.preprocess(recipe.waveform(row["seed"], row["samples"])) for row in waveforms])


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Checkpoint:
    """The tiny golden network, read from its PyTorch file."""
    folder = GOLDEN / "tiny"
    return read_pytorch(folder / "model.safetensors", SpectraConfig.from_json(folder / "config.json"))


@pytest.fixture(scope="session")
def full_pytorch_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkpoint of the published size and names, with the recipe's seeded weights: 1.28 GB, gone afterwards."""
    path = tmp_path_factory.mktemp("full") / "model.safetensors"
    recipe.write_full_checkpoint(path)
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def full_checkpoint(full_pytorch_file: Path) -> Checkpoint:
    """The full golden network."""
    return read_pytorch(full_pytorch_file, SpectraConfig())


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no login, whatever this machine has. The client reads its environment at import only."""
    import huggingface_hub
    from huggingface_hub import constants as client

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(client, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(client, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(client, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.close_session()  # so that the next one sees NO_PROXY
    return tmp_path / "cache"


# The files that take minutes. Where workers share the tests by file, these go first, so that none waits for another.
_LONG = ("step", "verification", "gradients", "golden", "bulk", "ray", "devices", "oracle_live", "convert", "cli")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = [f"test_{name}" for name in _LONG]
    items.sort(key=lambda item: names.index(item.path.stem) if item.path.stem in names else len(names))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave no cache behind that this run made. Workers share the one of the run that started them."""
    if not hasattr(config, "workerinput") and Path(_cache).name.startswith("spectra-jax-tests-"):
        shutil.rmtree(_cache, ignore_errors=True)
