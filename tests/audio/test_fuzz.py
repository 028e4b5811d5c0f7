"""Damaged and cut clips and datasets: each is decoded or an error, in bounded time and memory."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from spectra_jax.audio import decode
from spectra_jax.errors import AudioError
from tests.arena_datasets import SCHEMA, row
from tests.audio.recordings import RECORDINGS, SECONDS

NUMBER = 2000


def test_two_thousand_damaged_files(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=8000) * 0.1
    for suffix in ("wav", "flac", "ogg", "mp3", "caf", "w64", "aiff"):
        soundfile.write(tmp_path / f"original.{suffix}", noise, 16000)
    for name in ("fragmented.mp4", "voice_memo.m4a", "live.webm", "old.wma", "short.amr", "adts_named.mp3", "alac.caf"):
        shutil.copy(RECORDINGS / name, tmp_path / f"original.{name}")
    clips = [(tmp_path / f"original.{suffix}").read_bytes() for suffix in ("flac", "wav")]
    rows = [row(index, audio={"bytes": clip, "path": ""}) for index, clip in enumerate(clips)]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), tmp_path / "original.parquet")
    decoded, errors, grown = run_program("decode_mutants", tmp_path, NUMBER).split()
    assert int(decoded) + int(errors) == NUMBER
    assert min(int(decoded), int(errors)) > NUMBER / 10, "nearly all were decoded, or nearly all were errors"
    # Blocks of a megasample, at most 1024 channels: 4 MB each as decoded, and pyarrow's own.
    assert float(grown) < 200


def test_memory_does_not_grow_with_a_stated_length(tmp_path: Path) -> None:
    """A header that states two thousand million samples makes a file one that was cut short."""
    soundfile.write(tmp_path / "a.wav", np.zeros(1000), 16000, subtype="PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    assert decode("intact", bytes(content)).num_samples == 1000
    index = content.index(b"data") + 4
    content[index : index + 4] = (2**31 - 2**20).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    error, grown = run_program("decode_memory", tmp_path / "a.wav").splitlines()
    assert "cut short: 2,000 of the 2,146,435,072 bytes" in error
    assert float(grown) < 50


# Containers that do not state a length, so that a cut between two samples is not detected.
CANNOT_TELL = {"PAF", "PVF", "IRCAM"}
# How many of the cuts are not detected, since they are at the end of a frame, of a fragment or of a page.
AT_FRAMES = {
    "short.gsm": 8,
    "short.amr": 8,
    "adts_named.mp3": 3,
    "vbr_noxing.mp3": 3,
    "cat_mp3.mp3": 3,
    "fragmented.mp4": 2,
}
# Formats of data and of instruments that are not supported.
NOT_DECODED = {"MAT4", "MAT5", "MPC2K", "RAW", "SD2", "SDS", "WVE", "XI"}
LOSSLESS = {"PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_16", "ALAC_24", "ALAC_32"}


def cuts(content: bytes) -> list[int]:
    """Where to cut: near both ends, where headers and trailers are, and at random positions between them."""
    size = len(content)
    inside = np.random.default_rng(0).integers(1, size, 40)
    return sorted(
        {*range(1, min(100, size), 7), *map(int, inside), *(size - k for k in (1, 2, 3, 4, 8, 44, 512) if k < size)}
    )


def undetected_cuts(content: bytes, num_samples: int) -> list[int]:
    """The cuts that leave fewer than `num_samples` samples without an error."""
    undetected = []
    for cut in cuts(content):
        try:
            decoded = decode("cut", content[:cut])
        except AudioError:
            continue
        if decoded.num_samples < num_samples:
            undetected.append(cut)
    return undetected


@pytest.mark.parametrize("container", sorted(set(soundfile.available_formats()) - NOT_DECODED))
def test_a_cut_recording_is_an_error(container: str) -> None:
    audio = np.random.default_rng(0).normal(size=3000) * 0.1
    num_written = 0
    for subtype in soundfile.available_subtypes(container):
        file = io.BytesIO()
        try:
            soundfile.write(file, audio, 16000, format=container, subtype=subtype)
        except soundfile.LibsndfileError:
            continue  # Listed, but not written.
        num_written += 1
        intact = decode("intact", file.getvalue())
        # Codecs of blocks add the rest of the last one.
        assert 3000 <= intact.num_samples < 3500, subtype
        if subtype in LOSSLESS:
            np.testing.assert_allclose(intact.samples, audio, atol=2.0**-15, err_msg=subtype)
        if container not in CANNOT_TELL:
            assert undetected_cuts(file.getvalue(), intact.num_samples) == [], subtype
    assert num_written


@pytest.mark.parametrize("name", SECONDS)
def test_a_cut_compressed_recording_is_an_error(name: str) -> None:
    content = (RECORDINGS / name).read_bytes()
    intact = decode("intact", content)
    # FFmpeg 8 keeps the padding at the end of an MP4, FFmpeg 9 removes it.
    assert intact.seconds == pytest.approx(SECONDS[name], abs=0.006)
    assert np.abs(intact.samples).max() > 0.05
    assert len(undetected_cuts(content, intact.num_samples)) <= AT_FRAMES.get(name, 0)


def run_program(name: str, *arguments: object) -> str:
    """What a program of `tests/programs` prints."""
    command = [sys.executable, "-m", f"tests.programs.{name}", *map(str, arguments)]
    # The timeout ends a decoder that hangs.
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
