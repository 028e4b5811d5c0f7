"""Recordings as people have them: each is decoded to its end, or refused with its reason; never a part of one."""

from __future__ import annotations

import errno
import io
import itertools
import os
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy import signal

from spectra_jax.audio import decode, decoding, open_stream, read
from spectra_jax.audio.chunks import is_placeholder
from spectra_jax.audio.containers import DECODABLE_SUFFIXES
from spectra_jax.audio.frames import mp3_frame, walk
from spectra_jax.audio.ogg import checksum
from spectra_jax.audio.source import Source
from spectra_jax.data.trial import Trial
from spectra_jax.errors import AudioError
from spectra_jax.inference.scorer import Scorer

RECORDINGS = Path(__file__).parents[1] / "recordings"
JUNE = Path(__file__).parents[2] / "examples" / "corpus" / "eval" / "june_00.flac"

# What FFmpeg's program decodes of each (`ffmpeg -i FILE -c:a pcm_f32le OUT.wav`): the seconds, and the demo
# checkpoint's score of them.
SCORES = {
    "vbr_noxing.mp3": (2.916, -2.9964),
    "cat_mp3.mp3": (5.151, 1.3471),
    "adts_named.mp3": (2.88, -3.5446),
    "c_gsm_ms.wav": (2.84, -2.9272),
    "c_ac3.wav": (2.832, -2.8243),
    "v_chain.ogg": (5.621, -3.0055),
    "voice_memo.m4a": (2.816, -2.8672),
    "video.mp4": (2.816, -2.8672),
    "whatsapp.webm": (2.8105, -2.9814),
    "old.wma": (2.784, -2.9096),
}


def noise(length: int = 8000, seed: int = 0) -> NDArray[np.int16]:
    return (np.random.default_rng(seed).normal(size=length) * 3000).clip(-32768, 32767).astype(np.int16)


def sound(container: str, subtype: str | None = None, rate: int = 16000, audio: NDArray | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, noise() if audio is None else audio, rate, format=container, subtype=subtype)
    return file.getvalue()


def encoded(container: str, codec: str, audio: NDArray[np.int16], rate: int = 16000, **options: str) -> bytes:
    """By FFmpeg: (samples, channels) in a container."""
    file = io.BytesIO()
    layout = "mono" if audio.shape[1] == 1 else "stereo"
    with av.open(file, "w", format=container, options=options) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        formats = stream.codec_context.codec.audio_formats
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
        while (part := fifo.read(size) or fifo.read()) is not None:
            part.pts, part.time_base = done, Fraction(1, rate)
            done += part.samples
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return file.getvalue()


def length(content: bytes) -> int:
    return decode("clip", content).num_samples


def refusal(content: bytes) -> str:
    with pytest.raises(AudioError, match=r"^clip: ") as caught:
        decode("clip", content)
    return str(caught.value).removeprefix("clip: ")


# Recordings with their right values


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer("demo")


@pytest.mark.parametrize("name", SCORES)
def test_a_recording_scores_as_what_ffmpeg_decodes_of_it(name: str, scorer: Scorer) -> None:
    seconds, score = SCORES[name]
    (scored,) = scorer.score_trials([Trial("x", RECORDINGS / name)])
    assert scored.score == pytest.approx(score, abs=1e-3)
    # FFmpeg 8 leaves the padding at the end of an MP4 where it is, FFmpeg 9 removes it.
    assert decode(RECORDINGS / name).seconds == pytest.approx(seconds, abs=0.006)


@pytest.mark.parametrize(
    ("name", "rate", "num_samples"),
    [
        ("short.amr", 8000, 4160),
        ("short.gsm", 8000, 4000),
        ("gsm_sox.wav", 8000, 4160),
        ("speex.ogg", 16000, 8000),
        ("flac.oga", 16000, 8000),
        ("alac.caf", 16000, 8000),
        ("fragmented.mp4", 16000, 9216),
        ("live.webm", 48000, 24000),
        ("piped.wma", 16000, 4608),
        ("trimmed.opus", 48000, 86904),
    ],
)
def test_a_recording_has_as_many_samples_as_ffmpeg_decodes_of_it(name: str, rate: int, num_samples: int) -> None:
    decoded = decode(RECORDINGS / name)
    assert (decoded.rate, decoded.num_samples, decoded.broken) == (rate, num_samples, None)
    assert np.abs(decoded.samples).max() > 0.05
    assert Path(name).suffix in DECODABLE_SUFFIXES


