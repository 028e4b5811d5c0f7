"""The EERs that the model's authors report, recomputed from their published scores and the datasets' labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from spectra_jax import hub
from spectra_jax.data.labels import read_labels
from spectra_jax.data.score_files import Scores, read_scores
from spectra_jax.data.sources.arena import LABELS, ORGANISATION, pinned_revision
from spectra_jax.errors import HubError, InputError, UnreachableError
from spectra_jax.evaluation.evaluate import evaluate
from spectra_jax.messages import count

REPORTED: dict[str, tuple[str, int]] = {
    "CD-ADD": ("0.00", 20_786),
    "SONAR": ("0.44", 3_948),
    "CVoiceFake_small": ("0.51", 138_136),
    "CFAD": ("0.71", 62_999),
    "LibriSeVoc": ("0.83", 18_487),
    "ASVspoof2019_LA": ("0.965", 71_237),
    "InTheWild": ("1.2022241146120323", 31_779),
    "ASVspoof2021_DF": ("4.298", 611_829),
    "ASVspoof2021_LA": ("4.379", 181_566),
}
"""EER in percent and number of trials, from the table of the model card at the pinned revision.

The figures have different numbers of digits; two figures agree if they agree in the digits that are reported."""
FULL_PRECISION = 1e-6
"""In percentage points: how closely a figure with all digits has to be reproduced."""


@dataclass(frozen=True)
class Recomputed:
    """The figure of one dataset.

    Attributes:
      dataset: its name.
      revision: of the labels: a commit, or a branch if no commit is pinned.
      reported: EER in percent, as it is printed.
      recomputed: EER in percent; None if it could not be computed.
      tolerance: by how much the two may differ: half of the last printed digit, or 1e-6 if all digits are printed.
      trials: with a score and a label.
      problem: why the two disagree or could not be compared; None if they agree.
      missing: trials of the dataset without a score.
      unknown: scores of trials that the dataset does not have.
      unreachable: why its files could not be fetched, if the reason holds for all datasets.
    """

    dataset: str
    revision: str
    reported: str
    recomputed: float | None
    tolerance: float
    trials: int | None
    problem: str | None
    missing: int | None = None
    unknown: int | None = None
    unreachable: str | None = None

    @property
    def difference(self) -> float | None:
        """Recomputed minus reported, in percentage points."""
        return None if self.recomputed is None else self.recomputed - float(self.reported)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the difference included."""
        return {**asdict(self), "difference": self.difference}


def verify_reported(names: Sequence[str] = ()) -> list[Recomputed]:
    """Recompute reported EERs. A dataset that cannot be fetched affects its own row only.

    Args:
      names: of datasets; by default all for which an EER is reported.

    Raises:
      InputError: nothing is reported for a name.
    """
    if unknown := [name for name in names if name not in REPORTED]:
        raise InputError(f"nothing is reported for {', '.join(unknown)}; reported are {', '.join(REPORTED)}")
    return [_recompute(name) for name in names or REPORTED]


def published_scores(name: str) -> Scores:
    """The scores that the model's authors publish of a dataset.

    Raises:
      HubError: the file cannot be fetched.
      InputError: it is not a score file.
    """
    path = f".eval_results/{ORGANISATION}/{name}/scores.txt"
    return read_scores(hub.fetch_file(hub.PUBLISHED, hub.PUBLISHED_REVISION, path))


def _recompute(name: str) -> Recomputed:
    reported, _ = REPORTED[name]
    dataset = f"{ORGANISATION}/{name}"
    revision = pinned_revision(dataset)
    row = Recomputed(name, revision, reported, None, tolerance_of(reported), None, None)
    try:
        labels = read_labels(hub.fetch_dataset_file(dataset, revision, LABELS))
        scores = published_scores(name)
        found = evaluate(scores, labels, common=True, resamples=0)
    except (HubError, ValueError) as error:
        unreachable = error.reason if isinstance(error, UnreachableError) else None
        return replace(row, problem=str(error), unreachable=unreachable)
    scored = found.n_bonafide + found.n_spoof
    row = replace(
        row,
        recomputed=found.eer_percent,
        trials=scored,
        missing=len(labels.utterance_ids) - scored,
        unknown=len(scores) - scored,
    )
    return replace(row, problem="; ".join(_problems(row)) or None)


def tolerance_of(reported: str) -> float:
    """By how many percentage points a recomputed figure may differ from a reported one.

    Half a unit of the last printed digit, slightly more because of figures that are rounded up to it.
    """
    digits = len(reported.partition(".")[2])
    return max(0.5 * 10.0**-digits * (1 + 1e-9), FULL_PRECISION)


def _problems(row: Recomputed) -> list[str]:
    """Why a recomputed figure disagrees with the reported one, a sentence each."""
    _, reported_trials = REPORTED[row.dataset]
    scored, missing = row.trials or 0, row.missing or 0
    problems = []
    if row.unknown:
        problems.append(f"{count(row.unknown, 'score')} of trials without a label")
    # The reported number includes the trials that the run skipped.
    if scored + missing != reported_trials:
        problems.append(
            f"{scored + missing:,} trials, {missing:,} without a score, where {reported_trials:,} are reported"
        )
    if row.recomputed is not None and abs(row.recomputed - float(row.reported)) > row.tolerance:
        problems.append(f"the EER is {row.recomputed:.6f}")
    return problems
