"""Our network and a reference on the same windows: the differences, and the first stage with one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import RANK_GAP, RANK_GAP_POOL, Scores
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.evaluation.compare import Comparison, compare
from spectra_jax.evaluation.near_ties import FEWEST_TRIALS, LEVEL, GapBound, jump_probability, measure_gap_bound
from spectra_jax.inference.decoding import decode_trial
from spectra_jax.inference.scorer import Scorer
from spectra_jax.model.fold import fold_for_inference
from spectra_jax.model.precision import PrecisionName
from spectra_jax.model.rank_gap import GAP_BOUND
from spectra_jax.model.spectra import POOLS, stages
from spectra_jax.verification.references import STAGES, Reference
from spectra_jax.verification.swaps import swapped_scores

# The largest rms difference of a stage that rounding explains, divided by the rms of the stage. Rounding leaves at most
# 2.6e-5 in float32 on the golden networks, and about as much in the reference; the bound is four times that, likewise
# for float64.
STAGE_BOUNDS = {"float32": 1e-4, "float64": 1e-9}
# Clips on which the stages are compared if the scores differ.
_CLIPS_FOR_STAGES = 2
# Clips on which the bound of near ties is measured if scores differ.
_CLIPS_FOR_BOUND = 32
# JSON has no infinity, which is the error of stages of different shapes.
_LARGEST_ERROR = 1e308


@dataclass(frozen=True)
class Stage:
    """One named stage of our network compared with that of the reference."""

    name: str
    error: float
    """Root mean square of the difference divided by that of the reference; infinite for different shapes."""
    diverges: bool
    """Whether the error is larger than rounding explains."""


@dataclass(frozen=True)
class Divergence:
    """The stage at which the networks begin to differ.

    Attributes:
      first: the name of the first stage that diverges; None if no compared stage does.
      stages: all stages that could be compared, in the order of the network.
      trials: ids of the clips on which they were compared.
    """

    first: str | None
    stages: Sequence[Stage]
    trials: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        errors = {stage.name: min(stage.error, _LARGEST_ERROR) for stage in self.stages}
        return {"first": self.first, "trials": list(self.trials), "stages": errors}


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    Attributes:
      ours: scores of our network, with rank gaps.
      theirs: scores of the reference.
      comparison: the comparison of both.
      divergence: the stage at which they begin to differ; None if they agree, or if the reference is a score file.
      skipped: the reason for each trial that could not be compared, by its id.
    """

    ours: Scores
    theirs: Scores
    comparison: Comparison
    divergence: Divergence | None
    skipped: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: those of the comparison, and the skipped trials and the divergence."""
        divergence = None if self.divergence is None else self.divergence.to_dict()
        return {**self.comparison.to_dict(), "skipped": self.skipped, "divergence": divergence}


def sample(trials: Iterable[Trial], number: int, seed: int) -> set[str]:
    """Ids of about `number` trials, drawn without replacement: each label in its proportion (rounded), at least one."""
    by_label: dict[str | None, list[str]] = {}
    for trial in trials:
        by_label.setdefault(trial.label, []).append(trial.utterance_id)
    total = sum(map(len, by_label.values()))
    if number >= total:
        return {name for names in by_label.values() for name in names}
    random = np.random.default_rng(seed)
    drawn: set[str] = set()
    for names in by_label.values():
        share = min(max(round(number * len(names) / total), 1), len(names))
        drawn |= {names[index] for index in random.permutation(len(names))[:share]}
    return drawn


def verify(
    model: str | Path,
    reference: Reference,
    trials: Collection[Trial],
    *,
    only: set[str] | None = None,
    precision: str = "float32",
    batch_size: int = 8,
    tolerance: float = 1e-4,
    gap_bound: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Verification:
    """Score trials with our network and with a reference, on the same windows.

    Args:
      model: as for `spectra_jax.load`.
      reference: the network to compare with.
      trials: unreadable ones are skipped.
      only: ids of the trials to score; all otherwise.
      precision: float32 or float64, of our network.
      batch_size: clips at a time, in both.
      tolerance, resamples, seed: see `spectra_jax.compare`.
      gap_bound: a rank gap below it is a near tie. None measures it with our network, where a score differs. At a near
        tie, a difference is explained only if the reference's score is ours with the tied nodes swapped.

    Raises:
      InputError: an unsupported precision, no trial that could be decoded, or logits that are not finite; and the
        errors of the reference.
    """
    if precision not in STAGE_BOUNDS:
        raise InputError(f"precision {precision!r}: verify in {' or '.join(STAGE_BOUNDS)}")
    scorer = Scorer(model, precision=precision, batch_size=batch_size, diagnostics=True)
    outputs = _run_both(scorer, reference, _select(trials, only))
    ids = np.array([trial.utterance_id for trial in outputs.trials], object)
    _require_finite("our network", outputs.ours, ids)
    _require_finite(reference.name, outputs.theirs, ids)
    ours = Scores("spectra-jax", ids, outputs.ours[:, 1].astype(np.float64), _gap_columns(outputs.rank_gaps))
    theirs = Scores(reference.name, ids, outputs.theirs[:, 1].astype(np.float64))
    labels = _labels(outputs.trials)
    comparison = _Explainer(scorer, trials, reference.precision).compare(
        ours, theirs, labels, tolerance=tolerance, gap_bound=gap_bound, resamples=resamples, seed=seed
    )
    divergence = None if comparison.agrees else _locate_divergence(scorer, reference, trials, comparison)
    return Verification(ours, theirs, comparison, divergence, outputs.skipped)


def verify_scores(
    model: str | Path,
    published: Scores,
    trials: Collection[Trial],
    *,
    only: set[str] | None = None,
    precision: str = "float32",
    batch_size: int = 8,
    tolerance: float = 1e-4,
    gap_bound: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Verification:
    """Score trials with our network and compare with published scores, which may be rounded to six decimals.

    The arguments are those of `verify`.

    Raises:
      InputError: no trial has both a score of our network and a published one.
    """
    scorer = Scorer(model, precision=precision, batch_size=batch_size, diagnostics=True)
    results = list(scorer.score_trials(_select(trials, only)))
    scored = [result for result in results if result.logits is not None]
    skipped = {result.trial.utterance_id: str(result.error) for result in results if result.logits is None}
    _require_decoded(scored, skipped)
    ids = np.array([result.trial.utterance_id for result in scored], object)
    columns = {
        RANK_GAP: np.array([np.nan if result.rank_gap is None else result.rank_gap for result in scored]),
        RANK_GAP_POOL: np.array([result.rank_gap_pool or "" for result in scored], object),
    }
    ours = Scores("spectra-jax", ids, np.array([result.score for result in scored], np.float64), columns)
    missing = set(ids) - set(published.utterance_ids)
    comparison = _Explainer(scorer, trials, "float32").compare(
        ours,
        published,
        _labels([result.trial for result in scored if result.trial.utterance_id not in missing]),
        # Rounding to six decimals changes a score by up to half a millionth.
        tolerance=tolerance + 5e-7,
        gap_bound=gap_bound,
        common=True,
        resamples=resamples,
        seed=seed,
    )
    skipped |= {str(name): f"no score in {published.name}" for name in missing}
    return Verification(ours, published, comparison, None, skipped)


@dataclass(frozen=True)
class _Explainer:
    """Compares scores, and tests with our network whether near ties explain the differences.

    Attributes:
      scorer: our network.
      trials: those that were scored, and possibly more.
      precision: of the reference.
    """

    scorer: Scorer
    trials: Iterable[Trial]
    precision: PrecisionName

    def compare(
        self,
        ours: Scores,
        theirs: Scores,
        labels: Labels | None,
        *,
        tolerance: float,
        gap_bound: float | GapBound | None,
        resamples: int,
        seed: int,
        common: bool = False,
    ) -> Comparison:
        pair = partial(compare, ours, theirs, tolerance=tolerance, common=common, seed=seed)
        found = pair(gap_bound=gap_bound, resamples=0)
        # Even if every trial had a near tie.
        too_many = jump_probability(found.n_beyond_tolerance, len(found.utterance_ids)) < LEVEL
        if gap_bound is None and found.n_beyond_tolerance and not too_many:
            gap_bound = self._measure_gap_bound(found)
            found = pair(gap_bound=gap_bound, resamples=0)
        swapped = self._swapped_scores(found) if found.explained.any() else None
        return pair(labels, gap_bound=gap_bound, swapped_scores=swapped, resamples=resamples)

    def _measure_gap_bound(self, found: Comparison) -> GapBound:
        """The bound of our network: from float32 and float64, or from two batch sizes if both sides are float64."""
        agree = (np.abs(found.differences) <= found.tolerance) & np.isfinite(found.rank_gaps)
        windows = _decode(self.scorer, self.trials, found.utterance_ids[agree][:_CLIPS_FOR_BOUND])
        if len(windows) < FEWEST_TRIALS:
            return GapBound(GAP_BOUND)
        other = Scorer(
            self.scorer.source,
            precision=self.precision if self.scorer.precision.name == "float64" else "float64",
            # Another program, also in the same precision.
            batch_size=2 if self.scorer.batch_size == 1 else 1,
            diagnostics=True,
        )
        a, b = (scorer.diagnosed(np.stack(list(windows.values()))) for scorer in (self.scorer, other))
        close = np.abs(a[:, 1].astype(np.float64) - b[:, 1]) <= found.tolerance
        return measure_gap_bound(a[:, 2:].min(axis=1).astype(np.float64), b[:, 2:].min(axis=1), close)

    def _swapped_scores(self, found: Comparison) -> dict[str, list[float]]:
        windows = _decode(self.scorer, self.trials, found.utterance_ids[found.explained])
        with jax.enable_x64(self.scorer.precision.name == "float64"):
            scores = swapped_scores(self.scorer.model, np.stack(list(windows.values())), found.gap_bound)
        return dict(zip(windows, scores, strict=True))


@dataclass(frozen=True)
class _Outputs:
    """What both networks computed for the trials that could be decoded."""

    trials: Sequence[Trial]
    ours: Float[np.ndarray, "trials 2"]
    rank_gaps: Float[np.ndarray, "trials pools"]
    theirs: Float[np.ndarray, "trials 2"]
    skipped: dict[str, str]


def _run_both(scorer: Scorer, reference: Reference, trials: Iterable[Trial]) -> _Outputs:
    config = scorer.model.config
    decoded, ours, theirs = [], [], []
    skipped: dict[str, str] = {}
    for batch in _batches((decode_trial(trial, config) for trial in trials), scorer.batch_size):
        skipped |= {clip.trial.utterance_id: str(clip.error) for clip in batch if clip.error}
        windows = [clip.window for clip in batch if clip.window is not None]
        if windows:
            decoded += [clip.trial for clip in batch if clip.window is not None]
            ours.append(scorer.diagnosed(np.stack(windows)))
            theirs.append(reference.logits(np.stack(windows)))
    _require_decoded(decoded, skipped)
    diagnosed = np.concatenate(ours)
    return _Outputs(decoded, diagnosed[:, :2], diagnosed[:, 2:], np.concatenate(theirs), skipped)


def _require_decoded(decoded: Sequence[Any], skipped: Mapping[str, str]) -> None:
    if not decoded:
        reason = next(iter(skipped.values()), "no trials")
        raise InputError(f"none of the {len(skipped):,} trials could be decoded: {reason}")


def _require_finite(name: str, logits: np.ndarray, ids: np.ndarray) -> None:
    not_finite = ids[~np.isfinite(logits).all(axis=1)]
    if len(not_finite):
        raise InputError(f"{name}: logits that are not finite for {len(not_finite):,} trials, such as {not_finite[0]}")


def _select(trials: Iterable[Trial], only: set[str] | None) -> Iterator[Trial]:
    """The trials with the ids `only`, or all. A dataset is not read beyond the last of them."""
    missing = None if only is None else set(only)
    for trial in trials:
        if missing is None:
            yield trial
        elif trial.utterance_id in missing:
            missing.remove(trial.utterance_id)
            yield trial
        if missing is not None and not missing:
            return


def _decode(scorer: Scorer, trials: Iterable[Trial], ids: Iterable[str]) -> dict[str, np.ndarray]:
    """The windows of trials by id, decoded once more, since those of all trials would not fit into memory."""
    decoded = {trial.utterance_id: decode_trial(trial, scorer.model.config) for trial in _select(trials, set(ids))}
    return {name: clip.window for name, clip in decoded.items() if clip.window is not None}


def _batches(clips: Iterable[Any], size: int) -> Iterator[list[Any]]:
    remaining = iter(clips)
    return iter(lambda: list(islice(remaining, size)), [])


def _gap_columns(gaps: Float[np.ndarray, "trials pools"]) -> dict[str, np.ndarray]:
    pools = np.array(POOLS, object)[gaps.argmin(axis=1)]
    return {RANK_GAP: gaps.min(axis=1).astype(np.float64), RANK_GAP_POOL: pools}


def _labels(trials: Sequence[Trial]) -> Labels | None:
    """The labels of the trials, if all have one and both classes occur."""
    labels = [trial.label for trial in trials]
    if None in labels or len(set(labels)) < 2:
        return None
    ids = np.array([trial.utterance_id for trial in trials], object)
    return Labels("the trials' labels", ids, np.array([label == "bonafide" for label in labels], bool))


def _locate_divergence(
    scorer: Scorer, reference: Reference, trials: Iterable[Trial], comparison: Comparison
) -> Divergence:
    """Compare the stages on the trials with the largest unexplained differences."""
    differences = np.abs(comparison.differences) * comparison.unexplained
    worst = np.argsort(-differences)[:_CLIPS_FOR_STAGES]
    ids = set(comparison.utterance_ids[worst[comparison.unexplained[worst]]])
    decoded = _decode(scorer, trials, ids)
    windows = np.stack(list(decoded.values()))
    # The bound of the coarser precision.
    bound = max(STAGE_BOUNDS[scorer.precision.name], STAGE_BOUNDS[reference.precision])
    theirs = reference.stages(windows)
    with jax.enable_x64(scorer.precision.name == "float64"):
        ours = {
            name: np.asarray(value)
            for name, value in stages(fold_for_inference(scorer.model), jnp.asarray(windows)).items()
        }
    errors = {name: _relative_error(ours[name], theirs[name]) for name in STAGES if name in theirs}
    compared = [Stage(name, error, error > bound) for name, error in errors.items()]
    first = next((stage.name for stage in compared if stage.diverges), None)
    return Divergence(first, compared, list(decoded))


def _relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    scale = float(np.sqrt(np.mean(np.square(theirs, dtype=np.float64))))
    error = float(np.sqrt(np.mean(np.square(ours.astype(np.float64) - theirs))))
    return error / scale if scale else (0.0 if error == 0 else float("inf"))