@pytest.mark.parametrize(("name", "cut"), [("cat_ogg.ogg", 10121), ("cat_opus.opus", 13640), ("v_chain.ogg", 15317)])
def test_a_chained_ogg_is_its_links_one_after_another(name: str, cut: int) -> None:
    content = (RECORDINGS / name).read_bytes()
    links = [soundfile.read(io.BytesIO(part), dtype="float32")[0] for part in (content[:cut], content[cut:])]
    samples, rate = read(RECORDINGS / name)
    assert rate == 16000
    np.testing.assert_array_equal(samples, np.concatenate(links))


def test_a_clip_in_memory_is_the_clip_in_a_file_and_a_stream_is_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectra_jax.audio.decoding._BLOCK_SAMPLES", 1000)
    for name in ("cat_opus.opus", "voice_memo.m4a", "cat_mp3.mp3"):
        whole = decode(RECORDINGS / name)
        assert decode(name, (RECORDINGS / name).read_bytes()).sha256 == whole.sha256
        with open_stream(RECORDINGS / name) as stream:
            blocks = list(stream)
        assert stream.rate == whole.rate
        assert max(map(len, blocks)) <= 1000
        assert all(block.dtype == np.float32 and block.ndim == 1 for block in blocks)
        np.testing.assert_array_equal(np.concatenate(blocks), whole.samples)


def test_an_error_of_whoever_reads_the_stream_is_left_as_it_is() -> None:
    with pytest.raises(AudioError, match=r"^mine$"), open_stream(JUNE):
        raise AudioError("mine")


# libsndfile and FFmpeg against each other

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


def tones(length: int, rate: int, channels: int) -> NDArray[np.int16]:
    """Each channel a tone of its own that rises, so that no shift of it is like another: (length, channels)."""
    time = np.arange(length)[:, None] / rate
    pitch = 200 + 100 * np.arange(1, channels + 1)
    return (8000 * np.sin(2 * np.pi * (pitch * time + 300 * time**2))).astype(np.int16)


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
def test_what_ffmpeg_wrote_with_a_loss_is_decoded_whole(name: str, rate: int, channels: int) -> None:
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
def test_every_kind_of_samples_is_as_libsndfile_decodes_it(container: str) -> None:
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


# Lengths in the header of a WAV that came through a pipe, and those of one that was cut


def with_sizes(content: bytes, data: int, riff: int) -> bytes:
    return content[:4] + struct.pack("<I", riff) + content[8:40] + struct.pack("<I", data) + content[44:]


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
def test_a_wav_whose_writer_did_not_know_its_length_is_decoded_whole(data: int, riff: int) -> None:
    content = sound("WAV")
    streamed = with_sizes(content, data, riff)
    assert decode("clip", streamed).sha256 == decode("clip", content).sha256
    assert "cut short: its last sample has 1 of its 2 bytes" in refusal(streamed[:-1])
    assert "several files in one: another recording begins at byte 16,044" in refusal(streamed + streamed)


@pytest.mark.parametrize(
    "data", [16_002, 16_512, 1_999_999_998, 2_100_000_000, 0x7FFE_FFFE, 0xFFFE_FFFE, 3_000_000_000]
)
def test_a_wav_that_states_a_length_of_its_own_is_cut_short_without_it(data: int) -> None:
    assert f"cut short: 16,000 of the {data:,} bytes" in refusal(with_sizes(sound("WAV"), data, data + 36))


def test_a_file_that_nearly_reaches_its_limit_is_cut_short_if_it_ends_before_the_length_that_it_states() -> None:
    # Recorders begin another file at 2 or 4 GB.
    for held, cut in ((3_000_000_000, True), (10_000_000, False)):
        assert is_placeholder(0xFFFF_F000, 0xFFFF_F024, 44, 2, held) is not cut


