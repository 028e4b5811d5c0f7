"""`--help` of every command: complete at 80 columns, and without words of the library that prints it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest
import typer

from spectra_jax import __version__ as VERSION  # noqa: N812
from spectra_jax import cli
from tests.cli.conftest import PROGRAMS
from tests.conftest import spectra

COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    assert spectra(monkeypatch, *words) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", [*COMMANDS, ""])
def test_help_is_complete_at_80_columns(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(monkeypatch, capsys, *([command] if command else []), "--help")
    assert max(map(len, text.splitlines())) <= 80
    # Of what is repeatable: INPUT...; everything else that ends in dots was cut.
    assert "…" not in text and not re.search(r"(?<![}\]])\.\.\.", text)
    assert "<bool>" not in text and "\x1b" not in text
    # Options and arguments have `help`; their common class, which `params` is declared to hold, does not.
    parameters: list[Any] = COMMANDS[command].params if command else typer.main.get_command(cli.app).params
    for parameter in parameters:
        for name in [*parameter.opts, *parameter.secondary_opts]:
            if name.startswith("--"):
                assert re.search(rf"^  (-\w, )?{re.escape(name)}\b", text, re.MULTILINE), name
        assert parameter.help, f"{parameter.name} has no help"
        words = " ".join(text.split())
        assert " ".join(parameter.help.split()) in words, "every word is shown"


def test_the_list_of_commands_has_each_complete_first_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(monkeypatch, capsys, "--help")
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.help.splitlines()[0])}$", text, re.MULTILINE), name
    assert "--install-completion" in text and "--show-completion" in text


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(monkeypatch, capsys, "--version") == f"spectra-jax {VERSION}\n"
    run = subprocess.run([sys.executable, "-m", "spectra_jax", "--version"], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, f"spectra-jax {VERSION}\n")


def test_completes_names_of_commands() -> None:
    variables = {"_SPECTRA_JAX_COMPLETE": "complete_bash", "COMP_WORDS": "spectra-jax ev", "COMP_CWORD": "1"}
    command = [sys.executable, str(PROGRAMS / "spectra-jax")]
    run = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    assert run.stdout.split() == ["evaluate"]
