"""Files that others may have written: plain, bounded, strict JSON."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path

import pytest

from spectra_jax.errors import InputError
from spectra_jax.files.untrusted import open_regular, parse_json, read_bounded, read_json, require_plain_file


def test_a_plain_file_is_opened_and_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, 2.5, null, "é"]}')
    require_plain_file(path)
    with open_regular(path) as file:
        assert read_bounded(file, 27) == path.read_bytes()
    assert read_json(path) == {"a": [1, 2.5, None, "é"]}
    (tmp_path / "link.json").symlink_to(path)
    assert read_json(tmp_path / "link.json") == read_json(path)


def test_links_can_be_refused(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    open_regular(tmp_path / "a", follow_symlinks=False).close()
    with pytest.raises(OSError, match="link is a symbolic link"):
        open_regular(tmp_path / "link", follow_symlinks=False)


def test_missing_files_folders_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in {
        tmp_path / "none": "cannot be read: No such file or directory",
        tmp_path: "a folder, where a file is expected",
        tmp_path / "pipe": "not a plain file but a pipe or a device; save its content to a file first",
        Path("/dev/zero"): "not a plain file but a pipe or a device; save its content to a file first",
        Path("a\0b"): "cannot be read: ",
    }.items():
        with pytest.raises(InputError) as caught:
            require_plain_file(path)
        assert str(caught.value).startswith(f"{path}: {reason}")
        with pytest.raises((OSError, ValueError)):
            open_regular(path)
    with pytest.raises(InputError, match=r"^file:///pipe: not a plain file"):
        require_plain_file(tmp_path / "pipe", "file:///pipe")


def test_content_has_a_limit(tmp_path: Path) -> None:
    assert read_bounded(io.BytesIO(bytes(1000)), 1000) == bytes(1000)
    with pytest.raises(ValueError, match="more than 1,000 bytes"):
        read_bounded(io.BytesIO(bytes(1001)), 1000)
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(ValueError, match="more than 2 bytes"):
        read_json(tmp_path / "a.json", limit=2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 1}', '"a" occurs twice in one object'),
        ('[{"b": {"a": 1, "c": 2, "a": 3}}]', '"a" occurs twice in one object'),
        ("[" * 100_000, "objects or lists nested too deeply"),
        ("{", "Expecting property name"),
        (b'"\xff"', "utf-8"),
        ("[NaN]", "NaN is not a JSON number"),
        ("[-Infinity]", "-Infinity is not a JSON number"),
        ("[1e999]", "1e999 is too large a number"),
    ],
)
def test_invalid_json_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


def test_numbers_that_are_not_finite_are_read_on_request() -> None:
    nan, low, high = parse_json("[NaN, -Infinity, 1e999]", finite=False)
    assert math.isnan(nan) and (low, high) == (-math.inf, math.inf)
    with pytest.raises(ValueError, match="occurs twice"):
        parse_json('{"a": 1, "a": 1}', finite=False)