@pytest.mark.parametrize("missing", [1, 2, 44, 100, 511, 512, 513])
@pytest.mark.parametrize("container", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "SVX", "NIST", "AVR"])
def test_no_byte_of_samples_may_be_missing(container: str, missing: int) -> None:
    content = sound(container)
    assert length(content) == 8000
    assert "cut short" in refusal(content[:-missing])


def test_an_aiff_au_and_caf_from_a_pipe_are_decoded_whole() -> None:
    aiff, au, caf = bytearray(sound("AIFF")), bytearray(sound("AU")), bytearray(sound("CAF"))
    offset = aiff.index(b"SSND") + 4
    aiff[offset : offset + 4] = struct.pack(">I", 0x7F00_0008)
    au[8:12] = struct.pack(">I", 0xFFFF_FFFF)
    offset = caf.index(b"data") + 4
    caf[offset : offset + 8] = struct.pack(">q", -1)
    assert [length(bytes(content)) for content in (aiff, au, caf)] == [8000] * 3


# What follows a recording


def no_total(flac: bytes) -> bytes:
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


@pytest.mark.parametrize(
    "container", ["WAV", "FLAC", "RF64", "W64", "AIFF", "AU", "CAF", "SVX", "NIST", "AVR", "VOC", "OGG", "MP3"]
)
def test_a_tag_or_a_newline_behind_a_recording_is_not_decoded_and_no_damage(container: str) -> None:
    content = sound(container)
    for rest in (b"\n", b"TAG" + bytes(125), bytes(3000)):
        assert length(content + rest) == 8000, (rest[:3], container)


def test_no_bits_behind_the_values_of_an_mp3_frame_make_silence_of_it() -> None:
    # Told to look at them, FFmpeg's decoder sets the values to zero and reports nothing.
    samples, rate = read(RECORDINGS / "stuffing.mp3")
    expected, expected_rate = soundfile.read(RECORDINGS / "stuffing.mp3", dtype="float32")
    assert rate == expected_rate
    np.testing.assert_allclose(samples, expected, atol=1e-5)


LYRICS = b"LYRICSBEGININD0000200LYR00010helloworld000000LYRICS200"
ID3V1 = b"TAG" + b"t" * 125
# A tag of version 1: without a header.
APE_ITEM = struct.pack("<II", 5, 0) + b"Title\0hello"
APE = APE_ITEM + b"APETAGEX" + struct.pack("<IIII", 1000, len(APE_ITEM) + 32, 1, 0) + bytes(8)


def test_tags_of_every_kind_may_follow_an_mp3() -> None:
    content = sound("MP3")
    for tags in (LYRICS, LYRICS + ID3V1, APE, APE + ID3V1):
        assert length(content + tags) == 8000, tags
    for tags in (ID3V1, APE, APE + ID3V1):
        assert "cut short: its last MP3 frame has" in refusal(content[:-10] + tags), tags


def test_an_mp3_that_is_joined_to_one_with_lyrics_is_decoded() -> None:
    content = sound("MP3")
    joined = length(content + content)
    assert joined > 15_000
    assert length(content + LYRICS + ID3V1 + content) == joined


def uncounted(content: bytes) -> bytes:
    """An MP3 without the frame that states how many follow."""
    return content[mp3_frame(content[:4]) :]


BOUNDARY = b"\r\n--------------------------d74496d66958873e\r\nContent-Disposition: form-data\r\n\r\nabc\r\n"


@pytest.mark.parametrize(
    "rest", [b"one\ntwo\nthree\n", BOUNDARY, "Grüße\n".encode(), bytes(500), b"\xff" * 300, b"\xaa" * 16, b"\0\0text"]
)
def test_text_and_padding_behind_frames_are_not_decoded_and_no_damage(rest: bytes) -> None:
    for content in (sound("MP3"), uncounted(sound("MP3"))):
        assert decode("clip", content + rest).sha256 == decode("clip", content).sha256
        assert decode("clip", content + rest + ID3V1).sha256 == decode("clip", content).sha256
    adts = (RECORDINGS / "adts_named.mp3").read_bytes()
    assert decode("clip", adts + rest).sha256 == decode("clip", adts).sha256


