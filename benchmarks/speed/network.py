"""The measured network, as files that every contender reads."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.golden import recipe

if TYPE_CHECKING:
    # Importing spectra_jax imports JAX, whose memory would count as a peer's.
    from spectra_jax.model.config import SpectraConfig

NAMES = ("full", "tiny")


@dataclass(frozen=True)
class Network:
    """One network under the work directory: `pytorch` (safetensors and config.json) and `native`.

    `device` is `cpu` or `gpu`: what JAX computes on here, so every contender computes on it as well.
    """

    name: str
    work: Path
    device: str = "cpu"

    @property
    def folder(self) -> Path:
        return self.work / self.name

    @property
    def pytorch(self) -> Path:
        """A directory that both `spectra_jax.load` and the PyTorch contenders read."""
        return self.folder / "pytorch"

    @property
    def native(self) -> Path:
        return self.folder / "native"

    @property
    def config(self) -> SpectraConfig:
        from spectra_jax.checkpoints.config_file import read_config

        return read_config(recipe.GOLDEN / self.name / "config.json")

    def write(self) -> None:
        """Write what is missing. The full network is 1.3 GB in each format; its weights are drawn from a seed."""
        if not self.pytorch.exists():
            part = self._part(self.pytorch)
            shutil.copyfile(recipe.GOLDEN / self.name / "config.json", part / "config.json")
            if self.name == "tiny":
                shutil.copyfile(recipe.GOLDEN / "tiny" / "model.safetensors", part / "model.safetensors")
            else:
                recipe.write_full_checkpoint(part / "model.safetensors")
            part.rename(self.pytorch)
        if not self.native.exists():
            from spectra_jax.convert import convert

            part = self._part(self.native)
            part.rmdir()
            convert(self.pytorch, part)
            part.rename(self.native)

    def _part(self, path: Path) -> Path:
        """Where `path` is written until it is complete, so that an interrupted run leaves no incomplete file."""
        part = path.with_name(path.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        return part


def windows(batch: int, samples: int) -> np.ndarray:
    """The first `batch` of a fixed series of speech-like windows, (batch, samples) float32."""
    return _windows(range(100, 100 + batch), samples)


def calibration_windows(samples: int) -> np.ndarray:
    """Six windows (6, samples) float32 for calibrating 8-bit networks. None of them is timed or compared."""
    return _windows(range(10_000, 10_006), samples)


def _windows(seeds: Iterable[int], samples: int) -> np.ndarray:
    return np.stack([recipe.preprocess(recipe.waveform(seed, samples), samples) for seed in seeds])
