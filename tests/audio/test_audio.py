"""Decoding, and the way from a clip to the window of samples that the network hears."""

from __future__ import annotations

import itertools
import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import signal

from spectra_jax.audio import decode, is_silent, open_stream, pre_emphasis, prepare, read, resample, to_mono, window
from spectra_jax.errors import AudioError

RNG_SEED = 20

# format -> subtype, extension, the greatest error the coding may make on the tone below, rates it can hold.
FORMATS = {
    "wav-16": ("WAV", "PCM_16", ".wav", 2.0**-15, (8000, 16000, 44100, 96000)),
    "wav-24": ("WAV", "PCM_24", ".wav", 2.0**-23, (16000, 48000)),
    "wav-float": ("WAV", "FLOAT", ".wav", 0.0, (16000, 22050)),
    "flac-16": ("FLAC", "PCM_16", ".flac", 2.0**-15, (8000, 16000, 44100, 48000)),
    "aiff-16": ("AIFF", "PCM_16", ".aiff", 2.0**-15, (16000, 44100)),
    "ogg-vorbis": ("OGG", "VORBIS", ".ogg", 0.05, (16000, 44100)),
    "opus": ("OGG", "OPUS", ".opus", 0.05, (16000, 48000)),
    "mp3": ("MP3", "MPEG_LAYER_III", ".mp3", 0.05, (16000, 44100)),
}
CASES = [
    pytest.param(name, rate, channels, id=f"{name}-{rate}-{channels}ch")
    for name, (*_, rates) in FORMATS.items()
    for rate, channels in itertools.product(rates, (1, 2) if name == "mp3" else (1, 2, 5))
]

samples = arrays(np.float32, st.integers(1, 300), elements=st.floats(-1, 1, width=32))


def noise(length: int, seed: int = RNG_SEED) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, length).astype(np.float32)


def tone(length: int, rate: int, channels: int) -> NDArray[np.float32]:
    """A 300 Hz tone of another loudness in each channel: (length, channels)."""
    wave = np.sin(2 * np.pi * 300 * np.arange(length) / rate)
    return (wave[:, None] * np.linspace(0.6, 0.2, channels)).astype(np.float32)


