"""The package as installed: what importing it does, and what the wheel holds."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import spectra_jax

ROOT = Path(__file__).parent.parent


def run(program: str, cwd: Path, **environment: str) -> list[str]:
    """Run one of `tests/programs` in a folder; the lines that it prints."""
    command = [sys.executable, str(ROOT / "tests" / "programs" / program)]
    environment = {**os.environ, **environment}
    return subprocess.run(
        command, cwd=cwd, env=environment, check=True, capture_output=True, text=True
    ).stdout.splitlines()


def test_importing_starts_no_device_and_changes_no_setting(tmp_path: Path) -> None:
    run("quiet_import.py", tmp_path)


def test_nothing_heavy_is_imported_before_it_is_used(tmp_path: Path) -> None:
    run("lazy_import.py", tmp_path)


def test_convert_is_found_from_any_directory(tmp_path: Path) -> None:
    _, _, top_level, values = run("print_locations.py", tmp_path)
    assert top_level == "False", "a top-level `convert` would collide with users' own files"
    assert values == "convert 64600", "submodules are attributes of the package"


def test_a_clone_that_is_not_installed_works(tmp_path: Path) -> None:
    """The package beside its dependencies: `convert/` is found through the link that the clone holds."""
    for folder in ("spectra_jax", "convert"):
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    package, convert, _, values = run("print_locations.py", tmp_path, PYTHONPATH=str(tmp_path))
    assert Path(package).parent == tmp_path / "spectra_jax" == Path(convert).parents[1]
    assert values == "convert 64600"


def test_public_names() -> None:
    assert [name for name in spectra_jax.__all__ if not hasattr(spectra_jax, name)] == []
    assert set(spectra_jax.__all__) <= set(dir(spectra_jax))
    with pytest.raises(AttributeError, match="module 'spectra_jax' has no attribute 'lode'"):
        spectra_jax.lode  # noqa: B018
    assert spectra_jax.__version__ == importlib.metadata.version("spectra-jax")


def test_public_names_of_jobs(tmp_path: Path) -> None:
    """They are listed and found before any of them is imported, and so are the modules."""
    run("lazy_jobs.py", tmp_path)


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
    modules = ("convert/table.py", "convert/pytorch.py", "model/encoder/encoder.py")
    for name in ("py.typed", *modules, "demo/model.safetensors"):
        assert f"spectra_jax/{name}" in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"spectra_jax", f"spectra_jax-{spectra_jax.__version__}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
