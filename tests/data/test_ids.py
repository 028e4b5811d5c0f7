"""Utterance ids: from which column, in which form, each once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from spectra_jax.data.conventions import Match
from spectra_jax.data.ids import matched, normal_path, require_ids, stem, take_ids
from spectra_jax.errors import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.wav", "a"),
        ("x/y\\a.flac", "a"),
        ("a.1", "a.1"),
        ("a.5.mp3", "a.5"),
        (".wav", ".wav"),
        ("a.extension", "a.extension"),
        ("", ""),
    ],
)
def test_stem(text: str, expected: str) -> None:
    assert stem(text) == expected


def test_normal_path() -> None:
    assert [normal_path(text) for text in ("./a//b.wav", "a\\b.wav", "a/../b", "")] == ["a/b.wav", "a/b.wav", "b", ""]


def test_the_form_in_which_ids_are_compared() -> None:
    ids = ["x/a.wav", "./b"]
    forms: list[Match] = ["exact", "stem", "path"]
    assert [matched(ids, form) for form in forms] == [ids, ["a", "b"], ["x/a.wav", "b"]]


@pytest.mark.parametrize(
    ("columns", "match", "expected", "left"),
    [
        ({"utterance_id": ["a", "b"], "path": ["x", "y"]}, "exact", ["a", "b"], ["path"]),
        ({"utt_id": ["a.wav"], "label": ["spoof"]}, "stem", ["a"], ["label"]),
        ({"path": ["x/a.1.wav"]}, "exact", ["a.1"], ["path"]),
        ({"file": ["x/a.1"]}, "exact", ["a.1"], ["file"]),
        ({"utterance_id": ["a"], "path": ["./x/a.wav"]}, "path", ["x/a.wav"], ["utterance_id", "path"]),
        ({"utterance_id": [7]}, "exact", ["7"], []),
    ],
)
def test_the_column_of_ids(
    columns: dict[str, Sequence[Any]], match: Match, expected: list[str], left: list[str]
) -> None:
    assert take_ids("m.csv", columns, match) == expected
    assert list(columns) == left


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "m.csv: no trials in it"),
        (["a", "", ""], "m.csv: 2 trials without an utterance_id"),
        (["a", "b", "a", "b", "c"], "m.csv: 2 utterance ids occurring more than once:\n  a: 2 times\n  b: 2 times!"),
    ],
)
def test_ids_that_are_missing_or_repeated_are_refused(ids: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        require_ids("m.csv", ids, "!")
    assert str(caught.value) == message
    require_ids("m.csv", ["a", "b"])
