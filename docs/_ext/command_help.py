"""The directive `command-help`: what `spectra-jax COMMAND --help` prints, as a block of text."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

_COLUMNS = 88


class CommandHelp(Directive):
    """The help of the command that is named, or of the program where none is."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        # Named as the installed program is.
        program = "import sys; from spectra_jax.cli import main; sys.argv[0] = 'spectra-jax'; main()"
        command = [sys.executable, "-c", program, *self.arguments, "--help"]
        environment = os.environ | {"COLUMNS": str(_COLUMNS), "NO_COLOR": "1"}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if run.returncode:
            raise self.error(f"{' '.join(command)}: {run.stderr}")
        block = nodes.literal_block(run.stdout, run.stdout.rstrip() + "\n")
        block["language"] = "text"
        return [block]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
