"""Which source reads an input, and inputs that are refused."""

from __future__ import annotations

import gzip
import os
import random
from pathlib import Path

import pytest

from spectra_jax.data.sources import collect
from spectra_jax.errors import InputError
from tests.data.sources.writing import decoding_error, ids_of, refusal


def test_inputs_keep_their_order(corpus: Path) -> None:
    assert ids_of(corpus / "sub", corpus / "b.wav", str(corpus / "a.flac")) == ["c", "d", "b", "a"]


def test_a_named_file_is_taken_whatever_its_extension(corpus: Path) -> None:
    assert ids_of(corpus / "notes.txt", corpus / "sub/f.raw", corpus / "._a.flac") == ["notes", "f", "._a"]


def test_missing_inputs_and_inputs_without_audio_are_refused(corpus: Path, tmp_path: Path) -> None:
    assert "missing.wav: no such file or folder" in refusal(corpus / "missing.wav")
    assert "no such file or folder" in refusal("")
    assert "no such file or folder" in refusal("a" * 5000)
    assert "no input" in refusal()
    (tmp_path / "bare").mkdir()
    assert "no audio files in this folder" in refusal(tmp_path / "bare")
    # The error shows what the pattern did match.
    assert f"matches this pattern; 1 file left out: 1 .txt ({corpus}/notes.txt) (known" in refusal(corpus / "*.txt")
    (tmp_path / "packed").mkdir()
    for name in ("a.tar", "train-0.parquet", "train-1.parquet"):
        (tmp_path / "packed" / name).touch()
    message = refusal(tmp_path / "packed")
    assert "3 files left out: 2 .parquet, 1 .tar (" in message
    assert "give .tar and .parquet files by their names" in message


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("m.jsonl", b'{"path": "a.wav"}\n{"path": ', "line 2: not valid JSON"),
        ("m.jsonl", b'["a.wav"]', "line 1: a JSON object is expected"),
        ("m.jsonl", b"", "no trials"),
        ("m.parquet", b"PAR1 and no more", "not a readable parquet file"),
        ("s.tar", b"no tar at all", "not a tar file"),
        ("s.tar", b"", "not a tar file"),
        ("s.tar", bytes(10240), "no audio in it"),
        ("s.tar.gz", gzip.compress(random.Random(0).randbytes(2048), mtime=0)[:-900], "not a tar file"),
    ],
)
def test_files_that_do_not_have_the_format_of_their_name_are_refused(
    tmp_path: Path, name: str, content: bytes, complaint: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        collect([tmp_path / name])


def test_pipes_and_devices_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "m.csv").write_text(f"path\nfile:///dev/zero\nfile://{tmp_path}/pipe.wav\n/dev/zero\n")
    errors = [str(decoding_error(trial)) for trial in collect([tmp_path / "m.csv"], ids="path")]
    assert errors == [
        "file:///dev/zero: not a plain file but a pipe or a device; save its content to a file first",
        f"file://{tmp_path}/pipe.wav: not a plain file but a pipe or a device; save its content to a file first",
        "/dev/zero: a pipe or a device, not an audio file",
    ]
    for name in ("p.csv", "p.jsonl", "p.parquet", "p.tar"):
        os.mkfifo(tmp_path / name)
        for given in (f"{tmp_path}/{name}", f"file://{tmp_path}/{name}"):
            if name.endswith((".csv", ".jsonl")) and not given.startswith("file"):
                # Not a file, so not a manifest: it is refused as a clip when it is decoded.
                (trial,) = collect([given])
                assert "a pipe or a device" in str(decoding_error(trial))
                continue
            with pytest.raises(InputError, match="not a plain file but a pipe or a device"):
                collect([given])
