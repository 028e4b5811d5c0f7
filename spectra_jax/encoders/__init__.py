"""Speech encoders of the wav2vec 2.0 family: wav2vec 2.0, XLS-R, MMS, HuBERT and WavLM.

    encoder = spectra_jax.encoders.from_pretrained("facebook/wav2vec2-xls-r-300m")
    encoder(waveforms)                  # (batch, samples) at 16 kHz -> the last hidden state (batch, frames, width)
    encoder.hidden_states(waveforms)    # the input of the first layer, then the output of each

The format is that of transformers, read and written without PyTorch.
"""

from spectra_jax.encoders.pretrained import from_pretrained, open_encoder
from spectra_jax.encoders.save import save_pretrained
from spectra_jax.model.encoder import (
    SpeechEncoder,
    WeightedLayerSum,
    frame_mask,
    frame_times,
    mean_pool,
    normalize_waveform,
    statistics_pool,
)

__all__ = [
    "SpeechEncoder",
    "WeightedLayerSum",
    "frame_mask",
    "frame_times",
    "from_pretrained",
    "mean_pool",
    "normalize_waveform",
    "open_encoder",
    "save_pretrained",
    "statistics_pool",
]
