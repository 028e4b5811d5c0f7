"""The file of a calibration, as `spectra-jax calibrate` writes it."""

from __future__ import annotations

from pathlib import Path

from spectra_jax.data.text import read_text
from spectra_jax.errors import InputError
from spectra_jax.evaluation.metrics import Calibration
from spectra_jax.files.outputs import output_file
from spectra_jax.files.untrusted import require_plain_file

NAME = "calibration.json"
"""The name of the file in a directory."""


def read_calibration(path: Path) -> Calibration:
    """Read a calibration from a file, or from `calibration.json` in a directory.

    Raises:
      InputError: no such file, or it holds no calibration.
    """
    file = path / NAME if path.is_dir() else path
    require_plain_file(file)
    try:
        return Calibration.from_json(read_text(file))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{file}: {error}") from error


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration to a file, atomically."""
    with output_file(path) as file:
        file.write(calibration.to_json().encode())
