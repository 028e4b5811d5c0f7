"""FLAC: missing lengths, missing frames, and what follows."""

from __future__ import annotations

import io
import itertools
import re
import struct

import av
import numpy as np

from spectra_jax.audio import decode
from tests.audio.recordings import assert_intact, decoded_length, error_of, noise, sound


def without_length(flac: bytes) -> bytes:
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


def test_a_flac_from_a_pipe_states_no_length_and_is_decoded() -> None:
    content = sound("FLAC")
    assert decode("clip", without_length(content)).sha256 == decode("clip", content).sha256


def test_anything_may_follow_the_samples_that_a_flac_states() -> None:
    content = sound("FLAC")
    assert decoded_length(content + np.random.default_rng(0).bytes(5000)) == 8000
    # Behind one that states no length, a tag is recognised, and anything else may be damage.
    assert decoded_length(without_length(content) + b"TAG" + bytes(125)) == 8000
    assert "damaged" in error_of(without_length(content) + b"\n")


def test_a_flac_that_states_less_than_follows_is_an_error() -> None:
    content = sound("FLAC")
    assert_intact(content)
    assert "more samples than the 4,000" in error_of(content[:22] + struct.pack(">I", 4000) + content[26:])


def flac_frames(content: bytes) -> list[int]:
    with av.open(io.BytesIO(content), "r", format="flac") as container:
        return [packet.pos for packet in container.demux() if packet.size and packet.pos is not None]


def test_a_flac_without_one_of_its_frames_is_an_error() -> None:
    # libFLAC returns silence instead.
    audio = noise(30_000)
    content = sound("FLAC", audio=audio)
    assert_intact(content, audio)
    frames = [*flac_frames(content), len(content)]
    assert len(frames) > 5
    for begin, end in itertools.pairwise(frames):
        assert re.search("MD5|cut short|damaged", error_of(content[:begin] + content[end:]))
        assert error_of(content[:begin])
