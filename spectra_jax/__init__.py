"""Speech anti-spoofing in JAX: the Spectra-AASIST3 detector and its XLS-R encoder as pure Flax modules.

    import spectra_jax

    model = spectra_jax.load("demo")                  # flax.nnx.Module: windows (b, 64600) -> logits (b, 2)
    forward, params = spectra_jax.split(model)        # the same as a pure function, for your own jax.jit
    scorer = spectra_jax.Scorer("demo")               # files, arrays, batches: higher = more bona fide

Importing this package starts no device, loads no PyTorch and changes none of JAX's settings. JAX itself is imported
when one of the names below is first used.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectra_jax.checkpoint import CheckpointError, load_model
    from spectra_jax.comparison import compare
    from spectra_jax.config import ConfigError, EncoderConfig, KANConfig, SpectraConfig
    from spectra_jax.evaluation import evaluate
    from spectra_jax.labels import read_labels
    from spectra_jax.model.aasist import KANAASIST
    from spectra_jax.model.kan import KANLinear
    from spectra_jax.model.spectra import SpectraAASIST3, split, split_with_rank_gaps, stages
    from spectra_jax.model.xlsr import XLSREncoder
    from spectra_jax.precision import Precision
    from spectra_jax.pretrained import load, open_checkpoint
    from spectra_jax.score_file import read_scores
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
    "compare",
    "evaluate",
    "load",
    "load_model",
    "open_checkpoint",
    "read_labels",
    "read_scores",
    "split",
    "split_with_rank_gaps",
    "stages",
]

_MODULES = {
    "KANAASIST": "model.aasist",
    "CheckpointError": "checkpoint",
    "ConfigError": "config",
    "EncoderConfig": "config",
    "KANConfig": "config",
    "KANLinear": "model.kan",
    "Precision": "precision",
    "Scorer": "scoring",
    "SpectraAASIST3": "model.spectra",
    "SpectraConfig": "config",
    "XLSREncoder": "model.xlsr",
    "compare": "comparison",
    "evaluate": "evaluation",
    "load": "pretrained",
    "load_model": "checkpoint",
    "open_checkpoint": "pretrained",
    "read_labels": "labels",
    "read_scores": "score_file",
    "split": "model.spectra",
    "split_with_rank_gaps": "model.spectra",
    "stages": "model.spectra",
}
# Reached as attributes too, as if they had been imported with the package.
# fmt: off
_SUBMODULES = frozenset({
    "arena", "audio", "checkpoint", "comparison", "config", "convert", "evaluation", "hub", "labels", "metrics",
    "precision", "pretrained", "rank_gap", "results", "score_file", "scoring", "trials",
})
# fmt: on


def __getattr__(name: str) -> Any:
    # JAX takes a second and a half to import, which `spectra-jax --help` need not wait for.
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
