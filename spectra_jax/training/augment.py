"""Augmentation: what recordings, channels and codecs do to speech, drawn at random. numpy on the host, float32, 16 kHz.

    augmented = augment(samples, AugmentConfig(rawboost=0.5, noise=0.5), np.random.default_rng(0))

Everything is drawn from the one generator that is handed in, and nothing depends on the clip but its length: the same
generator gives a clip and a copy of it the same channel and the same gain.

Source of the three RawBoost noises: Tak et al., "RawBoost: A Raw Data Boosting and Augmentation Method applied to
Automatic Speaker Verification Anti-Spoofing" (2022); ranges in the configuration are the paper's.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile  # type: ignore[import-untyped]
from numpy.typing import NDArray
from scipy import fft, signal

from spectra_jax.audio import TARGET_RATE, resample
from spectra_jax.model.config import Section, check_integer, check_number, require

Samples = NDArray[np.float32]

# What libsndfile writes: format, subtype and the rate in Hz that the codec is used at.
CODECS: dict[str, tuple[str, str, int]] = {
    "mu-law": ("WAV", "ULAW", 8_000),
    "a-law": ("WAV", "ALAW", 8_000),
    "gsm": ("WAV", "GSM610", 8_000),
    "adpcm": ("WAV", "IMA_ADPCM", 16_000),
    "vorbis": ("OGG", "VORBIS", 16_000),
    "mp3": ("MP3", "MPEG_LAYER_III", 16_000),
}


@dataclass(frozen=True)
class AugmentConfig(Section):
    """How often each augmentation is drawn, a probability for each (0: never), and from what ranges.

    The order is that of the way from a mouth to a file: speed, RawBoost, equaliser, band limit, noise, gain, codec.
    """

    speed: float = 0.0
    speed_range: tuple[float, float] = (0.9, 1.1)
    """Played so many times as fast, in steps of 5 %, pitch and formants with it."""
    rawboost: float = 0.0
    """Each of the three noises of RawBoost is drawn with this probability of its own."""
    harmonics: int = 5
    """Orders of the convolutive noise: 1 is a linear channel alone, each further one a distortion."""
    equaliser: float = 0.0
    equaliser_range: tuple[float, float] = (-10.0, 10.0)
    """dB, drawn for each of nine bands, with a smooth curve between."""
    band_limit: float = 0.0
    band_limit_range: tuple[float, float] = (2500.0, 7500.0)
    """Upper edge in Hz."""
    noise: float = 0.0
    noise_snr_range: tuple[float, float] = (10.0, 40.0)
    """dB, of coloured noise against the clip."""
    gain: float = 0.0
    gain_range: tuple[float, float] = (-12.0, 6.0)
    """dB."""
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


def augment(samples: Samples, config: AugmentConfig, rng: np.random.Generator) -> Samples:
    """One random version of a clip, (samples,) float32 at 16 kHz; another length where its speed changed."""
    # Drawn before anything else, so that no augmentation's own draws move what comes after it.
    drawn = iter(rng.random(9))
    seeds = iter(rng.spawn(9))
    if next(drawn) < config.speed:
        samples = change_speed(samples, next(seeds).uniform(*config.speed_range))
    if next(drawn) < config.rawboost:
        samples = convolutive_noise(samples, next(seeds), harmonics=config.harmonics)
    if next(drawn) < config.rawboost:
        samples = impulsive_noise(samples, next(seeds))
    if next(drawn) < config.rawboost:
        own = next(seeds)
        noise = notch_filtered(own.standard_normal(len(samples)).astype(np.float32), own)
        samples = add_noise(samples, noise, own.uniform(10, 40))
    if next(drawn) < config.equaliser:
        own = next(seeds)
        samples = equalise(samples, own.uniform(*config.equaliser_range, 9))
    if next(drawn) < config.band_limit:
        samples = limit_band(samples, next(seeds).uniform(*config.band_limit_range))
    if next(drawn) < config.noise:
        own = next(seeds)
        samples = add_noise(samples, coloured_noise(len(samples), own), own.uniform(*config.noise_snr_range))
    if next(drawn) < config.gain:
        samples = samples * np.float32(10 ** (next(seeds).uniform(*config.gain_range) / 20))
    if next(drawn) < config.codec:
        samples = through_codec(samples, config.codecs[next(seeds).integers(len(config.codecs))])
    return samples.astype(np.float32, copy=False)


def change_speed(samples: Samples, factor: float) -> Samples:
    """Played `factor` times as fast, to the nearest twentieth: small whole factors need short filters."""
    twentieths = round(20 * factor)
    changed: Samples = samples if twentieths == 20 else signal.resample_poly(samples, 20, twentieths)
    return changed


def notch_filter(rng: np.random.Generator, *, bands: int = 5) -> NDArray[np.float64]:
    """A random FIR filter with stop bands, (taps,), RawBoost's f_notch: 20 Hz to 8 kHz, 100 Hz to 1 kHz wide."""
    taps = np.ones(1)
    for _ in range(bands):
        width, centre = rng.uniform(100, 1000), rng.uniform(20, 8000)
        count = int(rng.integers(10, 100)) | 1  # odd, as a band-stop FIR has to be
        low = max(centre - width / 2, 1.0)
        high = min(centre + width / 2, TARGET_RATE / 2 - 1)
        if high - low > 1:
            taps = np.convolve(signal.firwin(count, [low, high], window="hamming", fs=TARGET_RATE), taps)
    gain = 10 ** (rng.uniform(-20, 5) / 20)
    # At unity where it is largest: the gain is drawn apart.
    return taps / np.abs(signal.freqz(taps, 1, fs=TARGET_RATE)[1]).max() * gain


