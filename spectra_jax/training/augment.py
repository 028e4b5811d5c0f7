"""Augmentation: random effects of recording, channels and codecs on speech. numpy on the host, float32, 16 kHz.

    augmented = augment(samples, AugmentConfig(rawboost=0.5, noise=0.5), np.random.default_rng(0))

All random numbers come from the given generator, and how many depends on the clip's length only: generators of one seed
give a clip and a copy of it the same channel and the same gain.

Source of the three RawBoost noises: Tak et al., "RawBoost: A Raw Data Boosting and Augmentation Method applied to
Automatic Speaker Verification Anti-Spoofing" (2022); ranges in the configuration are the paper's.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile
from jaxtyping import Float32
from numpy.typing import NDArray
from scipy import fft, signal

from spectra_jax.audio import TARGET_RATE, resample
from spectra_jax.model.config import Section, check_integer, check_number, require

Samples = NDArray[np.float32]

CODECS: dict[str, tuple[str, str, int]] = {
    "mu-law": ("WAV", "ULAW", 8_000),
    "a-law": ("WAV", "ALAW", 8_000),
    "gsm": ("WAV", "GSM610", 8_000),
    "adpcm": ("WAV", "IMA_ADPCM", 16_000),
    "vorbis": ("OGG", "VORBIS", 16_000),
    "mp3": ("MP3", "MPEG_LAYER_III", 16_000),
}
"""For each codec its format and subtype in libsndfile, and its rate in Hz."""


@dataclass(frozen=True)
class AugmentConfig(Section):
    """The probability of each augmentation (0: never), and the ranges of its parameters.

    They are applied in the order of a recording chain: speed, RawBoost, equaliser, band limit, noise, gain, codec.
    """

    speed: float = 0.0
    speed_range: tuple[float, float] = (0.9, 1.1)
    """A factor, in steps of 5 %, on the speed, which changes pitch and formants too."""
    rawboost: float = 0.0
    """The probability of each of the three noises of RawBoost, drawn independently."""
    harmonics: int = 5
    """Orders of the convolutive noise: 1 is a linear channel, higher orders add distortions."""
    equaliser: float = 0.0
    equaliser_range: tuple[float, float] = (-10.0, 10.0)
    """In dB, drawn for each of nine bands; the filter is smooth between them."""
    band_limit: float = 0.0
    band_limit_range: tuple[float, float] = (2500.0, 7500.0)
    """Upper edge in Hz."""
    noise: float = 0.0
    noise_snr_range: tuple[float, float] = (10.0, 40.0)
    """In dB, of the clip to coloured noise."""
    gain: float = 0.0
    gain_range: tuple[float, float] = (-12.0, 6.0)
    """In dB."""
    codec: float = 0.0
    codecs: tuple[str, ...] = tuple(CODECS)

    def _validate(self) -> None:
        for name in ("speed", "rawboost", "equaliser", "band_limit", "noise", "gain", "codec"):
            value = getattr(self, name)
            check_number(f"augment.{name}", value, lambda p: 0 <= p <= 1, "a probability from 0 to 1")
        check_integer("augment.harmonics", self.harmonics)
        for name in ("speed_range", "equaliser_range", "band_limit_range", "noise_snr_range", "gain_range"):
            ends = getattr(self, name)
            require(isinstance(ends, tuple) and len(ends) == 2, f"augment.{name}", ends, "a pair of numbers")
            for end in ends:
                check_number(f"augment.{name}", end, lambda _: True, "a pair of numbers")
            require(ends[0] <= ends[1], f"augment.{name}", ends, "a pair of numbers, the lower one first")
        slowest, fastest = self.speed_range
        require(slowest >= 0.5 and fastest <= 2, "augment.speed_range", self.speed_range, "within 0.5 to 2")
        lowest, highest = self.band_limit_range
        inside = lowest > 50 and highest < TARGET_RATE / 2
        require(inside, "augment.band_limit_range", self.band_limit_range, f"above 50 and below {TARGET_RATE // 2}")
        unknown = [name for name in self.codecs if name not in CODECS]
        require(bool(self.codecs) and not unknown, "augment.codecs", self.codecs, f"some of {', '.join(CODECS)}")


def augment(
    samples: Float32[np.ndarray, " samples"], config: AugmentConfig, rng: np.random.Generator
) -> Float32[np.ndarray, " augmented"]:
    """A random version of a clip, (samples,) float32 at 16 kHz; of another length if its speed was changed."""
    # Drawn first, and with a generator for each, so that an augmentation does not change the draws of the next ones.
    drawn = iter(rng.random(9))
    generators = iter(rng.spawn(9))
    if next(drawn) < config.speed:
        samples = change_speed(samples, next(generators).uniform(*config.speed_range))
    if next(drawn) < config.rawboost:
        samples = convolutive_noise(samples, next(generators), harmonics=config.harmonics)
    if next(drawn) < config.rawboost:
        samples = impulsive_noise(samples, next(generators))
    if next(drawn) < config.rawboost:
        generator = next(generators)
        noise = notch_filtered(generator.standard_normal(len(samples)).astype(np.float32), generator)
        samples = add_noise(samples, noise, generator.uniform(10, 40))
    if next(drawn) < config.equaliser:
        generator = next(generators)
        samples = equalise(samples, generator.uniform(*config.equaliser_range, 9))
    if next(drawn) < config.band_limit:
        samples = limit_band(samples, next(generators).uniform(*config.band_limit_range))
    if next(drawn) < config.noise:
        generator = next(generators)
        samples = add_noise(
            samples, coloured_noise(len(samples), generator), generator.uniform(*config.noise_snr_range)
        )
    if next(drawn) < config.gain:
        samples = samples * np.float32(10 ** (next(generators).uniform(*config.gain_range) / 20))
    if next(drawn) < config.codec:
        samples = through_codec(samples, config.codecs[next(generators).integers(len(config.codecs))])
    return samples.astype(np.float32, copy=False)


def change_speed(samples: Samples, factor: float) -> Samples:
    """The clip `factor` times as fast, rounded to a twentieth: small integer ratios need short filters."""
    twentieths = round(20 * factor)
    changed: Samples = samples if twentieths == 20 else signal.resample_poly(samples, 20, twentieths)
    return changed


def notch_filter(rng: np.random.Generator, *, bands: int = 5) -> NDArray[np.float64]:
    """A random FIR filter with stop bands (taps,), RawBoost's f_notch: 20 Hz to 8 kHz, 100 Hz to 1 kHz wide."""
    taps = np.ones(1)
    for _ in range(bands):
        width, centre = rng.uniform(100, 1000), rng.uniform(20, 8000)
        count = int(rng.integers(10, 100)) | 1  # a band-stop FIR filter has an odd length
        low = max(centre - width / 2, 1.0)
        high = min(centre + width / 2, TARGET_RATE / 2 - 1)
        if high - low > 1:
            taps = np.convolve(signal.firwin(count, [low, high], window="hamming", fs=TARGET_RATE), taps)
    gain = 10 ** (rng.uniform(-20, 5) / 20)
    # Normalised to a maximum of one: the gain is drawn separately.
    scaled: NDArray[np.float64] = taps / np.abs(signal.freqz(taps, 1, fs=TARGET_RATE)[1]).max() * gain
    return scaled


