"""Our network and a reference side by side: the same windows in, differences out, and where they begin."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import RANK_GAP, RANK_GAP_POOL, Scores
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.evaluation.compare import Comparison, compare
from spectra_jax.inference.scorer import Scorer, hear
from spectra_jax.model.rank_gap import GAP_BOUND
from spectra_jax.model.spectra import POOLS, folded, stages
from spectra_jax.verification.references import STAGES, Reference

# A stage's rms difference as a share of its rms. Rounding leaves at most 2.6e-5 in float32 on the golden networks, and
# the reference's own is of that size; four times that is no rounding any more. Of float64, 1e-9 likewise.
STAGE_BOUNDS = {"float32": 1e-4, "float64": 1e-9}
# Clips that a divergence is looked for in.
_LOCATED_IN = 2


@dataclass(frozen=True)
class Stage:
    """One named stage, ours against the reference's."""

    name: str
    error: float
    """Root mean square of the difference, as a share of the reference's root mean square; infinite for other shapes."""
    departs: bool


@dataclass(frozen=True)
class Divergence:
    """Where the networks begin to differ.

    Attributes:
      first: the first stage that departs; None where no stage that could be compared does.
      stages: all that could be compared, in the network's order.
      trials: the clips that were looked at.
    """

    first: str | None
    stages: Sequence[Stage]
    trials: Sequence[str]


@dataclass(frozen=True)
class Verification:
    """What verifying found.

    Attributes:
      ours, theirs: scores, ours with rank gaps.
      comparison: of both.
      divergence: where they begin to differ; None where they agree, or where the reference is a score file.
      skipped: trials that could not be heard, and why.
    """

    ours: Scores
    theirs: Scores
    comparison: Comparison
    divergence: Divergence | None
    skipped: dict[str, str]


def sample(trials: Iterable[Trial], number: int, seed: int) -> set[str]:
    """Ids of about so many trials, drawn without replacement, each label in its share (rounded) and at least once."""
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
    gap_bound: float = GAP_BOUND,
    resamples: int = 1000,
    seed: int = 0,
) -> Verification:
    """Score trials by our network and by a reference, on the very same windows.

    Args:
      model: what `spectra_jax.load` takes.
      reference: to compare with.
      trials: of which unreadable ones are skipped.
      only: ids of the trials to take.
      precision: float32 or float64, of our network.
      batch_size: clips at a time, in both.
      tolerance, gap_bound, resamples, seed: see `spectra_jax.compare`.

    Raises:
      InputError: a precision without a bound, or no trial that could be decoded; and what the reference raises.
    """
    if precision not in STAGE_BOUNDS:
        raise InputError(f"precision {precision!r}: verify in {' or '.join(STAGE_BOUNDS)}")
    scorer = Scorer(model, precision=precision, batch_size=batch_size, diagnostics=True)
    chosen = _chosen(trials, only)
    config = scorer.model.config
    heard, answers, references = [], [], []
    skipped: dict[str, str] = {}
    for batch in _batches((hear(trial, config) for trial in chosen), scorer.batch_size):
        skipped |= {clip.trial.utterance_id: str(clip.error) for clip in batch if clip.error}
        windows = [clip.window for clip in batch if clip.window is not None]
        if windows:
            heard += [clip.trial for clip in batch if clip.window is not None]
            answers.append(scorer.diagnosed(np.stack(windows)))
            references.append(reference.logits(np.stack(windows)))
    if not heard:
        raise InputError(
            f"none of the {len(skipped):,} trials could be decoded: {next(iter(skipped.values()), 'no trials')}"
        )
    answer, theirs = np.concatenate(answers), np.concatenate(references)
    ids = np.array([trial.utterance_id for trial in heard], object)
    for name, logits in (("our network", answer[:, :2]), (reference.name, theirs)):
        bad = ids[~np.isfinite(logits).all(axis=1)]
        if len(bad):
            raise InputError(f"{name}: logits that are not finite for {len(bad):,} trials, such as {bad[0]}")
    columns = _gap_columns(answer)
    ours = Scores("spectra-jax", ids, answer[:, 1].astype(np.float64), columns)
    other = Scores(reference.name, ids, theirs[:, 1].astype(np.float64))
    comparison = compare(
        ours, other, _labels(heard), tolerance=tolerance, gap_bound=gap_bound, resamples=resamples, seed=seed
    )
    divergence = None
    if not comparison.agrees:
        worst = np.argsort(-np.abs(comparison.a - comparison.b) * comparison.unexplained)[:_LOCATED_IN]
        suspects = list(ids[worst[comparison.unexplained[worst]]])
        # Heard again, since windows of all trials would not fit.
        found = {trial.utterance_id: hear(trial, config).window for trial in _chosen(trials, set(suspects))}
        # Of the coarser one.
        bound = max(STAGE_BOUNDS[precision], STAGE_BOUNDS[reference.precision])
        divergence = _located(scorer, reference, found, bound)
    return Verification(ours, other, comparison, divergence, skipped)


