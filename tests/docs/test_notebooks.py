"""The notebooks of the documentation: they run, and what is committed is what they print."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.docs.notebooks import NAMES, NOTEBOOKS, execute, path_of, read


def printed(output: Any) -> list[str]:
    """The text of an output, without numbers and rows of tables, whose last digits depend on the machine."""
    text = output.get("text") or output["data"]["text/plain"]
    lines = re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()
    return [re.sub(r"[-+]?\d[\d.,]*(e[-+]\d+)?", "#", line) for line in lines if not line.startswith(("│", "├"))]


def outputs(notebook: Any) -> list[list[tuple[str, list[str], list[str]]]]:
    """For each code cell, the kind of each output, its text and its formats."""
    return [
        [(output.output_type, printed(output), sorted(output.get("data", {}))) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_every_notebook_is_tested() -> None:
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_notebook_is_executed_small_and_without_machine_paths(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run from top to bottom, once"
    assert any(cell.outputs for cell in cells)
    assert path_of(name).stat().st_size < 250_000
    shown = [str(output) for cell in cells for output in cell.outputs]
    assert not [text for text in shown if re.search(r"/(home|root|tmp|usr|work|Users)/|site-packages|Warning", text)]


# They train, or compare with PyTorch, for a minute or two.
_LONG = ("fine-tune", "own-loop", "verify")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in _LONG else []) for name in NAMES]
)
def test_a_notebook_prints_what_is_committed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    # Most of the time is compiling, which takes half as long.
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    assert outputs(execute(name)) == outputs(read(name))
