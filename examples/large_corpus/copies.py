"""Vocoded copies of bona fide clips: WORLD, mel Griffin-Lim, MLSA, and LPC.

A copy is made from prepared speech (`chain.prepare_speech`), so that it has the crop of its recording, and is finished
with the noise of its recording. LPC copies are made of eval speakers alone, so that the attack is unseen in training.

Needs pyworld and pysptk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
from scipy import linalg, signal

from examples.large_corpus import chain
from examples.large_corpus.chain import RATE, Samples
from examples.large_corpus.manifest import Clip, clip_row

SEEN = ("world", "griffinlim", "mlsa")
UNSEEN = ("lpc",)
PERIOD = 80  # samples between analysis frames, 5 ms
FLOOR = 60.0  # Hz, lowest pitch
CEILING = 500.0  # Hz, highest pitch, of a child


@dataclass(frozen=True)
class MelGriffinLim:
    """Inversion of a mel spectrogram with Griffin and Lim's iterations."""

    size: int = 1024
    hop: int = 256
    mels: int = 80
    iterations: int = 32

    def filters(self) -> Samples:
        """Triangular mel filters, (mels, size // 2 + 1)."""
        top = 2595 * np.log10(1 + RATE / 2 / 700)
        edges = 700 * (10 ** (np.linspace(0, top, self.mels + 2) / 2595) - 1)
        frequency = np.fft.rfftfreq(self.size, 1 / RATE)
        rising = (frequency - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
        falling = (edges[2:, None] - frequency) / (edges[2:] - edges[1:-1])[:, None]
        return np.maximum(np.minimum(rising, falling), 0)

    def __call__(self, samples: Samples, generator: np.random.Generator) -> Samples:
        """Copy (n,) of samples (n,)."""
        transform = signal.ShortTimeFFT(signal.windows.hann(self.size, False), self.hop, RATE, mfft=self.size)
        bank = self.filters()
        mel = bank @ np.abs(transform.stft(samples))
        magnitude = np.maximum(np.linalg.pinv(bank) @ mel, 0)
        phase = np.exp(2j * np.pi * generator.random(magnitude.shape))
        for _ in range(self.iterations):
            spectrum = transform.stft(transform.istft(magnitude * phase, k1=len(samples)))
            phase = np.exp(1j * np.angle(spectrum))
        return np.asarray(transform.istft(magnitude * phase, k1=len(samples)).real)


def copy_with_world(samples: Samples, generator: np.random.Generator) -> Samples:
    """Analysis and synthesis with WORLD; Morise, Yokomori and Ozawa (2016)."""
    import pyworld

    coarse, times = pyworld.dio(samples, RATE, f0_floor=FLOOR, f0_ceil=CEILING, frame_period=5.0)
    pitch = pyworld.stonemask(samples, coarse, times, RATE)
    envelope = pyworld.cheaptrick(samples, pitch, times, RATE)
    aperiodicity = pyworld.d4c(samples, pitch, times, RATE)
    return np.asarray(pyworld.synthesize(pitch, envelope, aperiodicity, RATE, 5.0))[: len(samples)]


def find_pitch_periods(samples: Samples) -> Samples:
    """Pitch period in samples of frames every `PERIOD` samples, 0 where unvoiced."""
    import pysptk

    return np.asarray(pysptk.swipe(samples, RATE, PERIOD, min=FLOOR, max=CEILING, otype="pitch"), np.float64)


def copy_with_mlsa(samples: Samples, generator: np.random.Generator) -> Samples:
    """Mel-cepstrum, pulse and noise excitation, MLSA filter; Imai, Sumita and Furuichi (1983)."""
    import pysptk
    from pysptk.synthesis import MLSADF, Synthesizer

    order, alpha, size = 25, 0.42, 512
    scaled = samples * 32768
    # Windows at frame starts, as pysptk's pitch has them; noise keeps the logarithm of digital silence finite.
    padded = np.pad(scaled + generator.standard_normal(len(scaled)), size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::PERIOD] * pysptk.blackman(size)
    cepstra = pysptk.mcep(np.ascontiguousarray(frames), order, alpha, etype=1, eps=1.0)
    periods = find_pitch_periods(scaled)
    count = min(len(periods), len(cepstra))
    # Not pysptk's binary noise, which has no seed: a copy would depend on the copies before it in the same process.
    excitation = pysptk.excite(periods[:count], PERIOD, gaussian=True, seed=int(generator.integers(1, 2**15)))
    coefficients = np.ascontiguousarray(pysptk.mc2b(cepstra[:count], alpha))
    copy = Synthesizer(MLSADF(order=order, alpha=alpha, pd=5), PERIOD).synthesis(excitation, coefficients)
    return np.asarray(copy)[: len(samples)] / 32768


def copy_with_lpc(samples: Samples, generator: np.random.Generator) -> Samples:
    """Linear prediction of order 18 with pulse or noise excitation; Atal and Hanauer (1971)."""
    order, size = 18, 400
    periods = find_pitch_periods(samples * 32768)
    padded = np.pad(samples, size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::PERIOD] * signal.windows.hamming(size)
    copy = np.zeros(len(samples))
    state = np.zeros(order)
    next_pulse = 0.0
    for index, start in enumerate(range(0, len(samples) - PERIOD + 1, PERIOD)):
        frame = frames[index]
        correlation = np.correlate(frame, frame, "full")[size - 1 : size + order]
        correlation[0] = correlation[0] * 1.0001 + 1e-9
        predictor = linalg.solve_toeplitz(correlation[:order], correlation[1:])
        power = max(float(correlation[0] - predictor @ correlation[1:]), 1e-12) / size
        period = periods[min(index, len(periods) - 1)]
        if period > 0:
            excitation = np.zeros(PERIOD)
            while next_pulse < PERIOD:
                excitation[int(next_pulse)] = np.sqrt(period)
                next_pulse += period
            next_pulse -= PERIOD
        else:
            excitation, next_pulse = generator.standard_normal(PERIOD), 0.0
        copy[start : start + PERIOD], state = signal.lfilter(
            [np.sqrt(power)], np.concatenate([[1.0], -predictor]), excitation, zi=state
        )
    return copy


VOCODERS: dict[str, Callable[[Samples, np.random.Generator], Samples]] = {
    "world": copy_with_world,
    "griffinlim": MelGriffinLim(),
    "mlsa": copy_with_mlsa,
    "lpc": copy_with_lpc,
}


def vocoders_of_clip(split: str, number: int) -> tuple[str, ...]:
    """Vocoders that copy a clip: all seen ones in train and dev, one of them and the unseen ones in eval.

    The small corpus does the same: an eval person has as many copies of each seen vocoder as a third of the clips.
    """
    return SEEN if split != "eval" else (SEEN[number % len(SEEN)], *UNSEEN)


def write_copy(bona_fide: Clip, vocoder: str, output: Path) -> Clip:
    """Write one copy of a clip, unless an earlier run wrote it; returns its row."""
    utterance_id = f"{bona_fide.utterance_id}_{vocoder}"
    path = output / bona_fide.split / f"{utterance_id}.flac"
    if not path.exists():
        speech = read_prepared(bona_fide, output)
        copy = VOCODERS[vocoder](speech, chain.random_generator(utterance_id, "vocoder"))
        partial = path.with_suffix(".partial")
        chain.write_clip(partial, chain.finish_clip(copy, bona_fide.utterance_id))
        partial.rename(path)
    return clip_row(
        utterance_id,
        path,
        bona_fide.split,
        label="spoof",
        speaker=bona_fide.speaker,
        attack=vocoder,
        pair=bona_fide.utterance_id,
        source=bona_fide.source,
        seconds=sf.info(path).duration,
        license=bona_fide.license,
    )


def read_prepared(bona_fide: Clip, output: Path) -> Samples:
    """Prepared speech that `people.write_people` left for the copies."""
    return np.load(output / "prepared" / f"{bona_fide.utterance_id}.npy").astype(np.float64)


def write_copies(output: Path, bona_fide: Iterable[Clip], processes: int | None = None) -> list[Clip]:
    """Write the copies of the clips, several at a time; returns their rows."""
    tasks = [
        (row, vocoder)
        for row in bona_fide
        for vocoder in vocoders_of_clip(row.split, int(row.utterance_id.rsplit("_", 1)[1]))
    ]
    with ProcessPoolExecutor(processes) as pool:
        rows, vocoders = zip(*tasks, strict=True)
        return list(pool.map(write_copy, rows, vocoders, [output] * len(tasks), chunksize=8))
