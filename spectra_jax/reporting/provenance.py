"""Where a page comes from: when, by which command, and with which software it was written."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime

from spectra_jax.messages import printable


def origin_rows(command: Sequence[str], packages: Sequence[str], *rows: list[str]) -> list[list[str]]:
    """A table's rows of what and value.

    Args:
      command: the words of the command that writes the page; none where no command does.
      packages: whose versions are stated.
      rows: to put between both.
    """
    first = [["created", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"]]
    if command:
        first.append(["command", printable(shlex.join(command))])
    versions = [f"{name} {_version(name)}" for name in packages]
    return [*first, *rows, ["software", f"Python {platform.python_version()}, " + ", ".join(versions)]]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
