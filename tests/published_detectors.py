"""The published detectors in small and in their published sizes, as PyTorch files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from spectra_jax.checkpoints.checkpoint import Checkpoint, weight_shapes
from spectra_jax.convert import expand
from spectra_jax.convert.pytorch import write_pytorch
from spectra_jax.convert.pytorch_file import stored_tensors
from spectra_jax.convert.table import POSITIONAL, WEIGHT_NORM
from spectra_jax.files.tensor_file import TensorSpec
from spectra_jax.model.config import SpectraConfig
from tests.training.runs import MODEL

SMALL: dict[str, Any] = MODEL | {
    "ecapa": {
        "channels": 6,
        "dilations": [2, 3],
        "scale": 3,
        "squeeze_channels": 4,
        "aggregation_channels": 10,
        "attention_channels": 5,
    }
}


def small(back_end: str) -> SpectraConfig:
    """A small network with this back-end."""
    return SpectraConfig.from_dict(SMALL | {"back_end": back_end})


def random_checkpoint(config: SpectraConfig) -> Checkpoint:
    """Random weights, and batch statistics like those after training."""
    random = np.random.default_rng(0)
    weights = {}
    for path, weight in weight_shapes(config).items():
        kind = path.rpartition(".")[2]
        if kind == "num_batches":
            array = np.array(random.integers(1000))
        elif kind in ("var", "scale"):
            array = random.uniform(0.5, 2, weight.shape)
        else:
            inputs = math.prod(weight.shape[:-1]) if kind == "kernel" else 4
            array = random.standard_normal(weight.shape) / math.sqrt(inputs)
        weights[path] = array.astype(weight.dtype)
    read = {path: (lambda array=array: array) for path, array in weights.items()}
    return Checkpoint(config, read, "random", Path("random"))


def write_small(back_end: str, directory: Path, /, **stated: Any) -> Path:
    """A small PyTorch checkpoint whose `config.json` has the sizes, and the back-end only if it is `stated`."""
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(SMALL | stated))
    write_pytorch(random_checkpoint(small(back_end)), directory / "model.safetensors")
    return directory


def published_tensors(config: SpectraConfig) -> dict[str, TensorSpec]:
    """Names, dtypes and shapes of a network without splines, in PyTorch's file."""
    shapes = weight_shapes(config)
    return stored_tensors(expand(config, shapes), shapes, POSITIONAL, WEIGHT_NORM)


def write_sparse(config: SpectraConfig, path: Path) -> Path:
    """A file as `safetensors` lays it out, with zeros for weights, which take no space on most disks."""
    widths = {"F32": 4, "I64": 8}
    header: dict[str, Any] = {}
    end = 0
    for name, spec in sorted(published_tensors(config).items(), key=lambda item: (-widths[item[1].dtype], item[0])):
        start, end = end, end + math.prod(spec.shape) * widths[spec.dtype]
        header[name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path
