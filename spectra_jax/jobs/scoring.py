"""Scoring trials: as results for a table, to a score file, or into a run's folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from spectra_jax.data.trial import Trial
from spectra_jax.inference import results
from spectra_jax.inference.results import CERTIFIED, Result
from spectra_jax.inference.scorer import ScoringProgress
from spectra_jax.inference.windows import FIRST_WINDOW, WindowPolicy

if TYPE_CHECKING:
    from spectra_jax.evaluation.metrics import Calibration
    from spectra_jax.jobs.run import BulkRun, Part, TrialScorer


@dataclass
class ScoringSummary:
    """Counts of scored, skipped and certified trials, updated as results are yielded.

    Attributes:
      trials: how many results there were.
      skipped: how many trials could not be scored.
      certified: how many were scored again in float64.
      notable: the results that were skipped, or are flagged as anything but certified, in order.
      seconds: how many scored trials there are of each length.
    """

    trials: int = 0
    skipped: int = 0
    certified: int = 0
    notable: list[Result] = field(default_factory=list)
    seconds: Counter[float] = field(default_factory=Counter)

    @property
    def scored(self) -> int:
        """How many trials have a score."""
        return self.trials - self.skipped

    def longer_than(self, seconds: float) -> list[float]:
        """The lengths of the scored trials that are longer, in seconds."""
        return [length for length in self.seconds.elements() if length > seconds]

    def count(self, found: Iterable[Result]) -> Iterator[Result]:
        """Yield the same results, and count them."""
        for result in found:
            self.trials += 1
            self.skipped += result.error is not None
            self.certified += CERTIFIED in result.flags
            if result.error is None and result.seconds is not None:
                self.seconds[result.seconds] += 1
            if result.error is not None or set(result.flags) - {CERTIFIED}:
                self.notable.append(result)
            yield result


@dataclass(frozen=True)
class Calibrator:
    """A calibration, and the prior probability of a spoof at which P(spoof) is stated."""

    calibration: Calibration
    spoof_prior: float = 0.5

    def __call__(self, result: Result) -> Result:
        """Add the log-likelihood ratio and P(spoof) to a result; a skipped trial stays as it is."""
        if result.score is None:
            return result
        return replace(
            result,
            log_likelihood_ratio=float(self.calibration.log_likelihood_ratio([result.score])[0]),
            spoof_probability=float(self.calibration.spoof_probability([result.score], self.spoof_prior)[0]),
        )


def score_trials(
    trials: Iterable[Trial],
    scorer: TrialScorer,
    *,
    window_policy: WindowPolicy = FIRST_WINDOW,
    calibrator: Calibrator | None = None,
    on_progress: Callable[[ScoringProgress], None] | None = None,
) -> Iterator[Result]:
    """Score trials in order, calibrated where there is a calibrator.

    Args:
      trials: what to score.
      scorer: scores them.
      window_policy: see `Scorer.score_trials`.
      calibrator: adds log-likelihood ratios and P(spoof).
      on_progress: called after each batch.
    """
    found = scorer.score_trials(
        trials, window_policy=window_policy, flush_every=None, timer=None, on_progress=on_progress
    )
    return found if calibrator is None else map(calibrator, found)


def score_to_file(
    trials: Iterable[Trial],
    scorer: TrialScorer,
    output: Path,
    *,
    window_policy: WindowPolicy = FIRST_WINDOW,
    calibrator: Calibrator | None = None,
    escape_ids: bool = False,
    on_progress: Callable[[ScoringProgress], None] | None = None,
) -> ScoringSummary:
    """Score trials to a file, which is written atomically; see `score_trials`.

    Args:
      trials, scorer, window_policy, calibrator, on_progress: see `score_trials`.
      output: .txt, .csv or .jsonl; see `spectra_jax.inference.results`.
      escape_ids: see `spectra_jax.inference.results.write`.

    Raises:
      InputError: an unknown extension, or an id that a .txt cannot hold.
      OSError: the file cannot be written.
    """
    summary = ScoringSummary()
    found = score_trials(trials, scorer, window_policy=window_policy, calibrator=calibrator, on_progress=on_progress)
    results.write(summary.count(found), output, escape_ids=escape_ids)
    return summary


@dataclass(frozen=True)
class RunSummary:
    """The state of a run after this process scored its parts.

    Attributes:
      missing: parts that other processes have not completed. While there are any, there is no score file.
      scored, skipped: trials of all parts, or, while parts are missing, of the parts that this process has just scored.
    """

    missing: int
    scored: int
    skipped: int


class PartScorer(Protocol):
    """A cluster that scores the missing parts of a run, see `spectra_jax.jobs.ray.Cluster`."""

    def score_parts(self, run: BulkRun) -> Iterator[Part]: ...


def score_to_run(
    run: BulkRun, cluster: PartScorer | None = None, *, on_part: Callable[[Part], None] | None = None
) -> RunSummary:
    """Score the missing parts of a run, and write its score file once no part is missing.

    Args:
      run: new, or resumed.
      cluster: scores the parts; None for this process.
      on_part: called with each part after it was written.

    Raises:
      SkipLimitError: more trials were skipped than the run allows.
      StoppedError: the cluster failed.
      OSError: a part or the score file cannot be written.
    """
    scored = skipped = 0
    for part in run if cluster is None else run.limit_skips(cluster.score_parts(run)):
        scored += part.trials - part.skipped
        skipped += part.skipped
        if on_part is not None:
            on_part(part)
    if missing := run.missing():
        return RunSummary(len(missing), scored, skipped)
    return RunSummary(0, *run.merge())
