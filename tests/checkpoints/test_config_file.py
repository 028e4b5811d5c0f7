"""Reading `config.json`: files that are valid, and the message for each that is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spectra_jax.checkpoints.config_file import read_config
from spectra_jax.errors import ConfigError
from spectra_jax.model.config import SpectraConfig
from tests.conftest import GOLDEN


def test_a_written_configuration_is_read_back(tmp_path: Path) -> None:
    config = read_config(GOLDEN / "tiny" / "config.json")
    assert config != SpectraConfig()
    (tmp_path / "config.json").write_text(config.to_json())
    assert read_config(tmp_path / "config.json") == config


def test_an_invalid_file_is_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for text, message in [
        ("{", "not a JSON file"),
        ('{"max_frames": 0}', "max_frames = 0"),
        ("\xff", "not a JSON file"),
        ("[" * 100_000, "objects or lists nested too deeply"),
        ('{"a":' * 100_000, "objects or lists nested too deeply"),
        ('{"preemphasis": NaN}', "NaN is not a JSON number"),
        ('{"preemphasis": 1e999}', "1e999 is too large a number"),
        ('{"max_frames": ' + "9" * 5000 + "}", "not a JSON file"),
        ('{"max_frames": 300, "max_frames": 400}', '"max_frames" occurs twice in one object'),
        ('{"gat_dims": ' + "[" * 900 + "]" * 900 + "}", "nested too deeply"),
        (" " * 2**20 + "{}", "more than 1,048,576 bytes"),
    ]:
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(ConfigError) as caught:
            read_config(path)
        assert str(path) in str(caught.value)
        assert message in str(caught.value)


def test_a_pipe_and_a_device_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    os.mkfifo(path)
    with pytest.raises(OSError, match=f"{path} is not a regular file, but a device, pipe or socket"):
        read_config(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(OSError, match="not a regular file"):
        read_config(path)
