"""Platforms that JAX cannot start: one sentence in every command, wherever the devices are first used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from spectra_jax.devices import local_devices
from spectra_jax.errors import DevicesError
from tests.cli.conftest import PROGRAMS

CORPUS = Path(__file__).parents[2] / "examples" / "corpus"


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_a_missing_platform_is_reported_in_one_sentence(platform: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    command = [sys.executable, str(PROGRAMS / "platforms.py"), str(CORPUS), str(tmp_path / "run")]
    done = subprocess.run(command, env=environment | {"JAX_PLATFORMS": platform}, capture_output=True, text=True)
    sentence = f"JAX_PLATFORMS='{platform}' asks JAX for a platform that it cannot start here"
    lines = [line for line in done.stderr.splitlines() if line]
    if platform == "cuda" and not any(sentence in line for line in lines):
        pytest.skip("this machine has a GPU")
    reports = [line for line in lines if sentence in line]
    assert [line.split(sentence)[0] for line in reports] == ["spectra-jax: "] * 3 + [""]
    assert all("unset the variable" in line and "set it to 'cpu'" in line for line in reports)
    assert [line for line in lines if line not in reports] == ["info 2", "score 2", "train 2"]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"JAX_PLATFORMS": "tpu"}, r"^JAX_PLATFORMS='tpu' .* \(no libtpu\): unset"),
        ({"JAX_PLATFORM_NAME": "gpu"}, r"^JAX_PLATFORM_NAME='gpu' .* \(no libtpu\): unset"),
        ({}, r"^JAX cannot start its devices \(no libtpu\): JAX_PLATFORMS=cpu uses the CPU alone$"),
    ],
)
def test_the_variable_that_asks_is_named(
    variables: dict[str, str], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing() -> list[jax.Device]:
        raise RuntimeError("no libtpu. (set JAX_PLATFORMS='' to automatically choose an available backend)")

    monkeypatch.setattr(jax, "local_devices", failing)
    for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DevicesError, match=wanted):
        local_devices()
