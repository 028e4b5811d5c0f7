"""Recordings that tests write, and how they decode them."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from spectra_jax.audio import decode
from spectra_jax.errors import AudioError

RECORDINGS = Path(__file__).parents[1] / "recordings"
JUNE = Path(__file__).parents[2] / "examples" / "corpus" / "eval" / "june_00.flac"
SECONDS = {
    "adts_named.mp3": 2.88,
    "alac.caf": 0.5,
    "c_ac3.wav": 2.832,
    "c_gsm_ms.wav": 2.84,
    "cat_mp3.mp3": 5.1509,
    "cat_ogg.ogg": 5.0575,
    "cat_opus.opus": 5.0575,
    "flac.oga": 0.5,
    "fragmented.mp4": 0.576,
    "gsm_sox.wav": 0.52,
    "live.webm": 0.5,
    "old.wma": 2.784,
    "piped.wma": 0.288,
    "short.amr": 0.52,
    "short.gsm": 0.5,
    "speex.ogg": 0.5,
    "stuffing.mp3": 0.5955,
    "trimmed.opus": 1.8105,
    "v_chain.ogg": 5.621,
    "vbr_noxing.mp3": 2.916,
    "video.mp4": 2.816,
    "voice_memo.m4a": 2.816,
    "whatsapp.webm": 2.8105,
}
"""How long FFmpeg's program decodes each recording: `ffmpeg -i FILE -c:a pcm_f32le OUT.wav`."""
ID3V1 = b"TAG" + b"t" * 125


def noise(length: int = 8000, seed: int = 0) -> NDArray[np.int16]:
    return (np.random.default_rng(seed).normal(size=length) * 3000).clip(-32768, 32767).astype(np.int16)


def sound(
    container: str, subtype: str | None = None, rate: int = 16000, audio: NDArray[np.generic] | None = None
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, noise() if audio is None else audio, rate, format=container, subtype=subtype)
    return file.getvalue()


def encoded(container: str, codec: str, audio: NDArray[np.int16], rate: int = 16000, **options: str) -> bytes:
    """By FFmpeg: (samples, channels) in a container."""
    file = io.BytesIO()
    layout = "mono" if audio.shape[1] == 1 else "stereo"
    with av.open(file, "w", format=container, options=options) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        formats = stream.codec_context.codec.audio_formats
        assert formats is not None
        wanted = next((sample for sample in formats if sample.name.startswith("s16")), formats[0])
        stream.codec_context.format = wanted
        resampler = av.AudioResampler(wanted, layout, rate)
        frame = av.AudioFrame.from_ndarray(audio.reshape(1, -1), "s16", layout)
        frame.sample_rate = rate
        size = stream.codec_context.frame_size or len(audio)
        fifo = av.AudioFifo()
        if codec == "wmav2":
            stream.bit_rate = 128_000
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            part.pts = None
            fifo.write(part)
        done = 0
        while (block := fifo.read(size) or fifo.read()) is not None:
            block.pts, block.time_base = done, Fraction(1, rate)
            done += block.samples
            output.mux(stream.encode(block))
        output.mux(stream.encode(None))
    return file.getvalue()


def tones(length: int, rate: int, channels: int) -> NDArray[np.int16]:
    """Each channel a tone of its own that rises, so that no shift of it is like another: (length, channels)."""
    time = np.arange(length)[:, None] / rate
    pitch = 200 + 100 * np.arange(1, channels + 1)
    return (8000 * np.sin(2 * np.pi * (pitch * time + 300 * time**2))).astype(np.int16)


def decoded_length(content: bytes) -> int:
    """The number of samples of a recording that is decoded."""
    return decode("clip", content).num_samples


def error_of(content: bytes) -> str:
    """The message of the error that a recording is, without its name."""
    with pytest.raises(AudioError, match=r"^clip: ") as caught:
        decode("clip", content)
    return str(caught.value).removeprefix("clip: ")


def with_sizes(content: bytes, data: int, riff: int) -> bytes:
    return content[:4] + struct.pack("<I", riff) + content[8:40] + struct.pack("<I", data) + content[44:]


def assert_intact(content: bytes, audio: NDArray[np.int16] | None = None) -> None:
    """A recording of 16-bit samples is decoded to exactly these, by default `noise()`."""
    expected = noise() if audio is None else audio
    np.testing.assert_array_equal(decode("intact", content).samples * 32768, expected)
