"""Files that are not recordings, or not of a supported format, are called what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spectra_jax.audio import decode, read
from spectra_jax.errors import AudioError
from tests.audio.recordings import RECORDINGS, SECONDS, assert_intact, error_of, sound

NOT_AUDIO = {
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n",
    "HTML page": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "JSON": b'{"error": "not found"}',
    "XML": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "playlist": b"#EXTM3U\n#EXTINF:1\nfile:///etc/passwd\n",
    "text file": "Grüße, aber kein Ton".encode(),
    "zip archive": b"PK\x03\x04" + bytes(40),
    "gzip archive": b"\x1f\x8b\x08" + bytes(40),
    "PDF": b"%PDF-1.7\n" + bytes(40),
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(40),
    "JPEG": b"\xff\xd8\xff\xe0" + bytes(40),
    "zeros": bytes(9000),
    "not an audio file": np.random.default_rng(0).bytes(9000),
}


@pytest.mark.parametrize("what", NOT_AUDIO)
def test_a_file_that_is_not_a_recording_is_called_what_it_is(what: str) -> None:
    assert what in error_of(NOT_AUDIO[what])


@pytest.mark.parametrize("text", ["#EXTM3U\nfile:///etc/passwd", "ffconcat version 1.0\nfile a.wav", "v=0\nm=audio 0"])
def test_lists_of_other_files_are_not_followed(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.wav").write_bytes(sound("WAV"))
    (tmp_path / "list.mp3").write_text(text)
    with pytest.raises(AudioError, match="a playlist"):
        read(tmp_path / "list.mp3")


def test_an_unknown_codec_and_an_encrypted_file_are_not_called_damaged() -> None:
    content = sound("WAV")
    assert_intact(content)
    assert "WAV codec 0x9999" in error_of(content[:20] + b"\x99\x99" + content[22:])
    m4a = (RECORDINGS / "voice_memo.m4a").read_bytes()
    assert decode("intact", m4a).seconds == pytest.approx(SECONDS["voice_memo.m4a"], abs=0.006)
    entry = m4a.index(b"mp4a", m4a.index(b"stsd"))
    for name in (b"drms", b"enca"):
        assert "encrypted" in error_of(m4a[:entry] + name + m4a[entry + 4 :])
