"""Speech anti-spoofing in JAX: the Spectra-AASIST3 detector and its XLS-R encoder as pure Flax modules.

    import spectra_jax

    model = spectra_jax.load("demo")                  # flax.nnx.Module: windows (b, 64600) -> logits (b, 2)
    forward, params, rest = spectra_jax.split(model)  # the same as a pure function: forward(params, rest, windows)
    scorer = spectra_jax.Scorer("demo")               # files, arrays, batches: higher = more bona fide

Importing this package starts no device, loads no PyTorch and changes none of JAX's settings. JAX itself is imported
when one of the names below is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spectra_jax import renamed

if TYPE_CHECKING:
    from spectra_jax.checkpoints.load import load_model
    from spectra_jax.checkpoints.resolve import load, open_checkpoint
    from spectra_jax.data.labels import read_labels
    from spectra_jax.data.score_files import read_scores
    from spectra_jax.errors import CheckpointError, ConfigError, SpectraError
    from spectra_jax.evaluation.compare import compare
    from spectra_jax.evaluation.evaluate import evaluate
    from spectra_jax.exporting.stablehlo import export
    from spectra_jax.inference.scorer import Scorer
    from spectra_jax.model.aasist import KANAASIST
    from spectra_jax.model.config import EncoderConfig, KANConfig, SpectraConfig
    from spectra_jax.model.encoder import SpeechEncoder, XLSREncoder
    from spectra_jax.model.functional import split
    from spectra_jax.model.kan import KANLinear
    from spectra_jax.model.precision import Precision
    from spectra_jax.model.spectra import SpectraAASIST3, split_with_rank_gaps, stages

__version__ = "0.1.0"

# Each public name, and the module that defines it.
_PUBLIC = {
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "EncoderConfig": "model.config",
    "KANAASIST": "model.aasist",
    "KANConfig": "model.config",
    "KANLinear": "model.kan",
    "Precision": "model.precision",
    "Scorer": "inference.scorer",
    "SpectraAASIST3": "model.spectra",
    "SpectraConfig": "model.config",
    "SpectraError": "errors",
    "SpeechEncoder": "model.encoder",
    "XLSREncoder": "model.encoder",
    "compare": "evaluation.compare",
    "evaluate": "evaluation.evaluate",
    "export": "exporting.stablehlo",
    "load": "checkpoints.resolve",
    "load_model": "checkpoints.load",
    "open_checkpoint": "checkpoints.resolve",
    "read_labels": "data.labels",
    "read_scores": "data.score_files",
    "split": "model.functional",
    "split_with_rank_gaps": "model.spectra",
    "stages": "model.spectra",
}
# Reached as attributes too, as if they had been imported with the package.
# fmt: off
_SUBPACKAGES = frozenset({
    "arena", "audio", "checkpoints", "convert", "data", "encoders", "errors", "evaluation", "exporting", "hub",
    "inference", "jobs", "model", "reporting", "training", "verification",
})
# fmt: on

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
    "SpectraError",
    "SpeechEncoder",
    "XLSREncoder",
    "compare",
    "evaluate",
    "export",
    "load",
    "load_model",
    "open_checkpoint",
    "read_labels",
    "read_scores",
    "split",
    "split_with_rank_gaps",
    "stages",
]


def __getattr__(name: str) -> Any:
    # JAX takes a second and a half to import, which `spectra-jax --help` need not wait for.
    if name in _SUBPACKAGES:
        return import_module(f"{__name__}.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES})


renamed.install(__name__)
