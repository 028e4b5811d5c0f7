"""The EERs that the model's authors report, recomputed from their published scores and the datasets' labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spectra_jax import hub
from spectra_jax.data.labels import read_labels
from spectra_jax.data.score_files import read_scores
from spectra_jax.data.sources.arena import LABELS, ORGANISATION, pinned_revision
from spectra_jax.errors import HubError, InputError, UnreachableError
from spectra_jax.evaluation.evaluate import evaluate
from spectra_jax.messages import count

# EER in percent and number of trials: the model card's table at the pinned revision. Figures are given to different
# numbers of digits, and agree if they agree in those.
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
# A figure of all digits is recomputed to this many percentage points.
FULL_DIGITS = 1e-6


@dataclass(frozen=True)
class Recomputed:
    """One dataset's figure.

    Attributes:
      dataset: its name.
      revision: commit, or branch where no commit is pinned, of the labels.
      reported: EER in percent, as it is printed.
      recomputed: EER in percent; None where it could not be.
      tolerance: how far apart both may be: half of the last printed digit, or 1e-6 where all digits are.
      trials: with a score and a label.
      missing: trials of the dataset without a score: skipped, or left out.
      unknown: scores of trials that the dataset does not have.
      problem: what is wrong, in words; None where both agree.
      unreachable: why its files could not be fetched, where that is a reason that holds for all datasets.
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


def verify_reported(names: Sequence[str] = ()) -> list[Recomputed]:
    """Recompute reported EERs; a dataset that cannot be fetched costs its own row alone.

    Args:
      names: of datasets; all that are reported otherwise.

    Raises:
      InputError: nothing is reported for a name.
    """
    if unknown := [name for name in names if name not in REPORTED]:
        raise InputError(f"nothing is reported for {', '.join(unknown)}; there are {', '.join(REPORTED)}")
    return [_recomputed(name) for name in names or REPORTED]


def _recomputed(name: str) -> Recomputed:
    reported, trials = REPORTED[name]
    dataset = f"{ORGANISATION}/{name}"
    revision = pinned_revision(dataset)
    digits = len(reported.partition(".")[2])
    # Half a unit of the last digit, and a hair for what rounds up to it.
    tolerance = max(0.5 * 10.0**-digits * (1 + 1e-9), FULL_DIGITS)
    row = {"dataset": name, "revision": revision, "reported": reported, "tolerance": tolerance}
    try:
        labels = read_labels(hub.fetch_dataset_file(dataset, revision, LABELS))
        scores = read_scores(
            hub.fetch_file(hub.PUBLISHED, hub.PUBLISHED_REVISION, f".eval_results/{dataset}/scores.txt")
        )
        found = evaluate(scores, labels, common=True, resamples=0).numbers
    except (HubError, ValueError) as error:
        unreachable = error.reason if isinstance(error, UnreachableError) else None
        return Recomputed(**row, recomputed=None, trials=None, problem=str(error), unreachable=unreachable)  # type: ignore[arg-type]
    scored = found["n_bonafide"] + found["n_spoof"]
    problems = []
    missing, unknown = len(labels.utterance_ids) - scored, len(scores) - scored
    if unknown:
        problems.append(f"{count(unknown, 'score')} of trials without a label")
    # Reported are a dataset's trials, those that the run skipped included.
    if scored + missing != trials:
        problems.append(f"{scored + missing:,} trials, {missing:,} without a score, where {trials:,} are reported")
    if abs(found["eer_percent"] - float(reported)) > tolerance:
        problems.append(f"the EER comes to {found['eer_percent']:.6f}")
    problem = "; ".join(problems) or None
    return Recomputed(
        **row,  # type: ignore[arg-type]
        recomputed=found["eer_percent"],
        trials=scored,
        problem=problem,
        missing=missing,
        unknown=unknown,
    )
