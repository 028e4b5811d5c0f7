"""The speech encoders of the wav2vec 2.0 family: wav2vec 2.0, XLS-R and MMS, HuBERT, WavLM.

`SpeechEncoder` is the network. `frames` has the times and lengths of its frames, `pooling` combines frames and layers.
"""

from spectra_jax.model.encoder.attention import has_cudnn_attention
from spectra_jax.model.encoder.encoder import SpeechEncoder
from spectra_jax.model.encoder.frames import frame_mask, frame_times, normalize_waveform
from spectra_jax.model.encoder.pooling import WeightedLayerSum, mean_pool, statistics_pool
from spectra_jax.model.encoder.transformer import TransformerLayer

XLSREncoder = SpeechEncoder
"""The name of `SpeechEncoder` in earlier releases."""

__all__ = [
    "SpeechEncoder",
    "TransformerLayer",
    "WeightedLayerSum",
    "XLSREncoder",
    "frame_mask",
    "frame_times",
    "has_cudnn_attention",
    "mean_pool",
    "normalize_waveform",
    "statistics_pool",
]