def notch_filtered(samples: Samples, rng: np.random.Generator) -> Samples:
    """The clip through a random `notch_filter`."""
    return _filtered(samples, notch_filter(rng))


def _filtered(samples: Samples, taps: NDArray[np.float64]) -> Samples:
    """The convolution without the filter's delay: (samples,) in and out."""
    y: Samples = signal.oaconvolve(samples, taps.astype(np.float32), mode="same")
    return y


def convolutive_noise(samples: Samples, rng: np.random.Generator, *, harmonics: int = 5) -> Samples:
    """RawBoost 1, linear and non-linear convolutive noise: a filtered sum of the clip's powers, at the clip's level."""
    total = np.zeros_like(samples)
    for order in range(1, harmonics + 1):
        taps = notch_filter(rng)
        # Higher orders are weaker, by 5 to 20 dB.
        weight = 1.0 if order == 1 else 10 ** (-rng.uniform(5, 20) / 20)
        total += np.float32(weight) * _filtered(samples**order, taps)
    return _at_level_of(samples, total - total.mean())


def impulsive_noise(samples: Samples, rng: np.random.Generator, *, share: float = 0.1, gain: float = 2.0) -> Samples:
    """RawBoost 2, impulsive, signal-dependent noise.

    A random multiple, up to `gain`, of up to the fraction `share` of the samples is added to them.
    """
    count = int(len(samples) * rng.uniform(0, share))
    # Drawn as fractions of the length, so that in a slightly longer copy the same moments are changed.
    indices = (rng.random(count) * len(samples)).astype(int)
    factors = rng.uniform(-1, 1, count) * rng.uniform(-1, 1, count)
    y = samples.copy()
    y[indices] += (gain * factors * samples[indices]).astype(np.float32)
    return _at_level_of(samples, y)


