"""Text and JSON of other programs: what is read, and errors that name the line."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path

import pytest

from spectra_jax.data.text import parse_object, read_text, text_lines
from spectra_jax.errors import InputError


def lines(content: bytes) -> list[tuple[int, str]]:
    return list(text_lines("list.txt", io.BytesIO(content)))


def test_lines_have_their_number_and_no_end() -> None:
    assert lines("\ufeffone\r\n\nthree\rfour".encode()) == [(1, "one"), (2, ""), (3, "three"), (4, "four")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\n\xff\n", "list.txt, line 2: not UTF-8 text; save it as UTF-8"),
        ("one".encode("utf-16"), "list.txt, line 1: UTF-16 text; save it as UTF-8"),
        (b"one\ntw\0o\n", "list.txt, line 2: NUL bytes, as in UTF-16 text or a binary file; save it as UTF-8 text"),
    ],
)
def test_lines_that_are_not_text_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        lines(content)
    assert str(caught.value) == message


def test_the_file_stays_open() -> None:
    file = io.BytesIO(b"one\ntwo\n")
    assert next(text_lines("list.txt", file)) == (1, "one")
    assert list(text_lines("list.txt", file)) == []
    assert not file.closed


def test_the_text_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "text.json"
    path.write_bytes("\ufeffдa\n".encode())
    assert read_text(path) == "дa\n"
    path.write_bytes(b"a\nb\xff\n")
    with pytest.raises(InputError, match=r"text\.json, line 2: not UTF-8 text"):
        read_text(path)
    path.write_bytes("a".encode("utf-16"))
    with pytest.raises(InputError, match=r"text\.json: UTF-16 text"):
        read_text(path)
    path.unlink()
    with pytest.raises(InputError, match=r"text\.json: cannot be read: No such file or directory"):
        read_text(path)
    os.mkfifo(path)
    with pytest.raises(InputError, match="not a plain file but a pipe"):
        read_text(path)


def test_an_object_may_have_numbers_that_json_does_not() -> None:
    found = parse_object("m.jsonl, line 1", '{"a": NaN, "b": 1e999, "c": [{"d": "é"}]}')
    assert math.isnan(found["a"]) and found["b"] == math.inf and found["c"] == [{"d": "é"}]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": ', "not valid JSON: Expecting value at character 7"),
        ('{"a": 1, "a": 2}', 'not valid JSON: "a" occurs twice in one object'),
        ('{"b": {"a": 1, "a": 2}}', 'not valid JSON: "a" occurs twice in one object'),
        ("[" * 100_000, "not valid JSON: objects or lists nested too deeply"),
        ('{"a": ' + "1" * 5000 + "}", "not valid JSON: Exceeds the limit"),
        ("[1]", "a JSON object is expected"),
        ("3", "a JSON object is expected"),
        (b'{"a": "\xff"}', "not valid JSON: 'utf-8' codec"),
    ],
)
def test_text_that_is_not_an_object_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_object("m.jsonl, line 3", text)
    assert str(caught.value).startswith(f"m.jsonl, line 3: {reason}")
