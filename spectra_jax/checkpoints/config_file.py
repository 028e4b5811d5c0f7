"""Reading a network's `config.json`."""

from __future__ import annotations

from pathlib import Path

from spectra_jax.errors import ConfigError
from spectra_jax.files.untrusted import read_json
from spectra_jax.model.config import SpectraConfig

# A `config.json` has about one kilobyte.
_LARGEST_FILE = 2**20


def read_config(path: str | Path, back_end: str | None = None) -> SpectraConfig:
    """Read a `config.json`.

    Args:
      path: the file.
      back_end: of a configuration that states none, such as the empty ones of the published detectors; None means that
        of `SpectraConfig`.

    Raises:
      ConfigError: not valid JSON, an unknown field, or a value that breaks a rule. The message names the file.
      OSError: the file cannot be read, or is a device or pipe.
    """
    try:
        values = read_json(path, _LARGEST_FILE)
    except ValueError as error:
        raise ConfigError(f"{path}: not a JSON file of a configuration ({error})") from error
    if back_end is not None and isinstance(values, dict):
        values = {"back_end": back_end, **values}
    try:
        return SpectraConfig.from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
