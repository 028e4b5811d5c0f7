"""The audio chain that every clip of the corpus passes through, recorded and synthetic alike.

A difference between how recorded and synthetic clips are processed is a shortcut that a detector learns instead of
speech. So there is one chain, in two halves, each deterministic by the utterance's identifier:

1. `prepare_speech`: band-pass, trim to 50 ms around speech, crop to 1.5 to 4 s. A copy of a recording is made from the
   result of this half, so that a pair has the same crop.
2. `finish_clip`: one G.722 pass, band-pass, active level -26 dBFS, white noise at 30 to 40 dB SNR. A copy takes the
   identifier of its recording, so that a pair has the same noise.

The band-pass filter, the active level and the noise were compared with the clips of `examples/corpus`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile as sf
from numpy.typing import NDArray
from scipy import signal

Samples = NDArray[np.float64]

RATE = 16_000
BAND = (80.0, 6800.0)  # Hz
MARGIN = 0.05  # seconds kept before and after speech
GAP = 0.15  # seconds between joined prompts
SHORTEST, LONGEST = 1.5, 4.0  # seconds of a crop
LEAST_SPEECH = 1.3  # seconds below which a recording makes no clip
LEVEL = -26.0  # dBFS of active frames
ACTIVE_RANGE = 35.0  # dB below the loudest frame at which a frame still counts as active
SPEECH_RANGE = 40.0  # dB below the loudest frame at which speech starts
NOISE_SNR = (30.0, 40.0)  # dB
FRAME, HOP = 320, 160
G722_BLOCK = 640

_BAND_PASS = signal.butter(5, BAND, "bandpass", fs=RATE, output="sos")


class ChainError(Exception):
    """A recording cannot become a clip."""


def random_generator(utterance_id: str, purpose: str) -> np.random.Generator:
    """Generator whose numbers depend on the identifier and the purpose alone."""
    digest = hashlib.sha256(f"{purpose}/{utterance_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def decode_g722(data: bytes) -> Samples:
    """Samples (n,) at 16 kHz of a raw G.722 stream."""
    decoder = av.CodecContext.create("g722", "r")
    decoder.sample_rate = RATE
    blocks = [frame.to_ndarray().ravel() for frame in decoder.decode(av.Packet(data))]
    return np.concatenate(blocks).astype(np.float64) / 32768


def encode_g722(samples: Samples) -> bytes:
    """Raw G.722 stream at 64 kbit/s of samples (n,) at 16 kHz."""
    pcm = np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)
    pcm = np.concatenate([pcm, np.zeros(-len(pcm) % G722_BLOCK, np.int16)])
    encoder = av.CodecContext.create("g722", "w")
    encoder.sample_rate = RATE
    encoder.format = "s16"
    encoder.layout = "mono"
    encoder.time_base = Fraction(1, RATE)
    packets = []
    for start in range(0, len(pcm), G722_BLOCK):
        frame = av.AudioFrame.from_ndarray(pcm[None, start : start + G722_BLOCK], format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, start
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return b"".join(bytes(packet) for packet in packets)


def pass_through_g722(samples: Samples) -> Samples:
    """Samples (n,) encoded with G.722 and decoded again, aligned with the input."""
    delay = 22  # of the two quadrature mirror filters, 24 taps each
    decoded = decode_g722(encode_g722(np.concatenate([samples, np.zeros(delay)])))
    return decoded[delay : delay + len(samples)]


def resample(samples: Samples, rate: int) -> Samples:
    """Samples (n,) at 16 kHz.

    Raises:
        ChainError: The rate is below 16 kHz: such a clip would be recognised by its empty upper band.
    """
    if rate < RATE:
        raise ChainError(f"sample rate is {rate} Hz; the corpus takes {RATE} Hz and more")
    if rate == RATE:
        return np.asarray(samples, np.float64)
    ratio = Fraction(RATE, rate)
    return signal.resample_poly(np.asarray(samples, np.float64), ratio.numerator, ratio.denominator)


def decode_with_ffmpeg(path: Path) -> tuple[Samples, int]:
    """Mono samples (n,) and sample rate of a file that libsndfile does not read.

    Raises:
        ChainError: FFmpeg does not read it, either, or it has no samples.
    """
    blocks = []
    try:
        with av.open(str(path)) as container:
            rate = container.streams.audio[0].rate
            resampler = av.AudioResampler("dbl", "mono", rate)
            for frame in container.decode(audio=0):
                blocks += [part.to_ndarray().ravel() for part in resampler.resample(frame)]
    except (av.FFmpegError, IndexError) as error:
        raise ChainError(f"{path}: FFmpeg could not decode it ({error})") from error
    if not blocks:
        raise ChainError(f"{path}: it has no samples")
    return np.concatenate(blocks), rate


def decode_file(path: Path) -> Samples:
    """Mono samples (n,) at 16 kHz of a sound file.

    Raises:
        ChainError: The file cannot be decoded, or its rate is below 16 kHz.
    """
    if path.suffix == ".g722":
        return decode_g722(path.read_bytes())
    try:
        samples, rate = sf.read(path, dtype="float64", always_2d=True)
        samples = samples.mean(axis=1)
    except sf.LibsndfileError:
        samples, rate = decode_with_ffmpeg(path)
    return resample(samples, rate)


def band_pass(samples: Samples) -> Samples:
    """Samples (n,) limited to `BAND`, with no delay."""
    return signal.sosfiltfilt(_BAND_PASS, samples)


def frame_levels(samples: Samples) -> Samples:
    """Mean power in dB of frames of 20 ms every 10 ms, (frames,)."""
    padded = np.pad(samples, (0, max(0, FRAME - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    return 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)


def active_level(samples: Samples) -> float:
    """Mean power in dBFS of the active frames."""
    levels = frame_levels(samples)
    active = levels[levels > levels.max() - ACTIVE_RANGE]
    return float(10 * np.log10(np.mean(10 ** (active / 10))))


def find_speech(samples: Samples) -> tuple[int, int]:
    """Start and end of speech, in samples.

    The threshold lies `SPEECH_RANGE` below the loudest frame, or above the noise of a recording that is noisier.
    """
    levels = frame_levels(samples)
    peak = levels.max()
    noise = min(float(np.percentile(levels, 5)) + 8, peak - 25)
    speech = np.flatnonzero(levels > max(peak - SPEECH_RANGE, noise))
    return int(speech[0]) * HOP, min(int(speech[-1]) * HOP + FRAME, len(samples))


def trim_speech(samples: Samples, margin: float = MARGIN) -> Samples:
    """Samples from `margin` seconds before speech to `margin` seconds after it."""
    start, end = find_speech(samples)
    extra = round(margin * RATE)
    return samples[max(start - extra, 0) : end + extra]


def cut_at_pauses(samples: Samples, seconds: float, search: float) -> list[Samples]:
    """Pieces of about `seconds` of samples (n,), cut at the quietest frame within `search` seconds of each boundary."""
    levels = frame_levels(samples)
    first, width = int((seconds - search) * RATE) // HOP, int(2 * search * RATE) // HOP
    cuts = [0]
    while cuts[-1] + seconds * RATE * 1.3 < len(samples):
        near = cuts[-1] // HOP + first
        cuts.append((near + int(np.argmin(levels[near : near + width]))) * HOP)
    return [samples[start:end] for start, end in zip(cuts, [*cuts[1:], len(samples)], strict=True)]


def join_prompts(prompts: Sequence[Samples]) -> Samples:
    """Prompts of one recording session as one, with a gap of 150 ms between them.

    Prompts of one word are too short to be clips. Recorded and synthetic prompts are joined alike.
    """
    half = np.zeros(round((GAP / 2 - MARGIN) * RATE))
    parts = [np.concatenate([half, trim_speech(band_pass(prompt)), half]) for prompt in prompts]
    return np.concatenate(parts)


def prepare_speech(samples: Samples, utterance_id: str) -> Samples:
    """Band-limited, trimmed and cropped speech (n,) at 16 kHz: the first half of the chain.

    Raises:
        ChainError: Less than `LEAST_SPEECH` seconds remain.
    """
    if len(samples) < LEAST_SPEECH * RATE or not np.any(samples):
        raise ChainError(f"{utterance_id}: {len(samples) / RATE:.2f} s of sound, at least {LEAST_SPEECH} are needed")
    speech = trim_speech(band_pass(samples))
    if len(speech) < LEAST_SPEECH * RATE:
        raise ChainError(f"{utterance_id}: {len(speech) / RATE:.2f} s of speech, at least {LEAST_SPEECH} are needed")
    generator = random_generator(utterance_id, "crop")
    length = min(round(generator.uniform(SHORTEST, LONGEST) * RATE), len(speech))
    start = int(generator.integers(len(speech) - length + 1))
    return np.ascontiguousarray(speech[start : start + length])


def set_level(samples: Samples) -> Samples:
    """Samples scaled to the active level `LEVEL`."""
    return samples * 10 ** ((LEVEL - active_level(samples)) / 20)


def finish_clip(samples: Samples, noise_id: str) -> NDArray[np.int16]:
    """Clip (n,) of 16-bit samples: the second half of the chain.

    Args:
        samples: Result of `prepare_speech`, or a copy of one.
        noise_id: Identifier of the utterance; for a copy, of the recording that it copies.
    """
    clip = set_level(band_pass(pass_through_g722(set_level(samples))))
    generator = random_generator(noise_id, "noise")
    snr = generator.uniform(*NOISE_SNR)
    # A copy can be some samples longer or shorter than its recording; the noise of both starts alike.
    clip = clip + 10 ** ((LEVEL - snr) / 20) * generator.standard_normal(len(clip))
    return np.clip(np.round(clip * 32768), -32768, 32767).astype(np.int16)


def write_clip(path: Path, clip: NDArray[np.int16]) -> None:
    """Write a clip as FLAC, 16 kHz mono, 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, clip, RATE, format="FLAC", subtype="PCM_16")
