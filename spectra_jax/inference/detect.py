"""From the scores of a recording's windows to a `Detection`, and its warnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from spectra_jax.audio.speech import INSTALL, require_detector
from spectra_jax.errors import InputError
from spectra_jax.inference.decoding import DecodedTrial
from spectra_jax.inference.detection import Detection, Window, find_segments
from spectra_jax.inference.results import CERTIFIED, Result
from spectra_jax.inference.thresholds import Threshold
from spectra_jax.inference.windows import WindowPolicy
from spectra_jax.messages import count
from spectra_jax.model.config import SpectraConfig

if TYPE_CHECKING:
    from spectra_jax.evaluation.metrics import Calibration

DEFAULT_HOP = 0.5
"""Seconds between windows, unless others are stated."""
COMPLETE_RECORDING = WindowPolicy(DEFAULT_HOP, "speech-mean")
"""All of a recording: a window every half second, and the mean score of those that hold speech."""
SHORT_SECONDS = 1.0
"""A recording shorter than this has a warning: it is repeated several times to fill a window."""


@dataclass(frozen=True)
class DetectionSettings:
    """How recordings become detections.

    Attributes:
      window_policy: which windows are scored, and how their scores are combined.
      threshold: below which a score is labelled `spoof`; None for no label.
      calibration: for log-likelihood ratios and P(spoof); None for neither.
      spoof_prior: the prior probability of a spoof.
      model: name of the network, with which the threshold's is compared; None where it has none.

    Raises:
      InputError: a prior that is not between 0 and 1.
    """

    window_policy: WindowPolicy = COMPLETE_RECORDING
    threshold: Threshold | None = None
    calibration: Calibration | None = None
    spoof_prior: float = 0.5
    model: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.spoof_prior < 1:
            raise InputError(f"a spoof prior of {self.spoof_prior}, but it must be between 0 and 1")

    @classmethod
    def of(
        cls,
        window_policy: WindowPolicy = COMPLETE_RECORDING,
        threshold: float | str | Threshold | None = None,
        calibration: Calibration | str | Path | None = None,
        spoof_prior: float = 0.5,
        model: str | None = None,
    ) -> Self:
        """Settings from arguments as a caller has them.

        Args:
          window_policy, spoof_prior, model: see above.
          threshold: or its value, or the name of one in circulation.
          calibration: or its file.

        Raises:
          InputError: an unknown threshold, a calibration that cannot be read, a prior that is not between 0 and 1; or
            `window_policy` starts at the first speech, and the extra `inspect` is not installed.
        """
        if window_policy.speech_only:
            require_detector("to start at the first speech")
        if isinstance(calibration, str | Path):
            from spectra_jax.evaluation.calibration_file import read_calibration

            calibration = read_calibration(Path(calibration))
        stated = None if threshold is None else Threshold.of(threshold)
        return cls(window_policy, stated, calibration, spoof_prior, model)


def build_detection(clip: DecodedTrial, config: SpectraConfig, settings: DetectionSettings) -> Detection:
    """The detection of a clip of which all windows are scored.

    Args:
      clip: decoded and scored, or refused.
      config: of the network.
      settings: see `DetectionSettings`.
    """
    policy, result = settings.window_policy, clip.result(settings.window_policy)
    if result.error is not None or result.logits is None:
        return Detection(
            str(result.trial.path),
            None,
            result.seconds,
            threshold=settings.threshold,
            sha256=clip.file_sha256,
            samples_sha256=result.sha256,
            error=result.error,
        )
    assert clip.seconds is not None
    windows = tuple(_windows(clip, config.sample_rate))
    threshold, calibration = settings.threshold, settings.calibration
    score = result.logits[1]
    return Detection(
        str(result.trial.path),
        result.logits,
        clip.seconds,
        heard_seconds=_covered_seconds(windows),
        # The detector's last frame may end after the recording.
        speech_seconds=None if clip.speech_seconds is None else min(clip.speech_seconds, clip.seconds),
        windows=windows,
        segments=() if threshold is None else find_segments(windows, threshold.value),
        threshold=threshold,
        llr=None if calibration is None else float(calibration.log_likelihood_ratio([score])[0]),
        p_spoof=None if calibration is None else float(calibration.spoof_probability([score], settings.spoof_prior)[0]),
        spoof_prior=None if calibration is None else settings.spoof_prior,
        hop=policy.hop,
        window_seconds=config.num_samples / config.sample_rate,
        aggregate=policy.aggregate,
        min_speech=None if clip.detector is None else policy.min_speech,
        detector=clip.detector,
        sha256=clip.file_sha256,
        samples_sha256=clip.sha256,
        warnings=tuple(_warnings(clip, result, windows, config, settings)),
    )


def _windows(clip: DecodedTrial, rate: int) -> Iterator[Window]:
    assert clip.seconds is not None
    none_counts = not any(span.counts for span in clip.spans)
    for span, scores in zip(clip.spans, clip.scores, strict=True):
        flags = {
            "partial": span.is_partial,
            "silent": span.is_silent,
            "little speech": not span.counts and not span.is_silent and not span.is_short,
            "short": span.is_short,
            CERTIFIED: scores.certified,
        }
        yield Window(
            span.start / rate,
            # Resampling may add a part of a sample.
            min(span.end / rate, clip.seconds),
            (float(scores.logits[0]), float(scores.logits[1])),
            span.speech_share,
            span.counts or none_counts,
            tuple(flag for flag, holds in flags.items() if holds),
        )


def _covered_seconds(windows: Sequence[Window]) -> float:
    """Seconds that lie in at least one window."""
    covered = last_end = 0.0
    for window in windows:
        covered += max(window.end - max(window.start, last_end), 0.0)
        last_end = max(last_end, window.end)
    return covered


def _warnings(
    clip: DecodedTrial,
    result: Result,
    windows: Sequence[Window],
    config: SpectraConfig,
    settings: DetectionSettings,
) -> Iterator[str]:
    assert clip.seconds is not None
    policy = settings.window_policy
    window_seconds = config.num_samples / config.sample_rate
    heard = _covered_seconds(windows)
    if clip.seconds < SHORT_SECONDS:
        times = -(-config.num_samples // max(clip.spans[0].end - clip.spans[0].start, 1))
        yield f"{clip.seconds:.2f} s is repeated {times:,} times to fill a window of {window_seconds:.2f} s"
    if policy.hop is None and heard < clip.seconds:
        yield f"heard {heard:.2f} of {clip.seconds:.2f} s: only the first window was scored"
    elif heard < clip.seconds - 1 / config.sample_rate:
        yield f"heard {heard:.2f} of {clip.seconds:.2f} s"
    yield from _warnings_of_speech(clip, result, windows, policy)
    threshold = settings.threshold
    if threshold is not None and threshold.model is not None:
        yield f"the threshold {threshold.value} is {threshold.source}"
        if settings.model is not None and settings.model.partition("@")[0] != threshold.model:
            yield f"the threshold was published for {threshold.model}; the scores are those of {settings.model}"
    if settings.calibration is not None and policy.aggregate != "first" and len(windows) > 1:
        yield "the calibration was fitted to scores of first windows, unless you fitted it to this aggregate"


def _warnings_of_speech(
    clip: DecodedTrial, result: Result, windows: Sequence[Window], policy: WindowPolicy
) -> Iterator[str]:
    if "silent" in result.flags:
        yield "digital silence: every sample is zero, and the score says nothing"
        return
    if clip.detector is None:
        if policy.hop is not None:
            yield f"speech was not measured, so that all windows count: {INSTALL}"
        return
    if not clip.speech_seconds:
        yield f"{clip.detector} found no speech: noise, music or tones have scores that say nothing"
    elif not any(span.counts for span in clip.spans):
        yield f"no window is {policy.min_speech:.0%} speech, so that all count; {clip.speech_seconds:.2f} s are speech"
    elif skipped := sum(not window.counts for window in windows):
        yield f"{skipped:,} of {count(len(windows), 'window')} do not count: too little speech"
