"""Ogg: pages, chained streams and damage."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable

import numpy as np
import pytest

from spectra_jax.audio import decode
from spectra_jax.audio.containers.ogg import checksum
from tests.audio.recordings import decoded_length, error_of, noise, sound


def with_pages(content: bytes, change: Callable[[int, bytearray], None]) -> bytes:
    """An Ogg stream whose pages, given with their number, are changed."""
    starts = [k for k in range(len(content)) if content[k : k + 4] == b"OggS"]
    pages = [bytearray(content[begin:end]) for begin, end in itertools.pairwise([*starts, len(content)])]
    for number, page in enumerate(pages):
        change(number, page)
        page[22:26] = checksum(bytes(page)).to_bytes(4, "little")
    return b"".join(pages)


def test_a_changed_or_missing_page_is_an_error() -> None:
    for subtype in ("VORBIS", "OPUS"):
        content = sound("OGG", subtype, audio=noise(60_000))
        assert decoded_length(content) == 60_000
        pages = [k for k in range(len(content)) if content[k : k + 4] == b"OggS"]
        middle = len(content) // 2
        assert "checksum" in error_of(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        assert "pages are missing" in error_of(content[: pages[2]] + content[pages[3] :])


def test_an_ogg_without_a_mark_of_its_end_is_decoded_completely() -> None:
    for subtype in ("VORBIS", "OPUS"):
        content = sound("OGG", subtype)
        offset = content.rfind(b"OggS")
        last = bytearray(content[offset:])
        last[5] &= ~4
        last[22:26] = checksum(bytes(last)).to_bytes(4, "little")
        assert decode("clip", content[:offset] + bytes(last)).sha256 == decode("clip", content).sha256
        assert "damaged" in error_of(content[:offset] + bytes(last) + b"OggX" + bytes(50))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_with_negative_positions_is_decoded_completely(subtype: str) -> None:
    # As FFmpeg's cuts without encoding have them. libsndfile then returns samples of Opus that it never set.
    content = sound("OGG", subtype, 48000, noise(120_000))
    positions: list[int] = []

    def earlier(number: int, page: bytearray) -> None:
        (position,) = struct.unpack("<q", page[6:14])
        if position > 0:
            page[6:14] = struct.pack("<q", position - 100_000)
            positions.append(position - 100_000)

    decoded = decode("clip", with_pages(content, earlier))
    assert min(positions) < -1
    assert (decoded.rate, decoded.not_finite) == (48000, None)
    expected = decode("clip", content).samples
    # The first page of Vorbis then states no samples to leave out.
    assert abs(len(decoded.samples) - len(expected)) < 1000
    compared = min(len(decoded.samples), len(expected)) - 1000
    np.testing.assert_allclose(decoded.samples[-compared:], expected[-compared:], atol=1e-3)


def test_a_chained_opus_of_several_original_rates_is_decoded_at_the_rate_of_opus() -> None:
    def label(number: int, page: bytearray) -> None:
        if number == 0:
            offset = page.index(b"OpusHead") + 12
            page[offset : offset + 4] = struct.pack("<I", 44100)

    telephone, studio = sound("OGG", "OPUS", 16000), with_pages(sound("OGG", "OPUS", 48000), label)
    for chain, each in (((telephone, studio), (24_000, 8000)), ((studio, telephone), (8000, 24_000))):
        decoded = decode("clip", b"".join(chain))
        assert (decoded.rate, decoded.num_samples) == (48000, sum(each))
        parts = [decode("clip", part + studio).samples[:length] for part, length in zip(chain, each, strict=True)]
        np.testing.assert_allclose(decoded.samples, np.concatenate(parts), atol=1e-5)
    assert decode("clip", telephone + telephone).rate == 16000
    assert decode("clip", telephone + sound("OGG", "VORBIS", 48000)).num_samples == 32_000


def test_joined_recordings_of_two_rates_are_an_error_and_of_other_channels_are_decoded() -> None:
    for container, subtype in (("OGG", "VORBIS"), ("MP3", None)):
        first, faster = sound(container, subtype), sound(container, subtype, 32000)
        stereo = sound(container, subtype, audio=np.stack([noise()] * 2, axis=1))
        assert "its sample rate changes from 16000 to 32000 Hz" in error_of(first + faster)
        assert decoded_length(first + stereo) >= 16_000
    assert decoded_length(sound("OGG", "OPUS") + sound("OGG", "VORBIS")) == 16_000
