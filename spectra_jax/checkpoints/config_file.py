"""Reading a network's `config.json`."""

from __future__ import annotations

from pathlib import Path

from spectra_jax.errors import ConfigError
from spectra_jax.files.untrusted import read_json
from spectra_jax.model.config import SpectraConfig

# A `config.json` has about one kilobyte.
_LARGEST_FILE = 2**20


def read_config(path: str | Path) -> SpectraConfig:
    """Read a `config.json`.

    Raises:
      ConfigError: not valid JSON, an unknown field, or a value that breaks a rule. The message names the file.
      OSError: the file cannot be read, or is a device or pipe.
    """
    try:
        values = read_json(path, _LARGEST_FILE)
    except ValueError as error:
        raise ConfigError(f"{path}: not a JSON file of a configuration ({error})") from error
    try:
        return SpectraConfig.from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
