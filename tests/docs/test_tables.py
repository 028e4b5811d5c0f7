"""The tables of the guides list what the code has: fields with their defaults, columns, commands, variables."""

from __future__ import annotations

import dataclasses
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from spectra_jax import arena, cli
from spectra_jax.data.trial import Trial
from spectra_jax.inference.results import Result, write
from spectra_jax.training import AugmentConfig, TrainingConfig
from tests.docs.pages import DOCS


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table of a page whose first heading cell is `heading`."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    heads = [line for line, rule in pairwise(lines) if line.startswith(f"| {heading} |") and rule.startswith("| ---")]
    start = lines.index(heads[0])
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_training_field_is_listed_with_its_default() -> None:
    documented = {names(name)[0]: default for name, default, _ in rows("guides/train.md", "`training`")}
    fields = {field.name: field.default for field in dataclasses.fields(TrainingConfig)}
    assert list(documented) == list(fields)
    del documented["augment"], fields["augment"]  # a section of its own
    assert {name: _as_tuple(json.loads(default)) for name, default in documented.items()} == fields


def test_every_augmentation_field_is_listed_with_its_default() -> None:
    config, listed = AugmentConfig(), set()
    for name, setting, default in rows("guides/train.md", "`augment`"):
        probability, options = names(name)[0], [option for option in names(setting) if hasattr(config, option)]
        listed |= {probability, *options}
        assert getattr(config, probability) == 0
        if default != "all":
            assert getattr(config, options[0]) == _as_tuple(json.loads(default))
    assert listed == {field.name for field in dataclasses.fields(AugmentConfig)}


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def test_every_column_of_a_csv_is_listed(tmp_path: Path) -> None:
    write([Result(Trial("a", "a.wav"), (0.0, 1.0))], tmp_path / "scores.csv")
    header = (tmp_path / "scores.csv").read_text().splitlines()[0].split(",")
    assert [name for column, _ in rows("guides/score.md", "column") for name in names(column)] == header


def test_every_command_has_its_help_on_the_page() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    assert re.findall(r"\{command-help\} (\w+)", page) == list(commands)


def test_every_variable_of_the_arena_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [names(variable)[0] for variable, _ in rows("guides/verify.md", "variable")]
    attributes = [variable.removeprefix("SPECTRA_JAX_").lower() for variable in listed]
    values = {"model": "demo", "precision": "float64", "batch_size": "3", "certify": "1"}
    assert attributes == list(values)
    for variable, value in zip(listed, values.values(), strict=True):
        monkeypatch.setenv(variable, value)
    model = arena.SpectraAASIST3()
    assert [str(getattr(model, name)) for name in attributes] == ["demo", "float64", "3", "True"]
