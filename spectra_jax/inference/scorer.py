"""Scoring: clips, windows or trials in, logits and results out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import jax
import numpy as np
from jaxtyping import Float

from spectra_jax import hub
from spectra_jax.audio.speech import require_detector
from spectra_jax.data.trial import MAX_CLIP_BYTES, Trial
from spectra_jax.errors import AudioError
from spectra_jax.inference.batching import Batch, group_windows
from spectra_jax.inference.compilation_cache import CompilationCache
from spectra_jax.inference.decoding import DecodedTrial, decode_windows, prepare
from spectra_jax.inference.detect import COMPLETE_RECORDING, DetectionSettings, build_detection
from spectra_jax.inference.detection import Detection
from spectra_jax.inference.engine import CertifyingEngine, Engine, build_engine, run
from spectra_jax.inference.identity import score_identity
from spectra_jax.inference.prefetch import prefetch
from spectra_jax.inference.recordings import Recording, trial_of
from spectra_jax.inference.results import Result
from spectra_jax.inference.thresholds import Threshold
from spectra_jax.inference.timing import StageTimer
from spectra_jax.inference.windows import FIRST_WINDOW, WindowPolicy
from spectra_jax.model.precision import Precision
from spectra_jax.model.spectra import POOLS, SpectraAASIST3

if TYPE_CHECKING:
    from spectra_jax.evaluation.metrics import Calibration


class ScoringProgress(NamedTuple):
    """How far `Scorer.score_trials` has come.

    Attributes:
      trials: scored or refused so far. A recording of which some windows are scored counts as their share of those that
        its header leads to expect, or not at all where its header does not state its length.
      windows: scored so far.
    """

    trials: float
    windows: int


class Scorer:
    """Scores speech clips: higher = more bona fide, that is, more likely genuine human speech.

    One shape is compiled, `(batch_size, num_samples)`, while the weights are read; a batch with fewer clips is padded,
    which changes no score beyond rounding. Each device holds all weights and scores an equal share of every batch. With
    `precision="float64"` the scorer runs in JAX's x64 mode and leaves the process's own mode as it is. For a CPU the
    network is compiled at LLVM's level 2 in float32, tf32 and float64, unless `XLA_FLAGS` has an
    `--xla_backend_optimization_level`.

    Args:
      model: what `spectra_jax.load` takes, or a loaded network.
      precision: float32, tf32, bfloat16, float16, int8 or float64; a loaded network keeps its own.
      batch_size: clips per call of the network, over all devices, at least 1; rounded up to a multiple of the number of
        devices. "auto" depends on the devices' memory: see `spectra_jax.inference.batch_size`.
      devices: of one kind, and of this process; all of `jax.local_devices()` otherwise.
      diagnostics: report each trial's smallest rank gap and its pool, in the results of `score_trials`.
      certify: score trials whose smallest rank gap is below the bound of `spectra_jax.model.rank_gap` again in
        float64, so that no score depends on device, batch size, compiler or neighbours by more than rounding. Float64
        weights take twice the memory of float32 ones, and are read when the first such trial is found.

    Raises:
      ValueError: an invalid argument; `certify` with a loaded network, whose weights may have been rounded.
    """

    def __init__(
        self,
        model: str | Path | SpectraAASIST3 = hub.PUBLISHED,
        *,
        precision: Precision | str = "float32",
        batch_size: int | Literal["auto"] = 8,
        devices: Sequence[jax.Device] | None = None,
        diagnostics: bool = False,
        certify: bool = False,
    ):
        if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
            raise ValueError(f'batch_size = {batch_size!r}, but it must be at least 1, or "auto"')
        if devices is not None and len(devices) == 0:
            raise ValueError("devices is empty; leave it out to score on all of this process's devices")
        self.precision = model.precision if isinstance(model, SpectraAASIST3) else Precision.of(precision)
        if certify and isinstance(model, SpectraAASIST3):
            raise ValueError("certify needs the checkpoint, not a loaded network, to read its weights in float64")
        if certify and self.precision.name not in ("float32", "float64"):
            raise ValueError(
                f"certify takes float32, not {self.precision.name}: in a coarser type nearly every trial has a near tie"
            )
        self.source = model
        # In float64 there is nothing to certify.
        self._certify = certify and self.precision.name != "float64"
        self._diagnostics = diagnostics or certify
        self._requested_batch_size = batch_size
        self._devices = devices
        self._loading = Lock()
        self._engine: Engine | None = None

    def load(self, num_clips: int | None = None, cache: CompilationCache | None = None) -> None:
        """Compile the network, read the weights and put them on the devices; further calls do nothing.

        Scoring does this automatically.

        Args:
          num_clips: how many there are to score, where that is known: no larger batch is compiled for them.
          cache: from `compilation_cache.use`; without one the network is compiled anew.
        """
        self._loaded(num_clips, cache)

    def unload(self) -> None:
        """Release the weights and the compiled network. A later call loads again."""
        self._engine = None

    @property
    def engine(self) -> Engine:
        """What runs the network, loaded if it was not. Another `spectra_jax.inference.engine.Engine` can be set."""
        return self._loaded()

    @engine.setter
    def engine(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def model(self) -> SpectraAASIST3:
        """The network, loaded if it was not."""
        return self.engine.model

    @property
    def batch_size(self) -> int:
        """Clips per call of the network, over all devices. Loads the network if it was not."""
        return self.engine.batch_size

    def identity(self) -> dict[str, Any]:
        """What scores depend on besides the clips, as plain values: weights, architecture, precision, batch size."""
        return score_identity(
            self.source, self.precision, self.batch_size, diagnostics=self._diagnostics, certify=self._certify
        )

    def _loaded(self, num_clips: int | None = None, cache: CompilationCache | None = None) -> Engine:
        # One thread loads, and others that score at the same time wait for it.
        with self._loading:
            if self._engine is None:
                self._engine = self._build_engine(num_clips, cache)
            return self._engine

    def _build_engine(self, num_clips: int | None, cache: CompilationCache | None) -> Engine:
        build = partial(build_engine, self.source, devices=self._devices, cache=cache)
        engine = build(
            self.precision,
            batch_size=self._requested_batch_size,
            rank_gaps=self._diagnostics,
            num_clips=num_clips,
        )
        if not self._certify:
            return engine
        return CertifyingEngine(engine, partial(build, Precision.of("float64"), batch_size=1, rank_gaps=True))

    def prepare(self, clip: np.ndarray, sample_rate: int) -> Float[np.ndarray, " samples"]:
        """The network's window (num_samples,) of a clip as decoded; see `spectra_jax.audio.prepare`."""
        return prepare(clip, sample_rate, self.model.config)

    def logits(self, windows: Float[np.ndarray, "clips samples"]) -> Float[np.ndarray, "clips 2"]:
        """Logits (n, 2), spoof and bona fide, of any number of windows (n, num_samples).

        Raises:
          ValueError: windows of another shape.
        """
        num_samples = self.model.config.num_samples
        if windows.ndim != 2 or windows.shape[1] != num_samples:
            raise ValueError(f"expected windows of shape (n, {num_samples}), found {windows.shape}")
        return self._outputs(windows)[:, :2]

    def diagnosed(self, windows: Float[np.ndarray, "clips samples"]) -> Float[np.ndarray, "clips outputs"]:
        """Logits and each pool's smallest rank gap, (n, 2 + 10), of windows: see `spectra_jax.split_with_rank_gaps`.

        Raises:
          ValueError: the scorer has neither `diagnostics` nor `certify`.
        """
        if not self._diagnostics:
            raise ValueError("rank gaps need a Scorer with diagnostics=True")
        return self._outputs(windows)

    def _outputs(self, windows: np.ndarray) -> np.ndarray:
        """Outputs (n, 2), with diagnostics (n, 2 + 10), of any number of windows."""
        none = np.empty((0, 2 + len(POOLS) if self._diagnostics else 2), self.precision.dtype)
        return np.concatenate([none, *(scores.outputs for scores in run(self.engine, windows))])

    @overload
    def __call__(
        self,
        recording: list[Recording],
        sample_rate: int | Sequence[int] | None = None,
        *,
        window_policy: WindowPolicy = ...,
        threshold: float | str | Threshold | None = ...,
        calibration: Calibration | str | Path | None = ...,
        spoof_prior: float = ...,
        max_bytes: int = ...,
    ) -> list[Detection]: ...

    @overload
    def __call__(
        self,
        recording: Recording,
        sample_rate: int | None = None,
        *,
        window_policy: WindowPolicy = ...,
        threshold: float | str | Threshold | None = ...,
        calibration: Calibration | str | Path | None = ...,
        spoof_prior: float = ...,
        max_bytes: int = ...,
    ) -> Detection: ...

    def __call__(
        self,
        recording: Recording | list[Recording],
        sample_rate: int | Sequence[int] | None = None,
        *,
        window_policy: WindowPolicy = COMPLETE_RECORDING,
        threshold: float | str | Threshold | None = None,
        calibration: Calibration | str | Path | None = None,
        spoof_prior: float = 0.5,
        max_bytes: int = MAX_CLIP_BYTES,
    ) -> Detection | list[Detection]:
        """Score all of a recording, and find where it scores below a threshold.

            scorer("call.m4a").score
            scorer(samples, 16000, threshold=-1.2).segments
            scorer(["a.wav", "https://example.org/b.mp3"])

        Args:
          recording: a path, a URL, the bytes of a file, an open file, or samples; or a list of them.
          sample_rate: of samples, in Hz; of a list of samples, one for each or one for all.
          window_policy: which windows are scored; `spectra_jax.inference.windows.FIRST_WINDOW` for the convention of
            score files.
          threshold: a score, or the name of one in `spectra_jax.inference.thresholds.THRESHOLDS`; None for no label.
          calibration: or its file, as `spectra-jax calibrate` writes it.
          spoof_prior: the prior probability of a spoof, for P(spoof).
          max_bytes: the largest file that is read from a URL or an open file. A URL may take ten minutes.

        Returns:
          A detection, or one for each recording of a list. In a list, a recording that cannot be scored has an `error`.

        Raises:
          AudioError: a single recording cannot be scored.
          InputError: an unknown threshold, or a calibration that cannot be read; `window_policy` needs the extra
            `inspect` to skip what is not speech.
          TypeError: not a recording.
          ValueError: samples without a sample rate, or a file with one; a prior that is not between 0 and 1.
        """
        settings = self.detection_settings(window_policy, threshold, calibration, spoof_prior)
        recordings: list[Recording] = recording if isinstance(recording, list) else [recording]
        rates = list(sample_rate) if isinstance(sample_rate, Sequence) else [sample_rate] * len(recordings)
        if len(rates) != len(recordings):
            raise ValueError(f"{len(recordings)} recordings, but {len(rates)} sample rates")
        trials = [trial_of(one, rate, max_bytes=max_bytes) for one, rate in zip(recordings, rates, strict=True)]
        found = list(self.detect(trials, settings))
        if isinstance(recording, list):
            return found
        if found[0].error is not None:
            raise AudioError(found[0].error)
        return found[0]

    def detection_settings(
        self,
        window_policy: WindowPolicy = COMPLETE_RECORDING,
        threshold: float | str | Threshold | None = None,
        calibration: Calibration | str | Path | None = None,
        spoof_prior: float = 0.5,
    ) -> DetectionSettings:
        """The settings of `detect`, from arguments as `__call__` takes them; raises the same errors."""
        model = None if isinstance(self.source, SpectraAASIST3) else str(self.source)
        return DetectionSettings.of(window_policy, threshold, calibration, spoof_prior, model)

    def detect(
        self,
        trials: Iterable[Trial],
        settings: DetectionSettings,
        *,
        on_progress: Callable[[ScoringProgress], None] | None = None,
    ) -> Generator[Detection]:
        """A detection for each trial, in order; one with an `error` for a trial that cannot be scored.

        Memory does not grow with a recording's length, but for the results of its windows.

        Args:
          trials: what to score; see `spectra_jax.inference.recordings.trial_of` and `spectra_jax.data.sources.collect`.
          settings: see `detection_settings`.
          on_progress: as for `score_trials`.
        """
        clips = self._score_clips(trials, settings.window_policy, on_progress=on_progress, detailed=True)
        with closing(clips):
            for clip in clips:
                yield build_detection(clip, self.engine.model.config, settings)

    def score_batch(self, audios: Sequence[np.ndarray], sample_rates: Sequence[int]) -> list[float]:
        """Scores of clips, as decoded: 1-D or (samples, channels), float or integer PCM, any sample rate.

        Raises:
          AudioError: a clip is empty or holds NaN or infinite samples, or its logits are not finite. Its index in the
            batch, counted from 0, is named.
          ValueError: not one sample rate for each clip.
        """
        if len(audios) != len(sample_rates):
            raise ValueError(f"{len(audios)} clips, but {len(sample_rates)} sample rates")
        trials = [
            Trial(str(index), f"clip {index}", samples=(clip, rate))
            for index, (clip, rate) in enumerate(zip(audios, sample_rates, strict=True))
        ]
        scores = []
        for index, result in enumerate(self.score_trials(trials)):
            if result.score is None:
                reason = (result.error or "").removeprefix(f"clip {index}: ")
                raise AudioError(f"clip {index} of the batch: {reason}")
            scores.append(result.score)
        return scores

    def score_trials(
        self,
        trials: Iterable[Trial],
        *,
        window_policy: WindowPolicy = FIRST_WINDOW,
        flush_every: int | None = None,
        timer: StageTimer | None = None,
        on_progress: Callable[[ScoringProgress], None] | None = None,
    ) -> Generator[Result]:
        """Decode, score and yield each trial, in order. A clip that cannot be scored yields its reason instead.

        Threads decode ahead while the devices compute. At most two batches are in flight, and at most one more (or,
        where batches are small, two clips a thread) is decoded; no more trials than that are taken before the first
        results are yielded. Where every window is scored, a clip is decoded as its windows are scored, so that memory
        does not grow with its length. Closing the iterator stops the threads, each after its present clip or its next
        windows.

        Args:
          trials: what to score.
          window_policy: which windows of a clip are scored, and how their scores are combined.
          flush_every: no batch has clips from both sides of a multiple of so many trials: what comes after it does not
            change the scores of what was before, not even by rounding.
          timer: adds up the seconds that were spent waiting, by stage.
          on_progress: called after each batch, before its results are yielded: while one long recording is scored, many
            times.
        """
        if window_policy.needs_detector:
            require_detector(f"aggregate {window_policy.aggregate}" if not window_policy.speech_only else "speech_only")
        clips = self._score_clips(trials, window_policy, flush_every=flush_every, timer=timer, on_progress=on_progress)
        with closing(clips):
            for clip in clips:
                yield clip.result(window_policy)

    def _score_clips(
        self,
        trials: Iterable[Trial],
        window_policy: WindowPolicy,
        *,
        flush_every: int | None = None,
        timer: StageTimer | None = None,
        on_progress: Callable[[ScoringProgress], None] | None = None,
        detailed: bool = False,
    ) -> Generator[DecodedTrial]:
        """Decode and score trials, in order; see `score_trials` and `decode_windows`."""
        engine = self.engine
        timer = StageTimer() if timer is None else timer
        listed = timer.timed("listing", trials)
        num_trials = num_windows = 0
        decoded = decode_windows(
            listed, engine.model.config, window_policy, batch_size=engine.batch_size, detailed=detailed
        )
        with closing(decoded):
            windows = timer.timed("decoding", decoded, excluding="listing")
            groups = group_windows(windows, engine.batch_size, flush_every)
            for batch in prefetch((Batch.dispatch(engine, group) for group in groups), 1):
                with timer.measure("device"):
                    batch.collect(engine)
                finished = batch.finished_clips
                num_trials += len(finished)
                num_windows += len(batch.samples)
                if on_progress is not None:
                    last = batch.windows[-1]
                    share = 0.0 if last.last else last.clip.scored_share
                    on_progress(ScoringProgress(num_trials + share, num_windows))
                yield from finished
