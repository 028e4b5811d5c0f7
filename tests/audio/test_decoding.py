"""Decoding: from a file or from bytes to samples, completely or not at all."""

from __future__ import annotations

import errno
import io
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spectra_jax.audio import decode, open_stream, prepare, read
from spectra_jax.audio.libsndfile import LibsndfileReader
from spectra_jax.errors import AudioError
from tests.audio.recordings import JUNE, RECORDINGS, sound

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


def noise(length: int, seed: int = 20) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, length).astype(np.float32)


def tone(length: int, rate: int, channels: int) -> NDArray[np.float32]:
    """A 300 Hz tone of another loudness in each channel: (length, channels)."""
    wave = np.sin(2 * np.pi * 300 * np.arange(length) / rate)
    return (wave[:, None] * np.linspace(0.6, 0.2, channels)).astype(np.float32)


def save(path: Path, audio: NDArray[np.generic], rate: int = 16000, **how: Any) -> Path:
    soundfile.write(path, audio, rate, **how)
    return path


def error_of_file(path: Path) -> str:
    with pytest.raises(AudioError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message


@pytest.mark.parametrize(("name", "rate", "channels"), CASES)
def test_every_format_rate_and_channel_count_reads_back(tmp_path: Path, name: str, rate: int, channels: int) -> None:
    container, subtype, suffix, tolerance, _ = FORMATS[name]
    audio = tone(rate // 2, rate, channels)
    path = save(tmp_path / f"clip{suffix}", audio, rate, format=container, subtype=subtype)
    mono, found_rate = read(path)
    assert (found_rate, mono.dtype, mono.ndim) == (rate, np.dtype(np.float32), 1)
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
def test_the_samples_do_not_depend_on_the_size_of_blocks(tmp_path: Path, suffix: str) -> None:
    # Loud and silent in turn, so that the bit rate of an MP3 varies and a seek between blocks would go astray.
    audio = noise(40_000) * np.repeat(np.arange(40) % 2, 1000).astype(np.float32)
    options: dict[str, Any] = {"bitrate_mode": "VARIABLE"} if suffix == ".mp3" else {}
    path = save(tmp_path / f"clip{suffix}", audio, **options)
    samples, _ = read(path)
    np.testing.assert_array_equal(decode(path, block_samples=3001).samples, samples)
    np.testing.assert_allclose(soundfile.read(path, dtype="float32")[0], samples, rtol=0, atol=1e-5 if options else 0)


@pytest.mark.parametrize("name", ["cat_opus.opus", "voice_memo.m4a", "cat_mp3.mp3"])
def test_bytes_a_file_and_a_stream_give_the_same_samples(name: str) -> None:
    decoded = decode(RECORDINGS / name)
    assert decode(name, (RECORDINGS / name).read_bytes()).sha256 == decoded.sha256
    with open_stream(RECORDINGS / name, block_samples=1000) as stream:
        blocks = list(stream)
    assert stream.rate == decoded.rate
    assert max(map(len, blocks)) <= 1000
    assert all(block.dtype == np.float32 and block.ndim == 1 for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), decoded.samples)


def test_an_error_of_the_streams_reader_is_not_changed() -> None:
    with pytest.raises(AudioError, match=r"^mine$"), open_stream(JUNE):
        raise AudioError("mine")


def test_equal_samples_have_equal_digests_in_any_container(tmp_path: Path) -> None:
    audio = (noise(5000) * 32767).astype(np.int16)
    wav, flac = save(tmp_path / "a.wav", audio), save(tmp_path / "a.flac", audio)
    assert decode(wav).sha256 == decode(flac).sha256 != decode(save(tmp_path / "b.wav", audio[1:])).sha256


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_the_start_of_a_clip_gives_the_window_of_the_whole(tmp_path: Path, rate: int) -> None:
    audio = noise(6 * rate)
    path = save(tmp_path / "clip.wav", audio, rate=rate)
    complete = decode(path)
    start = decode(path, keep_seconds=64_600 / 16_000 + 0.02)
    assert len(start.samples) < len(complete.samples) == start.num_samples
    assert (start.sha256, start.seconds) == (complete.sha256, 6.0)
    np.testing.assert_array_equal(prepare(start.samples, rate), prepare(complete.samples, rate))


def test_non_finite_samples_after_the_start_are_reported(tmp_path: Path) -> None:
    audio = noise(9000)
    audio[[7000, 8999]] = np.nan, np.inf
    soundfile.write(tmp_path / "clip.wav", audio, 16_000, subtype="FLOAT")
    decoded = decode(tmp_path / "clip.wav", keep_seconds=0.1, block_samples=1000)
    assert decoded.not_finite == "2 of 9,000 samples are NaN or infinite; the first is sample 7000 (nan)"
    assert len(decoded.samples) == 1600


def test_decoding_stops_after_the_timeout(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", noise(5000))
    assert decode(path).num_samples == 5000
    with pytest.raises(AudioError, match="decoding takes longer than 0 s"):
        decode(path, timeout=0.0)


@pytest.mark.parametrize(("suffix", "subtype"), [("wav", "PCM_16"), ("flac", "PCM_16"), ("ogg", "VORBIS")])
def test_the_expected_length_is_the_stated_one(tmp_path: Path, suffix: str, subtype: str) -> None:
    soundfile.write(tmp_path / f"a.{suffix}", noise(12_345), 16000, subtype=subtype)
    with open_stream(tmp_path / f"a.{suffix}") as stream:
        assert stream.expected_samples == 12_345


def test_a_flac_without_a_length_has_no_expected_one(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(12_345), 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    # The last 36 bits of eight bytes that begin 10 into STREAMINFO, and its MD5, which a pipe leaves empty, too.
    content[21] &= 0xF0
    content[22:42] = bytes(20)
    with open_stream("a.flac", bytes(content)) as stream:
        assert stream.expected_samples is None
        assert sum(map(len, stream)) == 12_345


def test_a_path_that_is_no_audio_file_has_its_own_message(tmp_path: Path) -> None:
    assert error_of_file(tmp_path / "missing.wav").endswith(": no such file")
    assert error_of_file(tmp_path).endswith(": a folder, not an audio file")
    (tmp_path / "empty.wav").touch()
    assert error_of_file(tmp_path / "empty.wav").endswith(": empty (0 bytes)")
    assert error_of_file(save(tmp_path / "none.wav", noise(0))).endswith(": holds no samples")
    assert error_of_file(save(tmp_path / "clip.wav", noise(9)) / "inside.wav").endswith(": Not a directory")
    headerless = save(tmp_path / "clip.raw", noise(9), format="RAW", subtype="PCM_16")
    assert "samples without a header" in error_of_file(headerless)
    assert "embedded null" in error_of_file(Path("a\0b.wav"))


def test_a_pipe_is_an_error_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    assert "a pipe or a device" in error_of_file(tmp_path / "pipe.wav")


def test_a_link_to_a_device_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    with pytest.raises(AudioError, match="a pipe or a device"):
        read(tmp_path / "zero.wav")


def test_a_missing_permission_has_its_own_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "clip.wav", noise(100))

    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Not chmod, which an administrator reads past.
    monkeypatch.setattr(Path, "open", deny)
    assert error_of_file(path).endswith(": no permission to read it")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg"])
@pytest.mark.parametrize("content", [b"hello, this is no audio", np.random.default_rng(0).bytes(20_000)])
def test_bytes_that_are_not_audio_are_an_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(content)
    assert "not an audio file" in error_of_file(path)


@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff", ".au"])
def test_a_file_cut_short_is_an_error(tmp_path: Path, suffix: str, fraction: float) -> None:
    audio = noise(40_000)
    path = save(tmp_path / f"clip{suffix}", audio)
    np.testing.assert_allclose(read(path)[0], audio, atol=2.0**-15)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    assert "cut short" in error_of_file(path)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 3000))
