"""FFmpeg: which stream of a container is decoded, and several files in one."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from spectra_jax.audio import decode
from tests.audio.recordings import decoded_length, encoded, error_of, noise, tones


@pytest.mark.parametrize(
    ("container", "codec"), [("ipod", "aac"), ("webm", "libopus"), ("asf", "wmav2"), ("wv", "wavpack")]
)
def test_two_files_of_a_container_in_one_are_an_error(container: str, codec: str) -> None:
    content = encoded(container, codec, tones(16000, 16000, 1))
    assert 15_000 < decoded_length(content) < 60_000
    assert "several files in one" in error_of(content + content)


def test_a_video_without_sound_has_its_own_message() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        output.mux(stream.encode(None))
    assert "no audio stream" in error_of(file.getvalue())


def test_of_several_audio_streams_the_default_one_is_decoded() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        streams = [output.add_stream("pcm_s16le", rate=rate, layout="mono") for rate in (8000, 16000)]
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(noise(4000).reshape(1, -1), "s16", "mono")
            frame.sample_rate = stream.rate
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    assert decode("clip", file.getvalue()).rate == 8000


def test_a_title_that_is_not_utf8_is_ignored() -> None:
    content = encoded("matroska", "flac", tones(4000, 16000, 1))
    assert b"Lavf" in content
    assert decoded_length(content.replace(b"Lavf", b"L\xff\xfef")) == 4000