def save(path: Path, audio: NDArray[np.generic], rate: int = 16000, **how: str) -> Path:
    soundfile.write(path, audio, rate, **how)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(AudioError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message


# Reading


@pytest.mark.parametrize(("name", "rate", "channels"), CASES)
def test_every_format_rate_and_channel_count_reads_back(tmp_path: Path, name: str, rate: int, channels: int) -> None:
    container, subtype, suffix, tolerance, _ = FORMATS[name]
    audio = tone(rate // 2, rate, channels)
    path = save(tmp_path / f"clip{suffix}", audio, rate, format=container, subtype=subtype)
    mono, found_rate = read(path)
    assert (found_rate, mono.dtype, mono.ndim) == (rate, np.float32, 1)
    # soundfile's own read is the oracle, to the bit; of MP3, which FFmpeg decodes, to its rounding.
    decoded, _ = soundfile.read(path, dtype="float32", always_2d=True)
    np.testing.assert_allclose(mono, decoded.mean(axis=1), rtol=0, atol=1e-5 if suffix == ".mp3" else 0)
    # A coder may fade in at the start and pad at the end: the loss is judged in between.
    middle = slice(rate // 8, 3 * rate // 8)
    assert np.abs(mono[middle] - audio.mean(axis=1)[middle]).max() <= tolerance + 1e-7


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff"])
def test_16_bit_samples_are_divided_by_32768_exactly(tmp_path: Path, suffix: str) -> None:
    every_value = np.arange(-(2**15), 2**15, dtype=np.int16)
    mono, _ = read(save(tmp_path / f"clip{suffix}", every_value))
    np.testing.assert_array_equal(mono * np.float32(32768), every_value)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg"])
def test_a_clip_longer_than_one_block_reads_like_a_short_one(tmp_path: Path, suffix: str, monkeypatch) -> None:
    # Loud and silent by turns, so that an MP3 varies its bit rate and a seek between blocks would go astray.
    audio = noise(40_000) * np.repeat(np.arange(40) % 2, 1000).astype(np.float32)
    how = {"bitrate_mode": "VARIABLE"} if suffix == ".mp3" else {}
    path = save(tmp_path / f"clip{suffix}", audio, **how)
    whole, _ = read(path)
    monkeypatch.setattr("spectra_jax.audio.decoding._BLOCK_SAMPLES", 3001)
    np.testing.assert_array_equal(read(path)[0], whole)
    np.testing.assert_allclose(soundfile.read(path, dtype="float32")[0], whole, rtol=0, atol=1e-5 if how else 0)


def test_a_flac_from_a_pipe_has_no_length_in_its_header_and_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "clip.flac", noise(5000))
    whole, _ = read(path)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)
    np.testing.assert_array_equal(read(path)[0], whole)


def test_a_wav_that_counts_its_own_header_as_samples_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "clip.wav", noise(5000), subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", len(data))
    path.write_bytes(data)
    assert len(read(path)[0]) == 5000
    # The same length in a file of which as many bytes are missing.
    data[4:8] = struct.pack("<I", len(data) + 44 - 8)
    path.write_bytes(data)
    assert "cut short" in refusal(path)


def test_a_name_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/clip\xff.wav"))
    try:
        path.write_bytes(save(tmp_path / "clip.wav", noise(100)).read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert len(read(path)[0]) == 100


def test_plain_reasons_have_their_own_sentence(tmp_path: Path) -> None:
    assert refusal(tmp_path / "missing.wav").endswith(": no such file")
    assert refusal(tmp_path).endswith(": a folder, not an audio file")
    (tmp_path / "empty.wav").touch()
    assert refusal(tmp_path / "empty.wav").endswith(": empty (0 bytes)")
    assert refusal(save(tmp_path / "none.wav", noise(0))).endswith(": holds no samples")
    assert refusal(save(tmp_path / "clip.wav", noise(9)) / "inside.wav").endswith(": Not a directory")
    assert "headerless" in refusal(save(tmp_path / "clip.raw", noise(9), format="RAW", subtype="PCM_16"))
    assert "embedded null" in refusal(Path("a\0b.wav"))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    assert "a pipe or a device" in refusal(tmp_path / "pipe.wav")


def test_no_permission_is_said(tmp_path: Path, monkeypatch) -> None:
    path = save(tmp_path / "clip.wav", noise(100))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Not chmod, which an administrator reads past.
    monkeypatch.setattr(Path, "open", refuse)
    assert refusal(path).endswith(": no permission to read it")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg"])
@pytest.mark.parametrize("content", [b"hello, this is no audio", np.random.default_rng(0).bytes(20_000)])
def test_bytes_that_are_no_audio_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(content)
    assert "not an audio file" in refusal(path)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff", ".au"])
def test_a_file_cut_short_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = save(tmp_path / f"clip{suffix}", noise(40_000))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert "cut short" in refusal(path)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 3000))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path_factory, patch: bytes, start: int) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    for suffix in (".wav", ".flac"):
        path = save(folder / f"clip{suffix}", noise(1500))
        data = bytearray(path.read_bytes())
        data[start : start + len(patch)] = patch
        path.write_bytes(data)
        try:
            mono, _ = read(path)
        except AudioError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            assert len(mono) > 0


# Channels and types


def test_channels_are_averaged_and_one_channel_is_left_alone() -> None:
    left, right = noise(500, 1), noise(500, 2)
    np.testing.assert_array_equal(to_mono(np.stack([left, right], axis=1)), (left + right) / np.float32(2))
    np.testing.assert_array_equal(to_mono(left[:, None]), left)
    np.testing.assert_array_equal(to_mono(left), left)


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.int8, [-128, 0, 64], [-1, 0, 0.5]),
        (np.uint8, [0, 128, 192], [-1, 0, 0.5]),
        (np.int16, [-32768, 1, 16384], [-1, 2.0**-15, 0.5]),
        (">i2", [-32768, 1, 16384], [-1, 2.0**-15, 0.5]),
        (np.int32, [-(2**31), 1, 2**30], [-1, 2.0**-31, 0.5]),
        (np.float16, [-1, 0.25, 0.5], [-1, 0.25, 0.5]),
        (np.float64, [-1, 0.1, 0.5], [-1, np.float32(0.1), 0.5]),
    ],
)
def test_pcm_of_every_width_is_brought_to_full_scale_one(dtype, values: list[float], expected: list[float]) -> None:
    mono = to_mono(np.array(values, dtype=dtype))
    assert mono.dtype == np.float32
    np.testing.assert_array_equal(mono, np.array(expected, np.float32))


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.complex64, np.bool_, object])
def test_types_without_a_full_scale_are_refused(dtype) -> None:
    with pytest.raises(AudioError, match="no agreed full scale"):
        to_mono(np.zeros(10, dtype))


def test_shapes_that_are_no_clip_are_refused() -> None:
    with pytest.raises(AudioError, match=r"is it \(channels, samples\)"):
        prepare(np.zeros((2, 64600), np.float32), 16000)
    with pytest.raises(AudioError, match=r"shape \(1, 2, 3\)"):
        prepare(np.zeros((1, 2, 3), np.float32), 16000)
    with pytest.raises(AudioError, match="no channel"):
        prepare(np.zeros((5, 0), np.float32), 16000)
    with pytest.raises(AudioError, match="no samples"):
        prepare(np.zeros((0, 2), np.float32), 16000)


