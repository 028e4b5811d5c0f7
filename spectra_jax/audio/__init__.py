"""From an audio file, or an array of samples, to the window of samples that the network scores.

    decode -> mono -> 16 kHz -> pre-emphasis of the complete clip -> the first 64,600 samples

    audio, sample_rate = read("clip.flac")
    samples = prepare(audio, sample_rate)       # (64600,) float32

All of it is numpy on the host: pre-emphasis has to round its product before it subtracts, and a compiler may fuse the
two into one instruction. Loudness is not normalised.

`containers` recognises a file and checks that it is complete, `libsndfile` and `ffmpeg` decode it, `decoding` joins
both; `resampling`, `preemphasis` and `windows` make windows of its samples.
"""

from spectra_jax.audio.decoding import AudioStream, Decoded, decode, keep_start, open_stream, read, stream_samples
from spectra_jax.audio.inspection import InspectedBlocks
from spectra_jax.audio.preemphasis import PREEMPHASIS, pre_emphasis
from spectra_jax.audio.resampling import MAX_RATE, MIN_RATE, TARGET_RATE, resample
from spectra_jax.audio.samples import MAX_CHANNELS, is_silent, to_mono
from spectra_jax.audio.windows import NUM_SAMPLES, AudioWindow, cut_windows, prepare, prepare_windows, window
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
    "AudioWindow",
    "Decoded",
    "InspectedBlocks",
    "cut_windows",
    "decode",
    "is_silent",
    "keep_start",
    "open_stream",
    "pre_emphasis",
    "prepare",
    "prepare_windows",
    "read",
    "resample",
    "stream_samples",
    "to_mono",
    "window",
]
