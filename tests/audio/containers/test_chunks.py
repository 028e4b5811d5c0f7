"""What WAV, AIFF, CAF and similar formats share: stated lengths, and what follows the samples."""

from __future__ import annotations

import re
import struct

import pytest

from spectra_jax.audio import decode
from spectra_jax.audio.containers.chunks import is_placeholder
from tests.audio.recordings import assert_intact, decoded_length, error_of, noise, sound


def test_the_highest_lengths_are_placeholders_in_small_files_only() -> None:
    # Recorders begin another file at 2 or 4 GB.
    for available, cut in ((3_000_000_000, True), (10_000_000, False)):
        assert is_placeholder(0xFFFF_F000, 0xFFFF_F024, 44, 2, available) is not cut


@pytest.mark.parametrize("missing", [1, 2, 44, 100, 511, 512, 513])
@pytest.mark.parametrize("container", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "SVX", "NIST", "AVR"])
def test_a_missing_byte_of_samples_is_an_error(container: str, missing: int) -> None:
    content = sound(container)
    assert_intact(content)
    assert "cut short" in error_of(content[:-missing])


def test_an_aiff_au_and_caf_from_a_pipe_are_decoded_completely() -> None:
    aiff, au, caf = bytearray(sound("AIFF")), bytearray(sound("AU")), bytearray(sound("CAF"))
    offset = aiff.index(b"SSND") + 4
    aiff[offset : offset + 4] = struct.pack(">I", 0x7F00_0008)
    au[8:12] = struct.pack(">I", 0xFFFF_FFFF)
    offset = caf.index(b"data") + 4
    caf[offset : offset + 8] = struct.pack(">q", -1)
    for content in (aiff, au, caf):
        assert_intact(bytes(content))


@pytest.mark.parametrize(
    "container", ["WAV", "FLAC", "RF64", "W64", "AIFF", "AU", "CAF", "SVX", "NIST", "AVR", "VOC", "OGG", "MP3"]
)
def test_a_tag_or_a_newline_behind_a_recording_is_ignored(container: str) -> None:
    content = sound(container)
    for rest in (b"\n", b"TAG" + bytes(125), bytes(3000)):
        assert decoded_length(content + rest) == 8000, (rest[:3], container)


@pytest.mark.parametrize("container", ["WAV", "RF64", "AIFF", "AU", "CAF", "FLAC", "SVX", "W64", "NIST", "AVR"])
def test_two_recordings_in_one_file_are_an_error(container: str) -> None:
    content = sound(container)
    assert_intact(content)
    reasons = "several files in one|the header is wrong|more samples|its chunk 'caff'"
    assert re.search(reasons, error_of(content + content))


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("container", ["WAV", "AIFF", "W64"])
def test_a_tag_of_an_odd_length_in_front_does_not_move_the_padding_of_chunks(container: str, size: int) -> None:
    tag = b"ID3\4\0\0\0\0\0" + bytes([size + 10]) + bytes(size + 10)
    order = ">I" if container == "AIFF" else "<I"
    content = sound(container, "PCM_S8" if container == "AIFF" else "PCM_U8", audio=noise(7999))
    if container != "W64":
        # Chunks of an odd length before and behind the samples.
        odd = b"junk" + struct.pack(order, 5) + bytes(5 + 1)
        content = content[:12] + odd + content[12:] + odd
        content = content[:4] + struct.pack(order, len(content) - 8) + content[8:]
    assert decode("clip", tag + content).sha256 == decode("clip", content).sha256
    assert "cut short" in error_of(tag + content[:-100])


def test_an_aiff_may_end_with_its_copyright() -> None:
    content = sound("AIFF") + b"(c) " + struct.pack(">I", 12) + b"2020 someone"
    assert decoded_length(content[:4] + struct.pack(">I", len(content) - 8) + content[8:]) == 8000
