"""The network as a serialised StableHLO program that contains its weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from spectra_jax.checkpoints.resolve import load
from spectra_jax.errors import InputError
from spectra_jax.files.atomic import atomic_file
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.encoder import SpeechEncoder
from spectra_jax.model.fold import fold_for_inference
from spectra_jax.model.functional import split
from spectra_jax.model.platform import for_platform
from spectra_jax.model.spectra import SpectraAASIST3

PLATFORMS = ("cpu", "cuda", "tpu")
_KNOWN_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export(
    model: SpectraAASIST3 | SpeechEncoder | str | Path,
    path: str | Path,
    batch: int | str = "b",
    platforms: Sequence[str] = PLATFORMS,
    *,
    num_samples: int | str | None = None,
) -> jax.export.Exported:
    """Write a model as a program that JAX runs without this package and without Flax.

        spectra_jax.export("demo", "demo.jaxexport")

        exported = jax.export.deserialize(bytearray(Path("demo.jaxexport").read_bytes()))
        logits = jax.jit(exported.call)(windows)  # (b, num_samples) float32 -> (b, 2)

    The file contains the weights, and it needs neither cuDNN nor any other library. JAX promises that it can be read
    for six months by newer versions. It appears under its name when it is complete.

    Args:
      model: a network, an encoder (whose output is its last hidden state), or what `spectra_jax.load` takes.
      path: of the file; a file that has the name already is replaced.
      batch: the number of windows of a call, or the name of a symbolic dimension for any number.
      platforms: that the program runs on: "cpu", "cuda", "rocm" and "tpu". With one, it contains the code of that
        platform alone; with several, it selects the code when it is compiled.
      num_samples: the length of the windows, or the name of a symbolic dimension for other lengths. An encoder takes
        any length then; a detector takes the lengths that differ from its own window by multiples of three frames
        (60 ms in the published network). By default, a detector has the length of its configuration, and an encoder
        the dimension "t".

    Returns:
      What was written.

    Raises:
      InputError: the package `flatbuffers` is missing.
      TypeError: `model` is none of these.
      ValueError: a size or platform that is not valid.
    """
    # JAX reports the missing package after all the work.
    try:
        import flatbuffers  # noqa: F401
    except ImportError as error:
        raise InputError("export needs the package flatbuffers: pip install 'spectra-jax[export]'") from error
    if isinstance(model, str | Path):
        model = load(model)
    exported = export_program(model, batch, platforms, num_samples=num_samples)
    with atomic_file(path) as file:
        file.write(exported.serialize())
    return exported


def export_program(
    model: SpectraAASIST3 | SpeechEncoder,
    batch: int | str = "b",
    platforms: Sequence[str] = PLATFORMS,
    *,
    num_samples: int | str | None = None,
) -> jax.export.Exported:
    """The program that `export` writes; its arguments are the same."""
    if not isinstance(model, SpectraAASIST3 | SpeechEncoder):
        raise TypeError(f"expected a SpectraAASIST3 or a SpeechEncoder, found {type(model).__name__}")
    _check_platforms(platforms)
    folded = fold_for_inference(model) if isinstance(model, SpectraAASIST3) else model
    forward, params, rest = split(folded)

    def spectra(windows: Array) -> Array:
        output: Array = forward(params, rest, windows)
        return output

    with jax.enable_x64(model.precision.name == "float64"):
        windows = jax.ShapeDtypeStruct(_windows_shape(model, batch, num_samples), np.float32)
        target: Any = platforms[0] if len(platforms) == 1 else "any"
        with for_platform(target):
            return jax.export.export(jax.jit(spectra), platforms=platforms)(windows)


def _windows_shape(
    model: SpectraAASIST3 | SpeechEncoder, batch: int | str, num_samples: int | str | None
) -> Sequence[Any]:
    """The shape of the windows, with the lengths that the model takes as constraints of a symbolic one."""
    if num_samples is None:
        num_samples = model.config.num_samples if isinstance(model, SpectraAASIST3) else "t"
    check_size("batch", batch)
    check_size("num_samples", num_samples)
    if batch == num_samples and isinstance(batch, str):
        raise ValueError(f"batch and num_samples are both {batch!r}, but two symbolic dimensions need two names")
    if not isinstance(num_samples, str):
        return jax.export.symbolic_shape(f"{batch}, {num_samples}")
    if isinstance(model, SpeechEncoder):
        shortest = model.config.num_samples(1)
        return jax.export.symbolic_shape(f"{batch}, {num_samples}", constraints=[f"{num_samples} >= {shortest}"])
    step, offset, fewest, most = _lengths(model.config)
    constraints = [f"{num_samples} >= {fewest}", f"{num_samples} <= {most}"]
    return jax.export.symbolic_shape(f"{batch}, {step}*{num_samples} + {offset}", constraints=constraints)


def _lengths(config: SpectraConfig) -> tuple[int, int, int, int]:
    """Step, offset, and the lowest and highest n of the lengths `step * n + offset` of a network's windows.

    JAX cannot decide in reasonable time whether shapes agree that are rounded down at each of the convolutions and
    again by the pool over three frames. In steps of three frames none of them is rounded.
    """
    encoder = config.encoder
    step = 3 * math.prod(encoder.conv_stride)
    offset = config.num_samples % step
    counts = [n for n in range(config.max_frames) if 3 <= encoder.num_frames(step * n + offset) <= config.max_frames]
    return step, offset, counts[0], counts[-1]


def check_size(name: str, size: int | str) -> None:
    """Raise ValueError unless a size is a number of at least 1 or the name of a symbolic dimension."""
    is_number = isinstance(size, int) and not isinstance(size, bool) and size >= 1
    if not is_number and not (isinstance(size, str) and size.isidentifier()):
        raise ValueError(
            f"{name} = {size!r}, but it must be a whole number of at least 1 or the name of a symbolic dimension, such "
            'as "b"'
        )


def _check_platforms(platforms: Sequence[str]) -> None:
    """Raise ValueError unless programs can be exported for all of the platforms."""
    names = list(platforms) if isinstance(platforms, list | tuple) else []
    if not names or not set(names) <= set(_KNOWN_PLATFORMS) or len(set(names)) != len(names):
        raise ValueError(
            f"platforms = {platforms!r}, but it must be a list of some of {', '.join(_KNOWN_PLATFORMS)}, each at most "
            "once"
        )
