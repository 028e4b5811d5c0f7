"""From a file, or an array as decoded, to the window of samples that the network takes.

    decode -> mono -> 16 kHz -> pre-emphasis over the whole clip -> the first 64,600 samples

    audio, sample_rate = read("clip.flac")
    samples = prepare(audio, sample_rate)       # (64600,) float32

Everything here is numpy on the host, and on purpose: pre-emphasis must round its product before it subtracts, which a
compiler that fuses the two into one instruction does not. There is no waveform normalisation: loudness is kept.
"""

from spectra_jax.audio.decoding import AudioStream, Decoded, decode, open_stream, read
from spectra_jax.audio.inspection import InspectedBlocks
from spectra_jax.audio.preemphasis import PREEMPHASIS, pre_emphasis
from spectra_jax.audio.resampling import MAX_RATE, MIN_RATE, TARGET_RATE, resample
from spectra_jax.audio.samples import MAX_CHANNELS, is_silent, to_mono
from spectra_jax.audio.windows import NUM_SAMPLES, prepare, prepare_windows, window
from spectra_jax.errors import AudioError

__all__ = [
    "MAX_CHANNELS",
    "MAX_RATE",
    "MIN_RATE",
    "NUM_SAMPLES",
    "PREEMPHASIS",
    "TARGET_RATE",
    "AudioError",
    "AudioStream",
    "Decoded",
    "InspectedBlocks",
    "decode",
    "is_silent",
    "open_stream",
    "pre_emphasis",
    "prepare",
    "prepare_windows",
    "read",
    "resample",
    "to_mono",
    "window",
]