def notch_filtered(samples: Samples, rng: np.random.Generator) -> Samples:
    return _filtered(samples, notch_filter(rng))


def _filtered(samples: Samples, taps: NDArray[np.float64]) -> Samples:
    """Convolved, with the filter's delay taken off again: (samples,) in and out."""
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
    """RawBoost 2, impulsive, signal-dependent noise: up to `share` of the samples get a random multiple of
    themselves, up to `gain`, added."""
    count = int(len(samples) * rng.uniform(0, share))
    # Drawn as shares of the length, so that a copy a little longer is hit at the same moments.
    places = (rng.random(count) * len(samples)).astype(int)
    factors = rng.uniform(-1, 1, count) * rng.uniform(-1, 1, count)
    y = samples.copy()
    y[places] += (gain * factors * samples[places]).astype(np.float32)
    return _at_level_of(samples, y)


def coloured_noise(length: int, rng: np.random.Generator) -> Samples:
    """Noise whose spectrum falls by 0 to 2 powers of the frequency: white, pink and brown, and all between."""
    exponent = rng.uniform(0, 2)
    padded = fft.next_fast_len(length, real=True)
    spectrum = fft.rfft(rng.standard_normal(padded, dtype=np.float32))
    frequency = np.maximum(np.arange(len(spectrum)), max(padded * 50 // TARGET_RATE, 1))  # flat below 50 Hz
    return fft.irfft(spectrum * frequency ** (-exponent / 2), padded)[:length].astype(np.float32)


def add_noise(samples: Samples, noise: Samples, snr: float) -> Samples:
    """`samples` with `noise` added `snr` dB below it, over the whole clip. Silence stays as it is."""
    power, noise_power = (float(np.mean(np.square(x, dtype=np.float64))) for x in (samples, noise))
    if power == 0 or noise_power == 0:
        return samples
    return samples + noise * np.float32(np.sqrt(power / noise_power) * 10 ** (-snr / 20))


def equalise(samples: Samples, gains: NDArray[np.float64]) -> Samples:
    """A smooth linear-phase filter with `gains` in dB at frequencies evenly spaced on the mel scale up to 8 kHz, at the
    clip's level."""
    mel = np.linspace(0, 2595 * np.log10(1 + TARGET_RATE / 2 / 700), len(gains))
    frequencies = 700 * (10 ** (mel / 2595) - 1)
    frequencies[-1] = TARGET_RATE / 2
    taps = signal.firwin2(513, frequencies, 10 ** (gains / 20), fs=TARGET_RATE)
    return _at_level_of(samples, _filtered(samples, taps))


def limit_band(samples: Samples, edge: float) -> Samples:
    """Low-passed at `edge` Hz, by 60 dB within 400 Hz."""
    return _filtered(samples, signal.firwin(145, edge, window=("kaiser", 5.65), fs=TARGET_RATE))


def through_codec(samples: Samples, codec: str) -> Samples:
    """Written by one of `CODECS` and read again, at the codec's own rate and back: (samples,) in and out."""
    form, subtype, rate = CODECS[codec]
    file = io.BytesIO()
    slower = resample(samples, TARGET_RATE, rate)
    # libsndfile wraps around in some codecs what reaches full scale.
    peak = max(float(np.abs(slower).max(initial=0)) / 0.99, 1.0)
    soundfile.write(file, slower / np.float32(peak), rate, format=form, subtype=subtype)
    file.seek(0)
    heard = resample(soundfile.read(file, dtype="float32")[0], rate, TARGET_RATE) * np.float32(peak)
    return np.pad(heard, (0, max(len(samples) - len(heard), 0)))[: len(samples)]


def _at_level_of(samples: Samples, changed: Samples) -> Samples:
    """`changed`, as loud as `samples` (root mean square)."""
    level, now = (float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) for x in (samples, changed))
    return changed * np.float32(level / now) if now > 0 else samples
