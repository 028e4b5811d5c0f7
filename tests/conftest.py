"""Settings and data that tests of several folders use."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import jax
import jaxtyping
import numpy as np
import pytest

# Every call in these modules is checked against its annotations, shapes included. They must not be imported before.
# (`model.config` is not among them, since beartype does not know `Self`.)
_SHAPES_CHECKED = [
    *("audio", "checkpoints", "convert", "encoders", "verification"),
    *(f"inference.{name}" for name in ("batching", "decoding", "scorer", "windows")),
    *(f"model.{name}" for name in ("aasist", "activations", "conv", "fold", "graph", "kan", "linear", "norms")),
    *(f"model.{name}" for name in ("encoder", "parameters", "precision", "spectra")),
]
jaxtyping.install_import_hook([f"spectra_jax.{name}" for name in _SHAPES_CHECKED], "beartype.beartype")

from spectra_jax import cli  # noqa: E402
from spectra_jax.checkpoints.checkpoint import Checkpoint  # noqa: E402
from spectra_jax.checkpoints.config_file import read_config  # noqa: E402
from spectra_jax.convert import read_pytorch  # noqa: E402
from spectra_jax.model.config import SpectraConfig  # noqa: E402
from tests.golden import recipe  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# An implicit promotion could turn a float32 network into a float64 one, or the reverse.
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Many tests compile the same small networks, in this process and in child processes: each is compiled once in a run.
_cache = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", mkdtemp(prefix="spectra-jax-tests-"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
jax.config.update("jax_compilation_cache_dir", _cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)

# A shell that starts the tests in the background makes them ignore Ctrl-C, and the programs that they start inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)

GOLDEN = Path(__file__).parent / "golden"

# Without these a browser looks for updates of its own.
_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
]


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name tests by the words alone: bytes that a program makes may differ from one process of a run to the next."""
    return argname if isinstance(val, bytes) and len(val) > 100 else None


@contextmanager
def without_optimizations() -> Iterator[None]:
    """Compile in half of the time, where neither speed nor the last bits are tested."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def unoptimized() -> Iterator[None]:
    """`without_optimizations` for a module: `pytestmark = pytest.mark.usefixtures("unoptimized")`."""
    with without_optimizations():
        yield


def spectra(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run the command line in this process; the exit status."""
    monkeypatch.setattr(sys, "argv", ["spectra-jax", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    status = caught.value.code or 0
    assert isinstance(status, int), status
    return status


def expected(network: str) -> dict[str, Any]:
    """`expected.json` of a golden folder."""
    return json.loads((GOLDEN / network / "expected.json").read_text())


def golden_windows(waveforms: list[dict[str, Any]]) -> np.ndarray:
    """The windows (n, 64600) of golden waveforms, each given by its seed and length."""
    return np.stack([recipe.preprocess(recipe.waveform(row["seed"], row["samples"])) for row in waveforms])


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Checkpoint:
    """The tiny golden network, read from its PyTorch file."""
    folder = GOLDEN / "tiny"
    return read_pytorch(folder / "model.safetensors", read_config(folder / "config.json"))


@pytest.fixture(scope="session")
def full_pytorch_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkpoint of the published size and names, with the recipe's seeded weights: 1.28 GB, deleted afterwards."""
    path = tmp_path_factory.mktemp("full") / "model.safetensors"
    recipe.write_full_checkpoint(path)
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def full_checkpoint(full_pytorch_file: Path) -> Checkpoint:
    """The full golden network."""
    return read_pytorch(full_pytorch_file, SpectraConfig())


@pytest.fixture
def annotations_unchecked() -> Iterator[None]:
    """Without the checks of annotations, as for a user: for tests of the package's own errors about arguments."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub, and no login. The client reads its environment at import only."""
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
_LONG = (
    *("step", "references", "run", "gradients", "golden", "distributed", "ray", "devices"),
    *("parity", "pytorch", "convert", "notebooks", "readme", "commands"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = [f"test_{name}" for name in _LONG]
    items.sort(key=lambda item: names.index(item.path.stem) if item.path.stem in names else len(names))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Delete the cache of this run. Workers share the cache of the run that started them."""
    if not hasattr(config, "workerinput") and Path(_cache).name.startswith("spectra-jax-tests-"):
        shutil.rmtree(_cache, ignore_errors=True)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A Chromium, one for all tests: two of Playwright's cannot run in one process. Tests are skipped without one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("needs a Chromium: apt-get install chromium")
    with playwright.sync_playwright() as engines:
        started = engines.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        yield started
        started.close()
