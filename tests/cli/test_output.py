"""What commands print, and the files that they are about to replace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spectra_jax.cli.output import check_outputs, print_json, print_message, print_pooled_subsets
from spectra_jax.errors import InputError


def test_json_has_neither_nan_nor_infinity_nor_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [float("nan"), 1.5], "b": {"c": float("inf")}, "id": "ж\x9b"})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"a": [None, 1.5], "b": {"c": None}, "id": "ж\x9b"}
    assert "\x9b" not in printed


def test_a_message_is_neither_markup_nor_a_command_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_message("[red]a[/red]\x1b[2J" + "b" * 200)
    assert capsys.readouterr().err == r"[red]a[/red]\x1b[2J" + "b" * 200 + "\n"


def test_subsets_are_named_where_there_are_several(capsys: pytest.CaptureFixture[str]) -> None:
    print_pooled_subsets("keys", {"eval": 3})
    assert capsys.readouterr().err == ""
    print_pooled_subsets("keys", {"eval": 3, "": 1200})
    assert capsys.readouterr().err == (
        "keys: pools the trials of 2 subsets, eval (3), unnamed (1,200); --subset NAME takes one of them\n"
    )


def test_outputs_are_checked_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").touch()
    check_outputs(None, tmp_path / "a.csv", tmp_path / "new" / "b.csv", extension=".csv")
    assert capsys.readouterr().err == f"{tmp_path / 'a.csv'}: exists and will be replaced\n"
    with pytest.raises(InputError, match=r"its name must end in \.csv"):
        check_outputs(tmp_path / "a.txt", extension=".csv")
    with pytest.raises(InputError, match="a folder of this name"):
        check_outputs(tmp_path)
