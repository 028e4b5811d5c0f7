"""Words for labels, names of columns, and fields of protocols."""

from __future__ import annotations

import pytest

from spectra_jax.data.conventions import (
    COLUMN_NAMES,
    LABEL_WORDS,
    PROTOCOLS,
    column_name,
    is_bonafide,
    known_names,
    parse_label,
)
from spectra_jax.errors import InputError


@pytest.mark.parametrize("word", LABEL_WORDS)
def test_words_for_labels_in_any_spelling(word: str) -> None:
    expected = LABEL_WORDS[word]
    for text in (word, word.upper(), f" {word} ", f"{word[:4]}-{word[4:]}", f"{word[:4]}_{word[4:]}"):
        assert is_bonafide(text) is expected
        assert parse_label("m.csv, line 2", text) == ("bonafide" if expected else "spoof")


@pytest.mark.parametrize("text", ["", " ", "-"])
def test_an_empty_label_is_unknown(text: str) -> None:
    assert parse_label("m.csv, line 2", text) is None and is_bonafide(text) is None


@pytest.mark.parametrize("text", ["0", "1", "true", "target", "bonafides"])
def test_other_labels_are_not_guessed(text: str) -> None:
    assert is_bonafide(text) is None
    with pytest.raises(InputError, match=f"m.csv, line 2: label '{text}' is neither `bonafide` nor `spoof`"):
        parse_label("m.csv, line 2", text)


def test_names_of_columns_are_compared_without_case_and_hyphens() -> None:
    assert [column_name(text) for text in ("CM-Score", ' "file name" ', "key")] == ["cm_score", "file_name", "key"]
    assert known_names(["Utt-ID", "speaker", "Score"]) == 2
    assert known_names(["LA_E_2834763", "-", "A11", "spoof"]) == 0


def test_no_name_of_a_column_has_two_roles() -> None:
    names = [name for names in COLUMN_NAMES.values() for name in names]
    assert len(set(names)) == len(names) and all(column_name(name) == name for name in names)


def test_every_protocol_has_labels_and_ids() -> None:
    for protocol in PROTOCOLS:
        assert "label" in protocol.fields
        assert ("utterance_id" in protocol.fields) != ("path" in protocol.fields)
        assert protocol.fields.index("label") < protocol.shortest <= len(protocol.fields)
        assert protocol.fits(protocol.shortest) and protocol.fits(len(protocol.fields))
        assert not protocol.fits(protocol.shortest - 1) and not protocol.fits(len(protocol.fields) + 1)
