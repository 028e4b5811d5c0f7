"""WAV and its 64-bit kinds: unknown lengths, chunks and damage."""

from __future__ import annotations

import struct

import pytest

from spectra_jax.audio import decode
from tests.audio.recordings import assert_intact, decoded_length, error_of, noise, sound, with_sizes


@pytest.mark.parametrize(
    ("data", "riff"),
    [
        (0, 0),
        (0, 36),
        (0xFFFF_FFFF, 0xFFFF_FFFF),
        (0x7FFF_FFFF, 0x7FFF_FFFF),
        (0x8000_0000, 0x8000_0024),
        (0x7FFF_F000, 0x7FFF_F024),
        (0x7FFF_0000, 0x7FFF_0024),
        (2_000_000_000, 2_000_000_036),
        (1_000_000_000, 1_000_000_036),
        (0xFFFF_FFF0, 0xFFFF_FFFF),
        (0xFFFF_FF00, 0xFFFF_FF24),
        (0xFFFF_F000, 0xFFFF_F024),
        (0xFFFF_0000, 0xFFFF_0024),
        (0x7FFF_FF00, 0x7FFF_FF24),
        (0x7FFF_F800, 0x7FFF_F824),
        (0xFFFF_FFFF - 36, 0xFFFF_FFFF),
        (0x7FFF_FFFF - 44, 0x7FFF_FFF7),
        (0xFFFF_FFFE, 0xFFFF_FFFF),
    ],
)
def test_a_wav_whose_writer_did_not_know_its_length_is_decoded_completely(data: int, riff: int) -> None:
    content = sound("WAV")
    assert_intact(content)
    streamed = with_sizes(content, data, riff)
    assert decode("clip", streamed).sha256 == decode("clip", content).sha256
    assert "cut short: its last sample has 1 of its 2 bytes" in error_of(streamed[:-1])
    assert "several files in one: another recording begins at byte 16,044" in error_of(streamed + streamed)


@pytest.mark.parametrize(
    "data", [16_002, 16_512, 1_999_999_998, 2_100_000_000, 0x7FFE_FFFE, 0xFFFE_FFFE, 3_000_000_000]
)
def test_a_wav_that_states_any_other_length_is_cut_short(data: int) -> None:
    content = sound("WAV")
    assert_intact(content)
    assert f"cut short: 16,000 of the {data:,} bytes" in error_of(with_sizes(content, data, data + 36))


def test_a_wav_that_counts_its_header_as_samples_is_decoded() -> None:
    content = sound("WAV")
    counted = content[:40] + struct.pack("<I", len(content)) + content[44:]
    assert decode("clip", counted).sha256 == decode("clip", content).sha256
    # The same length in a file of which as many bytes are missing.
    assert "cut short" in error_of(counted[:4] + struct.pack("<I", len(content) + 44 - 8) + counted[8:])


def test_a_header_that_states_less_than_follows_is_an_error() -> None:
    content = sound("WAV")
    assert_intact(content)
    assert "the header is wrong" in error_of(with_sizes(content, 8000, 8036))
    assert "the header is wrong" in error_of(with_sizes(content, 15_600, 16_036))
    assert "several data chunks" in error_of(content + b"data" + struct.pack("<I", 4) + bytes(4))


def test_a_chunk_of_samples_may_be_odd_with_its_padding_or_without() -> None:
    padded = sound("WAV", "PCM_U8", audio=noise(7999))
    assert padded[-1] == 0
    info = b"LIST" + struct.pack("<I", 4) + b"INFO"
    for content in (padded, padded[:-1], padded + info, padded[:-1] + info):
        assert decoded_length(content) == 7999


def riff_chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content


def as_riff(content: bytes) -> bytes:
    """With the length of the file in its header, which states that the chunks are a part of it."""
    return content[:4] + struct.pack("<I", len(content) - 8) + content[8:]


@pytest.mark.parametrize("name", [b"_PMX", b"bext", b"iXML", b"cue ", b"smpl", b"afsp", b"(c) "])
@pytest.mark.parametrize("size", [24, 5, 3000])
def test_chunks_of_any_name_may_follow_the_samples(name: bytes, size: int) -> None:
    padded = sound("WAV", "PCM_U8", audio=noise(7999))
    rest = riff_chunk(name, b"x" * size)
    for content in (padded + rest, padded[:-1] + rest, padded + rest + bytes(size & 1) + riff_chunk(b"LIST", b"INFO")):
        assert decoded_length(as_riff(content)) == 7999
    # More samples are not a chunk.
    more = noise(3000).astype("<i2").tobytes()
    assert "the header is wrong" in error_of(as_riff(sound("WAV") + more))


def test_a_bw64_is_an_rf64_by_another_name() -> None:
    content = sound("RF64")
    assert content[:4] == b"RF64"
    assert_intact(content)
    assert decode("clip", b"BW64" + content[4:]).sha256 == decode("clip", content).sha256
    assert "cut short" in error_of(b"BW64" + content[4:-2])


def test_impossible_rates_and_channels_are_named() -> None:
    content = sound("WAV")
    assert_intact(content)
    for rate in (0, 16, 2_000_000):
        assert f"{rate:,} Hz" in error_of(content[:24] + struct.pack("<I", rate) + content[28:])
    assert "65,535 channels" in error_of(content[:22] + b"\xff\xff" + content[24:])