def test_anything_without_frames_may_follow_the_frames_that_an_mp3_states() -> None:
    content = sound("MP3")
    random = np.random.default_rng(0).bytes(5000)
    for rest in (random, bytes(300_000), b"a\0b\n" * 20_000, random + ID3V1):
        assert decode("clip", content + rest).sha256 == decode("clip", content).sha256
    # More frames behind it, or a part of one, may be a part of the recording.
    for rest in (random + uncounted(content), uncounted(content)[:-10]):
        assert refusal(content + rest)
    # Where no number of frames is stated, they may be damaged ones; where it is not reached, they are.
    frames = list(walk(Source(io.BytesIO(content)), 0, mp3_frame, "MP3"))
    assert "damaged" in refusal(uncounted(content) + random)
    assert "damaged" in refusal(content[: frames[-1][0]] + random)
    assert "cut short" in refusal(content[: frames[-1][0]] + b"one\ntwo\n")


def test_padding_between_joined_mp3_files_is_no_damage() -> None:
    content = sound("MP3")
    joined = decode("clip", content + content).sha256
    tag = b"ID3\4\0\0\0\0\0\0"
    for gap in (bytes(500), b"\r\n", bytes(500) + tag, bytes(500) + ID3V1 + bytes(20)):
        assert decode("clip", content + gap + content).sha256 == joined
    assert length(content + bytes(500) + uncounted(content)) == length(content + uncounted(content))
    assert length(uncounted(content) + bytes(500) + content) == length(uncounted(content) + content)
    # Zeros in the middle of a stream, if only one that does not state its number of frames.
    frames = list(walk(Source(io.BytesIO(content)), 0, mp3_frame, "MP3"))
    (first, _), (_, last) = frames[5:7]
    for begin in (0, frames[0][1]):
        assert "damaged" in refusal(content[begin:first] + bytes(last - first) + content[last:])


def test_anything_may_follow_the_samples_that_a_flac_states() -> None:
    content = sound("FLAC")
    assert length(content + np.random.default_rng(0).bytes(5000)) == 8000
    # Of one that states none a tag is known, and anything else may be damage.
    assert length(no_total(content) + b"TAG" + bytes(125)) == 8000
    assert "damaged" in refusal(no_total(content) + b"\n")


@pytest.mark.parametrize("container", ["WAV", "RF64", "AIFF", "AU", "CAF", "FLAC", "SVX", "W64", "NIST", "AVR"])
def test_two_recordings_in_one_file_are_never_taken_for_one(container: str) -> None:
    content = sound(container)
    assert refusal(content + content)


@pytest.mark.parametrize(
    ("container", "codec"), [("ipod", "aac"), ("webm", "libopus"), ("asf", "wmav2"), ("wv", "wavpack")]
)
def test_two_files_of_a_container_that_is_no_stream_are_refused(container: str, codec: str) -> None:
    content = encoded(container, codec, tones(16000, 16000, 1))
    assert "several files in one" in refusal(content + content)


@pytest.mark.parametrize(("container", "codec", "each"), [("adts", "aac", 1024), ("ac3", "ac3", 1536)])
def test_joined_streams_of_frames_are_decoded_whole(container: str, codec: str, each: int) -> None:
    content = encoded(container, codec, tones(48000, 48000, 1), 48000)
    assert length(content + content) == 2 * length(content)
    assert length(content) % each == 0


def test_joined_recordings_of_two_rates_are_refused_and_of_other_channels_decoded() -> None:
    for container, subtype in (("OGG", "VORBIS"), ("MP3", None)):
        first, faster = sound(container, subtype), sound(container, subtype, 32000)
        stereo = sound(container, subtype, audio=np.stack([noise()] * 2, axis=1))
        assert "its sample rate changes from 16000 to 32000 Hz" in refusal(first + faster)
        assert length(first + stereo) >= 16_000
    assert length(sound("OGG", "OPUS") + sound("OGG", "VORBIS")) == 16_000


def test_a_header_that_states_less_than_follows_is_refused() -> None:
    content = sound("WAV")
    assert "more of the recording" in refusal(with_sizes(content, 8000, 8036))
    assert "more of the recording" in refusal(with_sizes(content, 15_600, 16_036))
    flac = sound("FLAC")
    assert "more samples than the 4,000" in refusal(flac[:22] + struct.pack(">I", 4000) + flac[26:])
    assert "several pieces of samples" in refusal(content + b"data" + struct.pack("<I", 4) + bytes(4))