def verify_scores(
    model: str | Path,
    published: Scores,
    trials: Collection[Trial],
    *,
    only: set[str] | None = None,
    precision: str = "float32",
    batch_size: int = 8,
    tolerance: float = 1e-4,
    gap_bound: float = GAP_BOUND,
    resamples: int = 1000,
    seed: int = 0,
) -> Verification:
    """Score trials by our network and compare with published scores of theirs, which may have six decimals.

    Raises:
      InputError: no trial that has both a score of ours and a published one.
    """
    scorer = Scorer(model, precision=precision, batch_size=batch_size, diagnostics=True)
    results = list(scorer.score_trials(_chosen(trials, only)))
    scored = [result for result in results if result.logits is not None]
    skipped = {result.trial.utterance_id: str(result.error) for result in results if result.logits is None}
    if not scored:
        raise InputError(
            f"none of the {len(skipped):,} trials could be decoded: {next(iter(skipped.values()), 'no trials')}"
        )
    ids = np.array([result.trial.utterance_id for result in scored], object)
    columns = {
        RANK_GAP: np.array([np.nan if result.rank_gap is None else result.rank_gap for result in scored]),
        RANK_GAP_POOL: np.array([result.rank_gap_pool or "" for result in scored], object),
    }
    ours = Scores("spectra-jax", ids, np.array([result.score for result in scored], np.float64), columns)
    missing = set(ids) - set(published.utterance_ids)
    comparison = compare(
        ours,
        published,
        _labels([result.trial for result in scored if result.trial.utterance_id not in missing]),
        # Six decimals are half a millionth off by themselves.
        tolerance=tolerance + 5e-7,
        gap_bound=gap_bound,
        common=True,
        resamples=resamples,
        seed=seed,
    )
    skipped |= {str(name): f"no score in {published.name}" for name in missing}
    return Verification(ours, published, comparison, None, skipped)


def _chosen(trials: Iterable[Trial], only: set[str] | None) -> Iterator[Trial]:
    """The trials asked for. A dataset is not read beyond the last of them."""
    missing = None if only is None else set(only)
    for trial in trials:
        if missing is None:
            yield trial
        elif trial.utterance_id in missing:
            missing.remove(trial.utterance_id)
            yield trial
        if missing is not None and not missing:
            return


def _batches(clips: Iterable[Any], size: int) -> Iterator[list[Any]]:
    remaining = iter(clips)
    return iter(lambda: list(islice(remaining, size)), [])


def _gap_columns(answer: np.ndarray) -> dict[str, np.ndarray]:
    gaps = answer[:, 2:]
    pools = np.array(POOLS, object)[gaps.argmin(axis=1)]
    return {RANK_GAP: gaps.min(axis=1).astype(np.float64), RANK_GAP_POOL: pools}


def _labels(trials: Sequence[Trial]) -> Labels | None:
    """The trials' own labels, where all have one and both classes are there."""
    words = [trial.label for trial in trials]
    if None in words or len(set(words)) < 2:
        return None
    ids = np.array([trial.utterance_id for trial in trials], object)
    return Labels("the trials' labels", ids, np.array([word == "bonafide" for word in words], bool))


def _located(scorer: Scorer, reference: Reference, windows: dict[str, Any], bound: float) -> Divergence:
    stacked = np.stack(list(windows.values()))
    theirs = reference.stages(stacked)
    with jax.enable_x64(scorer.precision.name == "float64"):
        ours = {name: np.asarray(value) for name, value in stages(folded(scorer.model), jnp.asarray(stacked)).items()}
    errors = {name: _error(ours[name], theirs[name]) for name in STAGES if name in theirs}
    compared = [Stage(name, error, error > bound) for name, error in errors.items()]
    first = next((stage.name for stage in compared if stage.departs), None)
    return Divergence(first, compared, list(windows))


def _error(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    size = float(np.sqrt(np.mean(np.square(theirs, dtype=np.float64))))
    error = float(np.sqrt(np.mean(np.square(ours.astype(np.float64) - theirs))))
    return error / size if size else (0.0 if error == 0 else float("inf"))
