"""What FFmpeg and libsndfile write in each container and codec is decoded to the same samples."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from scipy import signal

from spectra_jax.audio import decode
from tests.audio.recordings import encoded, noise, sound, tones

LOSSLESS = {
    "wav-16": ("wav", "pcm_s16le"),
    "wav-24": ("wav", "pcm_s24le"),
    "wav-float": ("wav", "pcm_f32le"),
    "aiff-16": ("aiff", "pcm_s16be"),
    "au-16": ("au", "pcm_s16be"),
    "caf-16": ("caf", "pcm_s16be"),
    "w64-16": ("w64", "pcm_s16le"),
    "flac-16": ("flac", "flac"),
    "ogg-flac": ("ogg", "flac"),
    "mka-flac": ("matroska", "flac"),
    "m4a-alac": ("ipod", "alac"),
    "mov-16": ("mov", "pcm_s16be"),
    "wavpack": ("wv", "wavpack"),
}


# Container, codec, and the greatest error that the codec may make on two tones. Each drops or adds some samples at its
# start, by which the two are aligned.
LOSSY = {
    "mp3": ("mp3", "libmp3lame", 0.05),
    "aac": ("adts", "aac", 0.05),
    "m4a": ("ipod", "aac", 0.05),
    "webm": ("webm", "libopus", 0.05),
    "mkv-aac": ("matroska", "aac", 0.05),
    "wma": ("asf", "wmav2", 0.08),
    "ac3": ("ac3", "ac3", 0.05),
    "eac3": ("eac3", "eac3", 0.05),
    "mp2": ("mp2", "mp2", 0.05),
}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("name", LOSSLESS)
def test_what_ffmpeg_wrote_without_loss_is_decoded_to_the_same_samples(name: str, rate: int, channels: int) -> None:
    container, codec = LOSSLESS[name]
    # A multiple of 8, since FFmpeg counts the padding of a W64 as samples.
    audio = tones(rate // 32 * 8, rate, channels)
    decoded = decode(f"clip.{container}", encoded(container, codec, audio, rate))
    mono = (audio.astype(np.float32) / 32768).mean(axis=1, dtype=np.float32)
    assert decoded.rate == rate
    np.testing.assert_array_equal(decoded.samples, mono)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize("name", LOSSY)
def test_what_ffmpeg_wrote_with_a_loss_is_decoded_completely(name: str, rate: int, channels: int) -> None:
    container, codec, tolerance = LOSSY[name]
    if codec == "libopus" and rate == 44100:
        pytest.skip("Opus has no such rate")
    if codec in ("ac3", "eac3") and rate == 16000:
        rate = 32000
    audio = tones(rate, rate, channels)
    decoded = decode(f"clip.{container}", encoded(container, codec, audio, rate))
    mono = (audio / 32768).mean(axis=1)
    found = decoded.samples[:: decoded.rate // rate]
    # Encoders add at most a few frames of silence, and WMA leaves out the last one.
    assert -0.1 * rate < len(found) - len(mono) < 0.2 * rate
    middle = found[rate // 4 : rate // 2]
    shift = signal.correlate(mono[: rate * 3 // 4], middle, "valid", "fft").argmax()
    assert np.abs(middle - mono[shift : shift + len(middle)]).max() < tolerance


@pytest.mark.parametrize(
    "container", sorted({"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "SVX", "NIST", "AVR"})
)
def test_every_subtype_is_as_libsndfile_decodes_it(container: str) -> None:
    for subtype in soundfile.available_subtypes(container):
        audio = noise()
        try:
            content = sound(container, subtype, 8000, audio)
        except soundfile.LibsndfileError:
            continue  # Named, but not written.
        decoded = decode("clip", content)
        if subtype == "GSM610" and container == "WAV":
            # libsndfile takes the byte of padding for one more block.
            assert decoded.num_samples == len(audio)
            continue
        if "DWVW" in subtype:
            assert decoded.num_samples == len(audio)  # soundfile itself cannot read it, since it seeks.
            continue
        expected, rate = soundfile.read(io.BytesIO(content), dtype="float32")
        assert (decoded.rate, subtype) == (rate, subtype)
        np.testing.assert_array_equal(decoded.samples, expected)
