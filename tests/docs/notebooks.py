"""Run the notebooks of the documentation and write what they print into them.

python -m tests.docs.notebooks [NAME]...
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "docs" / "notebooks"
NAMES = ("encoder", "fine-tune", "own-loop", "score", "verify")


def path_of(name: str) -> Path:
    return NOTEBOOKS / f"{name}.ipynb"


def read(name: str) -> Any:
    """A notebook as it is committed."""
    return nbformat.read(path_of(name), as_version=4)  # type: ignore[no-untyped-call]


def execute(name: str) -> Any:
    """A notebook, run from top to bottom in a kernel of its own."""
    notebook = read(name)
    metadata = {"path": NOTEBOOKS}
    NotebookClient(
        notebook, timeout=600, resources={"metadata": metadata}, coalesce_streams=True, record_timing=False
    ).execute()
    notebook.metadata["language_info"] = {"name": "python"}  # without the version of this Python
    return notebook


if __name__ == "__main__":
    # The notebooks start `spectra-jax`, which is beside this Python, whether or not its environment is activated.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for each in sys.argv[1:] or NAMES:
        nbformat.write(execute(each), path_of(each))  # type: ignore[no-untyped-call]
