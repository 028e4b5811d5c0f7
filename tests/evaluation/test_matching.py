"""Matching two files by utterance id: rows, and the messages about ids that do not match."""

from __future__ import annotations

import numpy as np
import pytest

from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores
from spectra_jax.errors import InputError
from spectra_jax.evaluation.matching import (
    check_all_labelled,
    check_same_trials,
    label_rows,
    matching_rows,
    mismatch_hint,
)


def scores(name: str, ids: str, skipped: dict[str, str] | None = None) -> Scores:
    """A score file with an id for each word."""
    words = np.array(ids.split(), object)
    return Scores(name, words, np.zeros(len(words)), skipped=skipped or {})


def labels(name: str, ids: str) -> Labels:
    words = np.array(ids.split(), object)
    return Labels(name, words, np.ones(len(words), bool))


def test_rows_are_in_the_order_of_the_first_file() -> None:
    first, second = matching_rows(scores("a", "x y z w"), scores("b", "w v y x"))
    assert first.tolist() == [0, 1, 3] and second.tolist() == [3, 2, 0]
    assert label_rows(["z", "x"], labels("l", "x y z")).tolist() == [2, 0]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("x y", "v w", "a and b have no trial in common: 'x' in one, 'v' in the other"),
        ("d/x d/y", "x.wav y.wav", r"in the other\n2 trials would match: .* the folder and the extension .wav only"),
        ("", "v", "a has no trials left, so it has none in common with b"),
        ("x", "", "b has no trials left, so it has none in common with a"),
    ],
)
def test_files_without_a_common_id(first: str, second: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        matching_rows(scores("a", first), scores("b", second))


def test_each_score_needs_a_label_and_the_reverse() -> None:
    check_all_labelled(scores("s", "x y"), labels("l", "y x"))
    check_all_labelled(scores("s", "x", {"y": "too short"}), labels("l", "x y"))
    with pytest.raises(InputError) as caught:
        check_all_labelled(scores("s", "x y"), labels("l", "x z"))
    assert str(caught.value).splitlines() == [
        "1 trial of s without a label in l:",
        "  y",
        "1 trial of l without a score in s:",
        "  z",
        "Give the files that belong together, or take the trials that both have with --common.",
    ]


def test_both_files_need_the_same_trials() -> None:
    check_same_trials(scores("a", "x y"), scores("b", "y x"))
    with pytest.raises(InputError) as caught:
        check_same_trials(scores("a", "x y"), scores("b", "x z", {"y": "silence"}))
    assert str(caught.value).splitlines() == [
        "1 trial of a not in b:",
        "  y (skipped in b: silence)",
        "1 trial of b not in a:",
        "  z",
        "Compare the trials that both have with --common.",
    ]


def test_a_label_is_needed_for_each_id() -> None:
    with pytest.raises(InputError, match=r"2 trials without a label in l:\n  v\n  w"):
        label_rows(["x", "v", "w"], labels("l", "x y"))
    with pytest.raises(InputError, match=r"1 trial would match: .* the extension .flac only"):
        label_rows(["x.flac"], labels("l", "x y"))


def test_a_hint_needs_most_ids_to_match_by_stem() -> None:
    assert mismatch_hint(["x.wav", "y.wav"], ["x", "z"]) == ""
    assert "2 trials would match" in mismatch_hint(["x.wav", "y.wav", "v"], ["x", "y", "w"])