def test_a_chunk_of_samples_may_be_odd_with_its_padding_or_without() -> None:
    padded = sound("WAV", "PCM_U8", audio=noise(7999))
    assert padded[-1] == 0
    info = b"LIST" + struct.pack("<I", 4) + b"INFO"
    assert [length(content) for content in (padded, padded[:-1], padded + info, padded[:-1] + info)] == [7999] * 4


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
    assert "cut short" in refusal(tag + content[:-100])


def riff_chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content


def as_riff(content: bytes) -> bytes:
    """With the length of the file in its header, which is what says that chunks are a part of it."""
    return content[:4] + struct.pack("<I", len(content) - 8) + content[8:]


@pytest.mark.parametrize("name", [b"_PMX", b"bext", b"iXML", b"cue ", b"smpl", b"afsp", b"(c) "])
@pytest.mark.parametrize("size", [24, 5, 3000])
def test_chunks_of_any_name_may_follow_the_samples(name: bytes, size: int) -> None:
    padded = sound("WAV", "PCM_U8", audio=noise(7999))
    rest = riff_chunk(name, b"x" * size)
    for whole in (padded + rest, padded[:-1] + rest, padded + rest + bytes(size & 1) + riff_chunk(b"LIST", b"INFO")):
        assert length(as_riff(whole)) == 7999
    # More samples are no chunk.
    more = noise(3000).astype("<i2").tobytes()
    assert "more of the recording" in refusal(as_riff(sound("WAV") + more))


def test_an_aiff_may_end_with_its_copyright() -> None:
    content = sound("AIFF") + b"(c) " + struct.pack(">I", 12) + b"2020 someone"
    assert length(content[:4] + struct.pack(">I", len(content) - 8) + content[8:]) == 8000


def test_a_bw64_is_an_rf64_by_another_name() -> None:
    content = sound("RF64")
    assert content[:4] == b"RF64"
    assert decode("clip", b"BW64" + content[4:]).sha256 == decode("clip", content).sha256
    assert "cut short" in refusal(b"BW64" + content[4:-2])


# Damage


def flac_frames(content: bytes) -> list[int]:
    with av.open(io.BytesIO(content), format="flac") as container:
        return [packet.pos for packet in container.demux() if packet.size]


def test_a_flac_without_one_of_its_frames_is_refused() -> None:
    # libFLAC puts silence instead.
    content = sound("FLAC", audio=noise(30_000))
    frames = [*flac_frames(content), len(content)]
    for begin, end in itertools.pairwise(frames):
        assert refusal(content[:begin] + content[end:])
        assert refusal(content[:begin])


