"""Imports go one way down: each folder of the package imports only what lies below it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import spectra_jax

PACKAGE = Path(spectra_jax.__file__).parent

# What each folder or top module of the package may import besides itself. All that are not listed are refused.
_FOUNDATION = {"errors", "messages", "devices"}
_FILES = _FOUNDATION | {"files"}
_BELOW_DATA = _FILES | {"hub", "audio", "model"}
_BELOW_INFERENCE = _BELOW_DATA | {"data", "checkpoints", "convert"}
_BELOW_JOBS = _BELOW_INFERENCE | {"inference", "evaluation"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "renamed": set(),
    "messages": set(),
    "devices": {"errors"},
    "files": _FOUNDATION,
    "hub": _FILES,
    "model": {"errors", "renamed"},
    "audio": _FILES,
    "data": _FILES | {"hub", "audio"},
    "convert": _BELOW_DATA | {"checkpoints", "exporting"},
    "checkpoints": _BELOW_DATA | {"convert"},
    "encoders": _BELOW_DATA | {"checkpoints", "convert"},
    # A detection states P(spoof) by a calibration.
    "inference": _BELOW_INFERENCE | {"evaluation"},
    "evaluation": _BELOW_DATA | {"data"},
    "reporting": _BELOW_JOBS | {"reproduction"},
    "verification": _BELOW_JOBS,
    "training": _BELOW_JOBS | {"encoders"},
    "jobs": _BELOW_JOBS,
    "arena": _BELOW_JOBS,
    "reproduction": _BELOW_JOBS | {"jobs", "arena"},
    "exporting": _BELOW_DATA | {"checkpoints"},
    "serving": _BELOW_JOBS | {"reporting"},
    "cli": _BELOW_JOBS
    | {"reporting", "verification", "training", "jobs", "arena", "reproduction", "encoders", "exporting", "serving"},
    "__main__": {"cli"},
}
_THIRD_PARTY_OF_MODEL = {"jax", "flax", "jaxtyping", "numpy"}


def imports(path: Path) -> set[str]:
    """The modules that a file imports, those inside its functions included; `from a import b` gives `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"{path}: a relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layers(path: Path) -> set[str]:
    """The folders and top modules of this package that a file imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("spectra_jax.")} & set(ALLOWED)


MODULES = [
    path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py" and path.parent.name != "demo"
]
# `Path.rglob` does not follow the link to `convert/` on every Python.
MODULES += [path for path in sorted((PACKAGE / "convert").glob("*.py")) if path not in MODULES]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    upward = layers(path) - ALLOWED[layer] - {layer}
    assert not upward, f"{path.relative_to(PACKAGE)} imports {', '.join(sorted(upward))}, which are not below {layer}"


def test_the_table_lists_what_exists() -> None:
    existing = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert existing == set(ALLOWED)


def test_the_table_has_no_cycles() -> None:
    """Apart from `convert` and `checkpoints`, which are one concern in two folders."""
    seen: set[str] = set()
    remaining = {layer: below - {"convert", layer} for layer, below in ALLOWED.items()}
    while remaining:
        ready = {layer for layer, below in remaining.items() if below <= seen}
        assert ready, f"a cycle among {', '.join(sorted(remaining))}"
        seen |= ready
        remaining = {layer: below for layer, below in remaining.items() if layer not in ready}


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda path: path.name)
def test_no_command_imports_another(path: Path) -> None:
    folder = PACKAGE / "cli"
    commands = {
        other.stem for other in folder.glob("*.py") if f"def {other.stem}(" in other.read_text(encoding="utf-8")
    }
    if path.stem in commands:
        imported = {name.split(".")[2] for name in imports(path) if name.startswith("spectra_jax.cli.")}
        assert not imported & commands


@pytest.mark.parametrize("path", sorted((PACKAGE / "model").glob("*.py")), ids=lambda path: path.name)
def test_the_network_needs_jax_flax_numpy_and_jaxtyping_only(path: Path) -> None:
    others = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"spectra_jax"}
    assert others <= _THIRD_PARTY_OF_MODEL
