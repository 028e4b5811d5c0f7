"""Speech anti-spoofing in JAX: the Spectra-AASIST3 detector and its XLS-R encoder as pure Flax modules.

    import spectra_jax

    model = spectra_jax.load("demo")                  # flax.nnx.Module: windows (b, 64600) -> logits (b, 2)
    forward, params = spectra_jax.split(model)        # the same as a pure function, for your own jax.jit
    scorer = spectra_jax.Scorer("demo")               # files, arrays, batches: higher = more bona fide

Importing this package starts no device, loads no PyTorch and changes none of JAX's settings.
"""

from importlib.metadata import version

from spectra_jax.checkpoint import CheckpointError, load_model
from spectra_jax.config import ConfigError, EncoderConfig, KANConfig, SpectraConfig
from spectra_jax.model.aasist import KANAASIST
from spectra_jax.model.kan import KANLinear
from spectra_jax.model.spectra import SpectraAASIST3, split, stages
from spectra_jax.model.xlsr import XLSREncoder
from spectra_jax.precision import Precision
from spectra_jax.pretrained import load, open_checkpoint
from spectra_jax.scoring import Scorer

__version__ = version("spectra-jax")

__all__ = [
    "KANAASIST",
    "CheckpointError",
    "ConfigError",
    "EncoderConfig",
    "KANConfig",
    "KANLinear",
    "Precision",
    "Scorer",
    "SpectraAASIST3",
    "SpectraConfig",
    "XLSREncoder",
    "load",
    "load_model",
    "open_checkpoint",
    "split",
    "stages",
]
