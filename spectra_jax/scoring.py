"""Scoring: windows in, logits out, in compiled batches. The only room that knows of devices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import jax
import numpy as np

from spectra_jax import audio, hub
from spectra_jax.model.spectra import SpectraAASIST3, split
from spectra_jax.precision import Precision
from spectra_jax.pretrained import load
from spectra_jax.results import Result
from spectra_jax.trials import Trial


class Scorer:
    """Scores speech clips: higher = more bona fide, that is, more likely a person's own speech.

    One shape is compiled, `(batch_size, num_samples)`, at the first batch; a batch with fewer clips is padded, which
    changes no score beyond rounding. With `precision="float64"` the scorer runs in JAX's x64 mode and leaves the
    process's own mode as it is.

    Args:
      model: what `spectra_jax.load` takes, or a network that is loaded already.
      precision: float32, tf32, bfloat16 or float64; a loaded network keeps its own.
      batch_size: clips per call of the network, at least 1.
    """

    def __init__(
        self,
        model: str | Path | SpectraAASIST3 = hub.PUBLISHED,
        *,
        precision: Precision | str = "float32",
        batch_size: int = 8,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size = {batch_size}, but it must be at least 1")
        self.precision = model.precision if isinstance(model, SpectraAASIST3) else Precision.of(precision)
        self.batch_size = batch_size
        self._source = model
        self._loading = Lock()
        self._model: SpectraAASIST3 | None = None
        self._params: Any = None
        self._forward: Any = None

    def load(self) -> None:
        """Read the weights and put them on the device; further calls do nothing. Scoring does it by itself."""
        # One thread loads, and others that score at the same time wait for it.
        with self._loading, self._x64():
            if self._model is not None:
                return
            source = self._source
            model = source if isinstance(source, SpectraAASIST3) else load(source, self.precision)
            forward, self._params = split(model)
            self._forward = jax.jit(forward)
            # Last, since it says that the rest is there.
            self._model = model

    def unload(self) -> None:
        """Let go of the weights and the compiled network. A later call loads again."""
        self._model = self._params = self._forward = None

    @property
    def model(self) -> SpectraAASIST3:
        """The network, loaded if it was not."""
        self.load()
        assert self._model is not None
        return self._model

    def _x64(self) -> AbstractContextManager[None]:
        return jax.enable_x64(self.precision.name == "float64" or jax.config.jax_enable_x64)  # type: ignore[attr-defined]

    def prepare(self, clip: np.ndarray, sample_rate: int) -> np.ndarray:
        """The network's window (num_samples,) of a clip as decoded; see `spectra_jax.audio.prepare`."""
        config = self.model.config
        return audio.prepare(
            clip,
            sample_rate,
            num_samples=config.num_samples,
            preemphasis=config.preemphasis,
            target_rate=config.sample_rate,
        )

    def logits(self, windows: np.ndarray) -> np.ndarray:
        """Logits (n, 2), spoof and bona fide, of any number of windows (n, num_samples)."""
        self.load()
        batches = [self._batch(windows[at : at + self.batch_size]) for at in range(0, len(windows), self.batch_size)]
        return np.concatenate([np.empty((0, 2), self.precision.dtype), *batches])

    def _batch(self, windows: np.ndarray) -> np.ndarray:
        missing = self.batch_size - len(windows)
        # The last clip again, since it is known to be finite and no row of the batch sees another.
        padded = np.concatenate([windows, np.repeat(windows[-1:], missing, axis=0)]) if missing else windows
        with self._x64():
            return np.asarray(self._forward(self._params, padded))[: len(windows)]

    def score_batch(self, audios: Sequence[np.ndarray], sample_rates: Sequence[int]) -> list[float]:
        """Scores of clips, as decoded: 1-D or (samples, channels), float or integer PCM, any sample rate.

        Raises:
          AudioError: a clip is empty or holds NaN or infinite samples, or the network's answer to it is not finite.
            Its place in the batch, counted from 0, is named.
          ValueError: not one sample rate for each clip.
        """
        if len(audios) != len(sample_rates):
            raise ValueError(f"{len(audios)} clips, but {len(sample_rates)} sample rates")
        windows = []
        for index, (clip, rate) in enumerate(zip(audios, sample_rates, strict=True)):
            try:
                windows.append(self.prepare(clip, rate))
            except audio.AudioError as error:
                raise audio.AudioError(f"clip {index} of the batch: {error}") from error
        scores = []
        for index, logits in enumerate(self.logits(np.stack(windows)) if windows else ()):
            if not np.all(np.isfinite(logits)):
                raise audio.AudioError(f"clip {index} of the batch: {_no_answer(logits)}")
            scores.append(float(logits[1]))
        return scores

    def score_trials(self, trials: Iterable[Trial]) -> Iterator[Result]:
        """Decode, score and yield each trial, in order. A clip that cannot be scored yields its reason instead."""
        heard = map(self._hear, trials)
        while batch := list(islice(heard, self.batch_size)):
            windows = [clip.window for clip in batch if clip.window is not None]
            scored = iter(self.logits(np.stack(windows)) if windows else ())
            for clip in batch:
                yield clip.refused if clip.refused is not None else clip.result(next(scored))

    def _hear(self, trial: Trial) -> _Heard:
        seconds = None
        try:
            clip, rate = audio.read(trial.path)
            seconds = len(clip) / rate
            return _Heard(trial, seconds, window=self.prepare(clip, rate))
        except audio.AudioError as error:
            return _Heard(trial, seconds, refused=Result(trial, None, seconds, error=str(error)))


def _no_answer(logits: np.ndarray) -> str:
    return f"the network's answer is not finite: logits {logits.tolist()}"


@dataclass
class _Heard:
    """A trial as decoded: the window to score, or the result that refuses it."""

    trial: Trial
    seconds: float | None
    window: np.ndarray | None = None
    refused: Result | None = None

    def result(self, logits: np.ndarray) -> Result:
        if not np.all(np.isfinite(logits)):
            return Result(self.trial, None, self.seconds, error=_no_answer(logits))
        assert self.window is not None
        flags = ("silent",) if audio.is_silent(self.window) else ()
        return Result(self.trial, (float(logits[0]), float(logits[1])), self.seconds, flags)