# Rates


@pytest.mark.parametrize(
    ("rate", "up", "down"), [(8000, 2, 1), (44100, 160, 441), (48000, 1, 3), (22050, 320, 441), (11025, 640, 441)]
)
def test_resampling_is_scipys_with_reduced_factors(rate: int, up: int, down: int) -> None:
    audio = noise(rate // 2)
    resampled = resample(audio, rate)
    assert resampled.dtype == np.float32
    np.testing.assert_array_equal(resampled, signal.resample_poly(audio, up, down))


def test_a_tone_keeps_its_pitch_through_resampling() -> None:
    resampled = resample(tone(44100, 44100, 1)[:, 0], 44100)
    assert np.argmax(np.abs(np.fft.rfft(resampled))) == 300


def test_equal_rates_touch_nothing() -> None:
    audio = noise(100)
    assert resample(audio, 16000) is audio
    assert resample(audio, 8000, 8000) is audio


@pytest.mark.parametrize("rate", [0, -16000, 16, 999, 2_000_000, 16000.5, float("nan"), float("inf")])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(AudioError, match=f"sample rate {rate} is not a whole number"):
        prepare(noise(100), rate)  # type: ignore[arg-type]
    with pytest.raises(AudioError, match=f"target rate {rate} is not a whole number"):
        prepare(noise(100), 16000, target_rate=rate)  # type: ignore[arg-type]


# Pre-emphasis


def test_pre_emphasis_rounds_the_product_before_the_subtraction() -> None:
    audio = noise(4000)
    expected = [audio[0]]
    for previous, sample in itertools.pairwise(audio):
        product = np.float32(np.float32(0.97) * previous)
        expected.append(np.float32(sample - product))
    emphasised = pre_emphasis(audio)
    np.testing.assert_array_equal(emphasised.view(np.uint32), np.array(expected, np.float32).view(np.uint32))
    # One rounding, as a fused multiply-add has it: the product of two float32 is exact in float64.
    wide = audio.astype(np.float64)
    fused = (wide[1:] - np.float64(np.float32(0.97)) * wide[:-1]).astype(np.float32)
    assert 0.2 < np.mean(fused != emphasised[1:]) < 0.8


@settings(max_examples=50, deadline=None)
@given(samples)
def test_pre_emphasis_keeps_length_and_first_sample_and_leaves_its_input(audio: NDArray[np.float32]) -> None:
    before = audio.copy()
    emphasised = pre_emphasis(audio)
    assert (emphasised.shape, emphasised.dtype, emphasised[0]) == (audio.shape, np.float32, audio[0])
    assert not np.shares_memory(emphasised, audio)
    np.testing.assert_array_equal(audio, before)
    np.testing.assert_array_equal(pre_emphasis(audio, 0), audio)


def test_pre_emphasis_sees_the_whole_clip_before_it_is_tiled() -> None:
    # Where a short clip begins anew, its first sample stands as it is and takes nothing from the clip's end.
    audio = noise(300)
    tiled = prepare(audio, 16000, num_samples=1000)
    assert tiled[300] == tiled[600] == audio[0]
    np.testing.assert_array_equal(tiled, np.tile(pre_emphasis(audio), 4)[:1000])


# The window


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(1, 1000))
def test_a_window_has_its_length_and_repeats_the_clip(length: int, num_samples: int) -> None:
    audio = np.arange(length, dtype=np.float32)
    cut = window(audio, num_samples)
    np.testing.assert_array_equal(cut, np.arange(num_samples) % length)
    assert not np.shares_memory(cut, audio)


def test_nothing_cannot_be_tiled() -> None:
    with pytest.raises(AudioError, match="no samples"):
        window(noise(0), 10)
    with pytest.raises(ValueError, match="a window of 0 samples"):
        window(noise(10), 0)


# The whole way


def test_the_whole_way_is_the_sum_of_its_steps(tmp_path: Path) -> None:
    audio = np.stack([noise(30_000, 1), noise(30_000, 2)], axis=1)
    path = save(tmp_path / "clip.flac", audio, 44100)
    mono, rate = read(path)
    steps = window(pre_emphasis(signal.resample_poly(mono, 160, 441)), 64600)
    prepared = prepare(mono, rate)
    assert (prepared.shape, prepared.dtype) == ((64600,), np.float32)
    np.testing.assert_array_equal(prepared, steps)
    # From the samples as decoded, with their channels, it comes to the same, as integers or as floats.
    decoded, _ = soundfile.read(path, dtype="int16")
    np.testing.assert_array_equal(prepare(decoded, rate), steps)


