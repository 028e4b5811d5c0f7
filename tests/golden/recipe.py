"""The seeded recipe behind the golden data: checkpoint tensors, waveforms and windows from a few integers.

The recipe is a definition. Every function here gives the same bits wherever it runs, so its order of random draws and
of floating-point operations must not change. Needs numpy only.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent

SAMPLE_RATE = 16_000
WINDOW_SAMPLES = 64_600

Shape = tuple[int, ...]

f32 = np.float32

# Knots of the degree-4 splines with 16 intervals on [-1, 1]: every 0.125 from -1.5 to 1.5.
KNOTS = np.arange(-4, 21, dtype=np.float32) * f32(0.125) - f32(1)


def _by_inputs(n: np.ndarray, inputs: int) -> np.ndarray:
    """Scale a kernel so that its outputs have about the variance of its inputs."""
    n /= f32(np.sqrt(inputs))
    return n


def _norm_or_kernel(n: np.ndarray, shape: Shape, hidden_size: int) -> np.ndarray:
    return 1 + f32(0.1) * n if len(shape) == 1 else _by_inputs(n, math.prod(shape[1:]))


def _base_weight(n: np.ndarray, shape: Shape, hidden_size: int) -> np.ndarray:
    n *= f32(0.6)
    return _by_inputs(n, shape[1])


def _weight_norm_gain(n: np.ndarray, shape: Shape, hidden_size: int) -> np.ndarray:
    return f32(0.5 * np.sqrt(hidden_size / 128)) * (1 + f32(0.1) * n)


# How a standard normal draw becomes a tensor, by its name: the first pattern that matches. A rule receives the draw,
# which it may overwrite, the shape of the tensor and the hidden size of the encoder.
RULES: tuple[tuple[str, Callable[[np.ndarray, Shape, int], np.ndarray]], ...] = (
    (r"running_mean$", lambda n, shape, hidden: f32(0.1) * n),
    (r"running_var$", lambda n, shape, hidden: f32(1) + np.abs(n)),
    (r"weight\.original0$", _weight_norm_gain),
    (r"weight\.original1$", lambda n, shape, hidden: n),
    (r"base_activation\.weight$", lambda n, shape, hidden: f32(0.25) + f32(0.05) * n),
    (r"spline_weight$", lambda n, shape, hidden: f32(0.4) * n),
    (r"spline_scaler$", lambda n, shape, hidden: _by_inputs(n, shape[1])),
    (r"base_weight$", _base_weight),
    (r"att_weight(11|12|22|M)?$", lambda n, shape, hidden: _by_inputs(n, shape[0])),
    (r"(pos_S|pos_T|master)$", lambda n, shape, hidden: f32(0.5) * n),
    (r"bias$", lambda n, shape, hidden: f32(0.05) * n),
    (r"weight$", _norm_or_kernel),
)


def seeded_tensor(name: str, shape: Shape, seed: int, hidden_size: int) -> np.ndarray:
    """The tensor `name` of the checkpoint with this seed: float32, or an int64 scalar for a batch counter.

    hidden_size is the encoder's; the gain of the positional convolution depends on it. Raises KeyError for a name
    that no checkpoint has.
    """
    if name.endswith("num_batches_tracked"):
        return np.array(7, np.int64)
    if name.endswith(".grid"):
        return np.tile(KNOTS, (shape[0], 1))
    # Seeded by name, so that a tensor does not depend on the others or on their order.
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    normal = generator.standard_normal(shape, dtype=np.float32)
    for pattern, rule in RULES:
        if re.search(pattern, name):
            return rule(normal, shape, hidden_size)
    raise KeyError(name)


def seeded_checkpoint(shapes: Mapping[str, Shape], seed: int, hidden_size: int) -> dict[str, np.ndarray]:
    """All tensors named in `shapes`, in that order, for the checkpoint with this seed."""
    # In threads, because numpy draws without holding the interpreter's lock and the full size has 319 M draws.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        tensors = pool.map(lambda name: seeded_tensor(name, shapes[name], seed, hidden_size), shapes)
        return dict(zip(shapes, tensors, strict=True))


def published_shapes() -> dict[str, Shape]:
    """Name and shape of all tensors of the published checkpoint."""
    with (GOLDEN / "checkpoint_tensors.tsv").open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {row["name"]: tuple(map(int, filter(None, row["shape"].split(",")))) for row in rows}


def write_full_checkpoint(path: Path) -> None:
    """The full golden network as a PyTorch file of the published names and sizes: 1.28 GB."""
    # Imported here, so that the rest of this module needs numpy only.
    from spectra_jax.files.tensor_file import TensorSpec, write_tensors

    tensors = seeded_checkpoint(published_shapes(), seed=3, hidden_size=1024)
    with path.open("wb") as file:
        write_tensors(file, {name: TensorSpec.of(array) for name, array in tensors.items()}, tensors.items())


def tiny_shapes() -> dict[str, Shape]:
    """Name and shape of all tensors of the tiny golden network, read from its file's header alone."""
    with (GOLDEN / "tiny" / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}


def waveform(seed: int, samples: int) -> np.ndarray:
    """A speech-like int16 clip of `samples` samples at 16 kHz: gliding harmonics, syllables and noise, (samples,)."""
    random = np.random.default_rng([seed, samples])
    uniform = random.random
    t = np.arange(samples) / SAMPLE_RATE
    # The draws happen from left to right in every line.
    pitch = 110 + 60 * uniform() + 30 * np.sin(2 * np.pi * (1 + 2 * uniform()) * t + uniform() * 6)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    voice = sum(np.sin(k * phase + uniform() * 6) / k ** (0.7 + 0.6 * uniform()) for k in range(1, 18))
    envelope = np.clip(np.sin(2 * np.pi * (2 + 2 * uniform()) * t + uniform() * 6), 0, None) ** 0.5
    # Breath noise fills the pauses; a faint hiss lies under everything.
    clip = voice * envelope + 0.15 * random.standard_normal(samples) * (1 - envelope)
    clip = clip + 0.01 * random.standard_normal(samples)
    return np.round(clip / np.abs(clip).max() * (0.2 + 0.6 * uniform()) * 32767).astype(np.int16)


def preprocess(clip: np.ndarray, samples: int = WINDOW_SAMPLES) -> np.ndarray:
    """The network's window of an int16 clip: pre-emphasis over the whole clip, then tiled or cut, (samples,) float32.

    The product is rounded to float32 before the subtraction; numpy never fuses the two.
    """
    x = clip.astype(np.float32) / f32(32768)
    y = x.copy()
    y[1:] -= f32(0.97) * x[:-1]
    if y.size < samples:
        y = np.tile(y, samples // y.size + 1)
    return y[:samples]