def coloured_noise(length: int, rng: np.random.Generator) -> Samples:
    """Noise whose spectrum falls by 0 to 2 powers of the frequency: white, pink and brown, and all between."""
    exponent = rng.uniform(0, 2)
    padded = fft.next_fast_len(length, real=True)
    spectrum = fft.rfft(rng.standard_normal(padded, dtype=np.float32))
    frequency = np.maximum(np.arange(len(spectrum)), max(padded * 50 // TARGET_RATE, 1))  # flat below 50 Hz
    return fft.irfft(spectrum * frequency ** (-exponent / 2), padded)[:length].astype(np.float32)


def add_noise(samples: Samples, noise: Samples, snr: float) -> Samples:
    """The clip with noise at a signal-to-noise ratio of `snr` dB over the complete clip. Silence is not changed."""
    power, noise_power = (float(np.mean(np.square(x, dtype=np.float64))) for x in (samples, noise))
    if power == 0 or noise_power == 0:
        return samples
    return samples + noise * np.float32(np.sqrt(power / noise_power) * 10 ** (-snr / 20))


def equalise(samples: Samples, gains: NDArray[np.float64]) -> Samples:
    """The clip, at its level, through a smooth linear-phase filter.

    Its `gains`, in dB, are at frequencies that are evenly spaced on the mel scale up to 8 kHz.
    """
    mel = np.linspace(0, 2595 * np.log10(1 + TARGET_RATE / 2 / 700), len(gains))
    frequencies = 700 * (10 ** (mel / 2595) - 1)
    frequencies[-1] = TARGET_RATE / 2
    taps = signal.firwin2(513, frequencies, 10 ** (gains / 20), fs=TARGET_RATE)
    return _at_level_of(samples, _filtered(samples, taps))


def limit_band(samples: Samples, edge: float) -> Samples:
    """The clip without frequencies above `edge` Hz, by 60 dB within 400 Hz."""
    return _filtered(samples, signal.firwin(145, edge, window=("kaiser", 5.65), fs=TARGET_RATE))


def through_codec(samples: Samples, codec: str) -> Samples:
    """The clip after encoding and decoding by one of `CODECS`, at the codec's rate: (samples,) in and out."""
    form, subtype, rate = CODECS[codec]
    file = io.BytesIO()
    slower = resample(samples, TARGET_RATE, rate)
    # In some codecs of libsndfile, samples at full scale overflow.
    peak = max(float(np.abs(slower).max(initial=0)) / 0.99, 1.0)
    soundfile.write(file, slower / np.float32(peak), rate, format=form, subtype=subtype)
    file.seek(0)
    decoded = resample(soundfile.read(file, dtype="float32")[0], rate, TARGET_RATE) * np.float32(peak)
    return np.pad(decoded, (0, max(len(samples) - len(decoded), 0)))[: len(samples)]


def _at_level_of(samples: Samples, changed: Samples) -> Samples:
    """`changed` with the root mean square of `samples`."""
    level, changed_level = (float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for x in (samples, changed))
    return changed * np.float32(level / changed_level) if changed_level > 0 else samples