@settings(max_examples=50, deadline=None)
@given(samples)
def test_preparing_leaves_its_input_alone_and_owns_its_output(audio: NDArray[np.float32]) -> None:
    before = audio.copy()
    prepared = prepare(audio, 16000, num_samples=100)
    assert not np.shares_memory(prepared, audio)
    np.testing.assert_array_equal(audio, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_samples_that_are_no_numbers_are_counted_and_placed(value: float, rate: int) -> None:
    audio = noise(200_000)
    # Behind the part that is heard, too: such a clip is broken.
    audio[[150_000, 150_007]] = value
    with pytest.raises(AudioError, match=r"2 of 200,000 samples are NaN or infinite; the first is sample 150000"):
        prepare(audio, rate)


def test_values_beyond_float32_are_refused_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(AudioError, match="1 of 2 samples"):
            prepare(np.array([1e300, 0]), 16000)
        with pytest.raises(AudioError, match="the first is sample 0"):
            prepare(np.full((4, 2), 3e38, np.float32), 16000)
        with pytest.raises(AudioError, match="too large for float32"):
            prepare(np.array([3e38, -3e38] * 9, np.float32), 16000)


def test_silence_is_every_sample_zero_before_and_after_preparing() -> None:
    assert is_silent(prepare(np.zeros(1000, np.float32), 16000))
    assert is_silent(prepare(np.full(1000, 128, np.uint8), 44100))
    one = np.zeros(1000, np.float32)
    one[999] = 2.0**-15
    assert not is_silent(prepare(one, 16000))
    assert not is_silent(prepare(np.full(1000, 0.1, np.float32), 16000))
    # Sound that begins after the window is not heard.
    assert is_silent(prepare(one, 16000, num_samples=999))


# The start of a long file


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_the_start_of_a_clip_gives_the_window_of_the_whole(tmp_path: Path, rate: int) -> None:
    audio = noise(6 * rate)
    path = save(tmp_path / "clip.wav", audio, rate=rate)
    whole = decode(path)
    start = decode(path, keep_seconds=64_600 / 16_000 + 0.02)
    assert len(start.samples) < len(whole.samples) == start.num_samples
    assert (start.sha256, start.seconds) == (whole.sha256, 6.0)
    np.testing.assert_array_equal(prepare(start.samples, rate), prepare(whole.samples, rate))


def test_what_is_broken_after_the_start_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = noise(9000)
    audio[[7000, 8999]] = np.nan, np.inf
    soundfile.write(tmp_path / "clip.wav", audio, 16_000, subtype="FLOAT")
    monkeypatch.setattr("spectra_jax.audio.decoding._BLOCK_SAMPLES", 1000)
    found = decode(tmp_path / "clip.wav", keep_seconds=0.1)
    assert found.broken == "2 of 9,000 samples are NaN or infinite; the first is sample 7000 (nan)"
    assert len(found.samples) == 1600


def test_equal_samples_have_equal_digests_in_any_container(tmp_path: Path) -> None:
    audio = (noise(5000) * 32767).astype(np.int16)
    wav, flac = save(tmp_path / "a.wav", audio), save(tmp_path / "a.flac", audio)
    assert decode(wav).sha256 == decode(flac).sha256 != decode(save(tmp_path / "b.wav", audio[1:])).sha256


def test_a_clip_that_takes_for_ever_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectra_jax.audio.decoding._DECODE_SECONDS", -1)
    with pytest.raises(AudioError, match="not decoded after -1 s"):
        decode(save(tmp_path / "a.wav", noise(5000)))


@pytest.mark.parametrize(("suffix", "subtype"), [("wav", "PCM_16"), ("flac", "PCM_16"), ("ogg", "VORBIS")])
def test_the_stated_length_is_expected(tmp_path: Path, suffix: str, subtype: str) -> None:
    soundfile.write(tmp_path / f"a.{suffix}", noise(12_345), 16000, subtype=subtype)
    with open_stream(tmp_path / f"a.{suffix}") as stream:
        assert stream.expected_samples == 12_345


def test_a_flac_that_states_no_length_has_none_to_expect(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(12_345), 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    # The last 36 bits of eight bytes that begin 10 into STREAMINFO, and its MD5, which a pipe leaves empty, too.
    content[21] &= 0xF0
    content[22:42] = bytes(20)
    with open_stream("a.flac", bytes(content)) as stream:
        assert stream.expected_samples is None
        assert sum(map(len, stream)) == 12_345
