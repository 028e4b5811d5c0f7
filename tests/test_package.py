"""The package as installed: what importing it does, and what the wheel holds."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import spectra_jax

ROOT = Path(__file__).parent.parent


def run(code: str, cwd: Path) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, check=True, capture_output=True, text=True).stdout


def test_importing_is_quiet(tmp_path: Path) -> None:
    """No PyTorch, no device, no setting changed."""
    code = """
import sys, jax
before = dict(jax.config.values)
import spectra_jax, spectra_jax.convert, spectra_jax.cli
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "a device was started"
assert dict(jax.config.values) == before, "a JAX setting was changed"
assert not {"torch", "transformers"} & set(sys.modules), "PyTorch was imported"
print("quiet")
"""
    assert run(code, tmp_path).strip() == "quiet"


def test_convert_is_found_from_any_directory(tmp_path: Path) -> None:
    code = """
import importlib.util, spectra_jax.convert
assert spectra_jax.convert.__name__ == "spectra_jax.convert"
assert importlib.util.find_spec("convert") is None, "a top-level `convert` would collide with people's own"
print("found")
"""
    assert run(code, tmp_path).strip() == "found"


def test_nothing_heavy_is_imported_before_it_is_used(tmp_path: Path) -> None:
    code = """
import sys, spectra_jax, spectra_jax.cli
assert not {"jax", "flax", "scipy", "soundfile", "huggingface_hub"} & set(sys.modules), "imported too much"
from spectra_jax import load, Scorer
assert load.__module__ == "spectra_jax.checkpoints.resolve" and Scorer is spectra_jax.Scorer
assert "jax" in sys.modules
print("light")
"""
    assert run(code, tmp_path).strip() == "light"


def test_submodules_are_attributes(tmp_path: Path) -> None:
    code = "import spectra_jax; print(spectra_jax.convert.convert.__name__, spectra_jax.audio.NUM_SAMPLES)"
    assert run(code, tmp_path).split() == ["convert", "64600"]


def test_public_names() -> None:
    assert [name for name in spectra_jax.__all__ if not hasattr(spectra_jax, name)] == []
    assert set(spectra_jax.__all__) <= set(dir(spectra_jax))
    with pytest.raises(AttributeError, match="module 'spectra_jax' has no attribute 'lode'"):
        spectra_jax.lode  # noqa: B018
    assert spectra_jax.__version__ == importlib.metadata.version("spectra-jax")


def test_every_dependency_has_a_lower_bound() -> None:
    """What `make lowest` installs: the exact lower bounds of the extras that it is asked for, and no others."""
    command = [sys.executable, str(ROOT / ".ci" / "lowest.py"), "test", "report", "verify"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert all(line.count("==") == 1 for line in lines)
    names = {line.partition("==")[0] for line in lines}
    assert {"jax", "flax", "numpy", "pytest", "jinja2", "onnxruntime"} <= names and not {"torch", "ray"} & names


@pytest.mark.slow
def test_the_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("py.typed", "convert/table.py", "convert/pytorch.py", "model/wav2vec2.py", "demo/model.safetensors"):
        assert f"spectra_jax/{name}" in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"spectra_jax", f"spectra_jax-{spectra_jax.__version__}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