def test_an_ogg_page_that_was_changed_or_lost_is_refused() -> None:
    for subtype in ("VORBIS", "OPUS"):
        content = sound("OGG", subtype, audio=noise(60_000))
        pages = [k for k in range(len(content)) if content[k : k + 4] == b"OggS"]
        middle = len(content) // 2
        assert "checksum" in refusal(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        assert "pages are missing" in refusal(content[: pages[2]] + content[pages[3] :])


def test_an_ogg_without_a_mark_of_its_end_is_decoded_whole() -> None:
    for subtype in ("VORBIS", "OPUS"):
        content = sound("OGG", subtype)
        offset = content.rfind(b"OggS")
        last = bytearray(content[offset:])
        last[5] &= ~4
        last[22:26] = checksum(bytes(last)).to_bytes(4, "little")
        assert decode("clip", content[:offset] + bytes(last)).sha256 == decode("clip", content).sha256
        assert "damaged" in refusal(content[:offset] + bytes(last) + b"OggX" + bytes(50))


def with_pages(content: bytes, change: Callable[[int, bytearray], None]) -> bytes:
    """An Ogg stream whose pages, given with their number, are changed."""
    starts = [k for k in range(len(content)) if content[k : k + 4] == b"OggS"]
    pages = [bytearray(content[begin:end]) for begin, end in itertools.pairwise([*starts, len(content)])]
    for number, page in enumerate(pages):
        change(number, page)
        page[22:26] = checksum(bytes(page)).to_bytes(4, "little")
    return b"".join(pages)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_with_negative_positions_is_decoded_whole(subtype: str) -> None:
    # As FFmpeg leaves them that cuts without encoding. Of Opus libsndfile then returns samples that it never set.
    content = sound("OGG", subtype, 48000, noise(120_000))
    positions: list[int] = []

    def earlier(number: int, page: bytearray) -> None:
        (position,) = struct.unpack("<q", page[6:14])
        if position > 0:
            page[6:14] = struct.pack("<q", position - 100_000)
            positions.append(position - 100_000)

    decoded = decode("clip", with_pages(content, earlier))
    assert min(positions) < -1
    assert (decoded.rate, decoded.broken) == (48000, None)
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
        links = [decode("clip", link + studio).samples[:length] for link, length in zip(chain, each, strict=True)]
        np.testing.assert_allclose(decoded.samples, np.concatenate(links), atol=1e-5)
    assert decode("clip", telephone + telephone).rate == 16000
    assert decode("clip", telephone + sound("OGG", "VORBIS", 48000)).num_samples == 32_000


def test_an_mp3_that_lost_a_frame_or_a_part_of_one_is_refused() -> None:
    content = sound("MP3")
    assert "cut short: its last MP3 frame has" in refusal(content[:-10])
    frames = list(walk(Source(io.BytesIO(content)), 0, mp3_frame, "MP3"))
    assert "of the 16 MP3 frames that its header states" in refusal(content[: frames[-3][0]])
    hole = len(content) // 2
    assert "begins no MP3 frame" in refusal(content[:hole] + bytes(200) + content[hole + 200 :])


@pytest.mark.parametrize(
    "name", ["voice_memo.m4a", "whatsapp.webm", "old.wma", "short.amr", "adts_named.mp3", "c_ac3.wav"]
)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99])
def test_a_cut_recording_that_ffmpeg_would_decode_is_refused(name: str, share: float) -> None:
    content = (RECORDINGS / name).read_bytes()
    # A frame of AMR is 32 bytes: not at the end of one.
    assert refusal(content[: int(len(content) * share) | 1])


def test_a_voc_of_several_blocks_is_decoded_whole() -> None:
    content = sound("VOC", "PCM_16")
    block = content[26:-1]
    assert length(content[:26] + block + block + b"\0") == 16_000
    assert "silence" in refusal(content[:26] + block + b"\3\3\0\0" + bytes(3) + block + b"\0")


# What is no recording

NOT_AUDIO = {
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n",
    "HTML page": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "JSON": b'{"error": "not found"}',
    "XML": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "playlist": b"#EXTM3U\n#EXTINF:1\nfile:///etc/passwd\n",
    "text file": "Grüße, aber kein Ton".encode(),
    "zip archive": b"PK\x03\x04" + bytes(40),
    "gzip archive": b"\x1f\x8b\x08" + bytes(40),
    "PDF": b"%PDF-1.7\n" + bytes(40),
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(40),
    "JPEG": b"\xff\xd8\xff\xe0" + bytes(40),
    "zeros": bytes(9000),
    "not an audio file": np.random.default_rng(0).bytes(9000),
}


@pytest.mark.parametrize("what", NOT_AUDIO)
def test_what_is_no_recording_is_called_what_it_is(what: str) -> None:
    assert what in refusal(NOT_AUDIO[what])


