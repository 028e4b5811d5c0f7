"""MP3: tags, padding, joined streams, info frames and damage."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from spectra_jax.audio import decode, read
from spectra_jax.audio.containers.frames import iter_frames
from spectra_jax.audio.containers.mp3 import mp3_frame_length
from spectra_jax.audio.source import Source
from tests.audio.recordings import ID3V1, RECORDINGS, decoded_length, error_of, sound

LYRICS = b"LYRICSBEGININD0000200LYR00010helloworld000000LYRICS200"


# A tag of version 1: without a header.
APE_ITEM = struct.pack("<II", 5, 0) + b"Title\0hello"


APE = APE_ITEM + b"APETAGEX" + struct.pack("<IIII", 1000, len(APE_ITEM) + 32, 1, 0) + bytes(8)


BOUNDARY = b"\r\n--------------------------d74496d66958873e\r\nContent-Disposition: form-data\r\n\r\nabc\r\n"


def without_info_frame(content: bytes) -> bytes:
    """An MP3 without the frame that states how many follow."""
    return content[mp3_frame_length(content[:4]) :]


def test_stuffing_bits_do_not_silence_a_frame() -> None:
    # With other options, FFmpeg's decoder sets the values to zero and reports nothing.
    samples, rate = read(RECORDINGS / "stuffing.mp3")
    expected, expected_rate = soundfile.read(RECORDINGS / "stuffing.mp3", dtype="float32")
    assert rate == expected_rate
    np.testing.assert_allclose(samples, expected, atol=1e-5)


def test_tags_of_every_kind_may_follow_an_mp3() -> None:
    content = sound("MP3")
    for tags in (LYRICS, LYRICS + ID3V1, APE, APE + ID3V1):
        assert decoded_length(content + tags) == 8000, tags
    for tags in (ID3V1, APE, APE + ID3V1):
        assert "cut short: its last MP3 frame has" in error_of(content[:-10] + tags), tags


def test_an_mp3_that_is_joined_to_one_with_lyrics_is_decoded() -> None:
    content = sound("MP3")
    joined = decoded_length(content + content)
    assert joined > 15_000
    assert decoded_length(content + LYRICS + ID3V1 + content) == joined


@pytest.mark.parametrize(
    "rest", [b"one\ntwo\nthree\n", BOUNDARY, "Grüße\n".encode(), bytes(500), b"\xff" * 300, b"\xaa" * 16, b"\0\0text"]
)
def test_text_and_padding_behind_frames_are_ignored(rest: bytes) -> None:
    for content in (sound("MP3"), without_info_frame(sound("MP3"))):
        assert decode("clip", content + rest).sha256 == decode("clip", content).sha256
        assert decode("clip", content + rest + ID3V1).sha256 == decode("clip", content).sha256
    adts = (RECORDINGS / "adts_named.mp3").read_bytes()
    assert decode("clip", adts + rest).sha256 == decode("clip", adts).sha256


def test_anything_without_frames_may_follow_the_frames_that_an_mp3_states() -> None:
    content = sound("MP3")
    random = np.random.default_rng(0).bytes(5000)
    for rest in (random, bytes(300_000), b"a\0b\n" * 20_000, random + ID3V1):
        assert decode("clip", content + rest).sha256 == decode("clip", content).sha256
    # More frames, or a part of one, may be a part of the recording.
    for rest in (random + without_info_frame(content), without_info_frame(content)[:-10]):
        assert error_of(content + rest)
    # If the number of frames is not stated, the bytes may be damaged frames; if it is not reached, they are.
    frames = list(iter_frames(Source(io.BytesIO(content)), 0, mp3_frame_length, "MP3"))
    assert "damaged" in error_of(without_info_frame(content) + random)
    assert "damaged" in error_of(content[: frames[-1][0]] + random)
    assert "cut short" in error_of(content[: frames[-1][0]] + b"one\ntwo\n")


def test_padding_between_joined_mp3_files_is_ignored() -> None:
    content = sound("MP3")
    joined = decode("clip", content + content).sha256
    tag = b"ID3\4\0\0\0\0\0\0"
    for gap in (bytes(500), b"\r\n", bytes(500) + tag, bytes(500) + ID3V1 + bytes(20)):
        assert decode("clip", content + gap + content).sha256 == joined
    uncounted = without_info_frame(content)
    for first, second in ((content, uncounted), (uncounted, content)):
        assert decoded_length(first + bytes(500) + second) == decoded_length(first + second)
    # Zeros in the middle of a stream are damage, also if it does not state its number of frames.
    frames = list(iter_frames(Source(io.BytesIO(content)), 0, mp3_frame_length, "MP3"))
    (hole, _), (_, end) = frames[5:7]
    for begin in (0, frames[0][1]):
        assert "damaged" in error_of(content[begin:hole] + bytes(end - hole) + content[end:])


def test_an_mp3_that_lost_a_frame_or_a_part_of_one_is_an_error() -> None:
    content = sound("MP3")
    assert decoded_length(content) == 8000
    assert "cut short: its last MP3 frame has" in error_of(content[:-10])
    frames = list(iter_frames(Source(io.BytesIO(content)), 0, mp3_frame_length, "MP3"))
    assert "of the 16 MP3 frames that its header states" in error_of(content[: frames[-3][0]])
    hole = len(content) // 2
    assert "no MP3 frame begins" in error_of(content[:hole] + bytes(200) + content[hole + 200 :])


def test_an_mp3_of_a_free_bit_rate_has_its_own_message() -> None:
    # As `lame --freeformat` writes it: the second of each three frames is padded.
    for header in (b"\xff\xfb%c\xc4", b"\xff\xf3%c\xc4", b"\xff\xfd%c\xc4"):
        content = b"".join(header % (2 * padding) + bytes(649 + padding) for padding in (0, 1, 0) * 5)
        assert "an MP3 of a free bit rate (free format)" in error_of(content)
        assert "an MP3 of a free bit rate (free format)" in error_of(ID3V1 + content)
    assert "not an audio file" in error_of(b"\xff\xfb\0\xc4" + np.random.default_rng(0).bytes(9000))