def test_a_damaged_file_is_decoded_or_an_audio_error(
    tmp_path_factory: pytest.TempPathFactory, patch: bytes, start: int
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    audio = noise(1500)
    for suffix in (".wav", ".flac"):
        path = save(folder / f"clip{suffix}", audio)
        np.testing.assert_allclose(read(path)[0], audio, atol=2.0**-15)
        content = bytearray(path.read_bytes())
        content[start : start + len(patch)] = patch
        path.write_bytes(content)
        try:
            mono, _ = read(path)
        except AudioError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            assert len(mono) > 0


@pytest.mark.parametrize("container", ["WAV", "FLAC", "MP3"])
def test_a_name_that_is_not_utf8_is_read(tmp_path: Path, container: str) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    try:
        path.write_bytes(sound(container))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert len(read(path)[0]) == 8000


@pytest.mark.parametrize("name", ["-", "pipe:0", "http:x.mp3", "concat:a|b", "file:a.wav"])
@pytest.mark.parametrize("container", ["WAV", "MP3"])
def test_names_that_mean_something_to_a_decoder_are_names_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, container: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(sound(container))
    assert len(read(name)[0]) == 8000


@pytest.mark.parametrize("container", ["WAV", "FLAC", "AIFF"])
def test_a_read_error_is_not_reported_as_cut_short(
    container: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Unreadable(io.BytesIO):
        """As on a disk with a bad sector."""

        def read(self, size: int | None = -1) -> bytes:
            if 500_000 < self.tell() < 1_000_000:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(size)

    content = sound(container, audio=(noise(1_000_000) * 32767).astype(np.int16))
    (tmp_path / "clip").write_bytes(content)
    assert decode(tmp_path / "clip").num_samples == 1_000_000
    monkeypatch.setattr(Path, "open", lambda *_: Unreadable(content))
    with pytest.raises(AudioError, match=rf"clip: cannot be read: {os.strerror(errno.EIO)}$"):
        decode(tmp_path / "clip")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("error", [IndexError("out of range"), MemoryError(), ZeroDivisionError("division by zero")])
def test_an_exception_of_a_decoder_is_an_audio_error_of_its_recording(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(LibsndfileReader, "blocks", fail)
    with pytest.raises(AudioError, match=f"^clip: cannot be decoded: {type(error).__name__}"):
        decode("clip", sound("WAV"))


def test_a_block_has_few_samples_however_many_channels_and_hours_a_small_file_has() -> None:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 48000, 8, format="FLAC", subtype="PCM_24") as writer:
        for _ in range(60):
            writer.write(np.zeros((48_000, 8), np.int32))
    assert len(file.getvalue()) < 50_000
    with open_stream("bomb.flac", file.getvalue()) as stream:
        assert max(map(len, stream)) <= 65_536 // 8