@pytest.mark.parametrize("text", ["#EXTM3U\nfile:///etc/passwd", "ffconcat version 1.0\nfile a.wav", "v=0\nm=audio 0"])
def test_no_list_of_other_files_is_followed(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.wav").write_bytes(sound("WAV"))
    (tmp_path / "list.mp3").write_text(text)
    with pytest.raises(AudioError, match="a playlist"):
        read(tmp_path / "list.mp3")


def test_an_unknown_codec_and_an_encrypted_file_are_not_called_damaged() -> None:
    content = sound("WAV")
    assert "WAV codec 0x9999" in refusal(content[:20] + b"\x99\x99" + content[22:])
    m4a = (RECORDINGS / "voice_memo.m4a").read_bytes()
    entry = m4a.index(b"mp4a", m4a.index(b"stsd"))
    for name in (b"drms", b"enca"):
        assert "encrypted" in refusal(m4a[:entry] + name + m4a[entry + 4 :])


def test_an_mp3_of_a_free_bit_rate_is_called_one() -> None:
    # As `lame --freeformat` writes it: the second of each three frames is padded.
    for header in (b"\xff\xfb%c\xc4", b"\xff\xf3%c\xc4", b"\xff\xfd%c\xc4"):
        content = b"".join(header % (2 * padding) + bytes(649 + padding) for padding in (0, 1, 0) * 5)
        assert "an MP3 of a free bit rate (free format)" in refusal(content)
        assert "an MP3 of a free bit rate (free format)" in refusal(ID3V1 + content)
    assert "not an audio file" in refusal(b"\xff\xfb\0\xc4" + np.random.default_rng(0).bytes(9000))


def test_rates_and_channels_that_are_none_are_named() -> None:
    content = sound("WAV")
    for rate in (0, 16, 2_000_000):
        assert f"{rate:,} Hz" in refusal(content[:24] + struct.pack("<I", rate) + content[28:])
    assert "65,535 channels" in refusal(content[:22] + b"\xff\xff" + content[24:])


def test_a_recording_of_hours_in_few_bytes_takes_little_memory() -> None:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 48000, 8, format="FLAC", subtype="PCM_24") as writer:
        for _ in range(60):
            writer.write(np.zeros((48_000, 8), np.int32))
    assert len(file.getvalue()) < 50_000
    with open_stream("bomb.flac", file.getvalue()) as stream:
        assert max(map(len, stream)) <= 65_536 // 8


def test_a_video_without_sound_is_said_to_be_one() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        output.mux(stream.encode(None))
    assert "no audio stream" in refusal(file.getvalue())


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


@pytest.mark.parametrize("name", ["-", "pipe:0", "http:x.mp3", "concat:a|b", "file:a.wav"])
@pytest.mark.parametrize("container", ["WAV", "MP3"])
def test_names_that_mean_something_to_a_decoder_are_names_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, container: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(sound(container))
    assert len(read(name)[0]) == 8000


@pytest.mark.parametrize("container", ["FLAC", "MP3"])
def test_a_name_that_is_not_utf8_is_a_name(tmp_path: Path, container: str) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    try:
        path.write_bytes(sound(container))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert len(read(path)[0]) == 8000


def test_a_link_to_a_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    with pytest.raises(AudioError, match="a pipe or a device"):
        read(tmp_path / "zero.wav")


def test_a_title_that_is_not_utf8_is_no_reason_to_refuse() -> None:
    content = encoded("matroska", "flac", tones(4000, 16000, 1))
    assert b"Lavf" in content
    assert length(content.replace(b"Lavf", b"L\xff\xfef")) == 4000


@pytest.mark.parametrize("container", ["WAV", "FLAC", "AIFF"])
def test_a_file_that_cannot_be_read_on_is_not_called_cut_short(
    container: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Unreadable(io.BytesIO):
        """As on a disk with a bad sector."""

        def read(self, size: int | None = -1) -> bytes:
            if 500_000 < self.tell() < 1_000_000:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(size)

    content = sound(container, audio=noise(1_000_000))
    monkeypatch.setattr(decoding, "_open_file", lambda _: Unreadable(content))
    with pytest.raises(AudioError, match=f"^clip: cannot be read: {os.strerror(errno.EIO)}$"):
        decode("clip")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("error", [IndexError("out of range"), MemoryError(), ZeroDivisionError("division by zero")])
def test_a_decoder_that_fails_costs_its_recording_alone(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(decoding.LibsndfileReader, "blocks", fail)
    with pytest.raises(AudioError, match=f"^clip: cannot be decoded: {type(error).__name__}"):
        decode("clip", sound("WAV"))


def test_a_small_file_is_read_once() -> None:
    class Counted(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            return super().read(size)

    file = Counted(sound("WAV"))
    source = Source(file)
    for start in (0, source.size - 4, 8, source.size):
        assert source.read(start, 16) == file.getvalue()[start : start + 16]
    assert file.reads == 1
