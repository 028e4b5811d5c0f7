"""The trials to review: the most confident errors and the largest differences; without labels, the extreme scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spectra_jax.evaluation.compare import Comparison
from spectra_jax.reporting.clips import Clip
from spectra_jax.reporting.systems import System

ERRORS = 15
"""Errors of each class and system that are listed."""
_EXTREMES = 5


@dataclass(frozen=True)
class TrialToReview:
    """A trial of the page's table.

    Attributes:
      utterance_id: of the trial.
      label: "bona fide", "spoof", or "" where unknown.
      attack: or "".
      scores: by system, of the systems that scored it.
      reasons: why it is listed, each with the systems or pairs of systems that it concerns.
      rank_gap: the smallest of any system; None where unknown.
      clip: its audio; None where the file was not found or the page is full.
    """

    utterance_id: str
    label: str
    attack: str
    scores: Mapping[str, float]
    reasons: Mapping[str, Sequence[str]]
    rank_gap: float | None = None
    clip: Clip | None = None

    @property
    def why(self) -> str:
        """The reasons in words."""
        return "; ".join(f"{reason} {' and '.join(names)}".rstrip() for reason, names in self.reasons.items())


@dataclass(frozen=True)
class _Reason:
    """Why a trial is listed; `about` names the system or pair where the page has several, otherwise it is ""."""

    utterance_id: str
    text: str
    about: str = ""


def trials_to_review(systems: Sequence[System], comparisons: Sequence[Comparison]) -> list[TrialToReview]:
    """The trials of the table, the worst first."""
    several = len(systems) > 1
    lists = [
        list(_misclassified(system, several) if system.evaluation else _extremes(system, several)) for system in systems
    ]
    lists += [list(_largest_differences(comparison, len(comparisons) > 1)) for comparison in comparisons]
    reasons: dict[str, dict[str, list[str]]] = {}
    # Taken from the lists in turn, so that the few clips on the page come from all of them.
    for rank in range(max(map(len, lists), default=0)):
        for reason in (own[rank] for own in lists if rank < len(own)):
            about = reasons.setdefault(reason.utterance_id, {}).setdefault(reason.text, [])
            about += [reason.about] * bool(reason.about)
    rows = [{str(identity): row for row, identity in enumerate(one.scores.utterance_ids)} for one in systems]
    return [_trial(identity, own, systems, rows) for identity, own in reasons.items()]


def _misclassified(system: System, several: bool) -> Iterator[_Reason]:
    """The errors at the threshold of the EER, farthest from it first, of both classes in turn."""
    assert system.evaluation is not None and system.bonafide is not None
    by, about = (" by", system.name) if several else ("", "")
    distance = system.scores.scores - system.evaluation.threshold
    rejected = np.flatnonzero(system.bonafide & (distance < 0))
    accepted = np.flatnonzero(~system.bonafide & (distance >= 0))
    classes = (
        (rejected[np.argsort(distance[rejected], kind="stable")], f"rejected{by}"),
        (accepted[np.argsort(-distance[accepted], kind="stable")], f"accepted{by}"),
    )
    for rank in range(ERRORS):
        for rows, text in classes:
            if rank < len(rows):
                yield _Reason(str(system.scores.utterance_ids[rows[rank]]), text, about)


def _extremes(system: System, several: bool) -> Iterator[_Reason]:
    """The highest and the lowest scores."""
    by, about = (" by", system.name) if several else ("", "")
    order = np.argsort(system.scores.scores, kind="stable")
    lowest, highest = min(_EXTREMES, len(order) // 2), min(_EXTREMES, (len(order) + 1) // 2)
    for rows, text in (
        (order[::-1][:highest], f"among the highest{by}"),
        (order[:lowest], f"among the lowest{by}"),
    ):
        for row in rows:
            yield _Reason(str(system.scores.utterance_ids[row]), text, about)


def _largest_differences(comparison: Comparison, several: bool) -> Iterator[_Reason]:
    about = f"from {comparison.name_b}" if several else ""
    for trial in comparison.worst:
        text = "unexplained difference" if trial.unexplained else "among the largest differences"
        yield _Reason(trial.utterance_id, text, about)


def _trial(
    identity: str,
    reasons: Mapping[str, Sequence[str]],
    systems: Sequence[System],
    rows: Sequence[Mapping[str, int]],
) -> TrialToReview:
    label, attack, scores, gaps = "", "", {}, []
    for system, row_of in zip(systems, rows, strict=True):
        if (row := row_of.get(identity)) is None:
            continue
        scores[system.name] = float(system.scores.scores[row])
        if system.bonafide is not None:
            label = "bona fide" if system.bonafide[row] else "spoof"
        if system.attacks is not None:
            attack = attack or str(system.attacks[row])
        column = system.scores.rank_gaps
        if column is not None and column.dtype.kind == "f" and np.isfinite(column[row]):
            gaps.append(float(column[row]))
    return TrialToReview(identity, label, attack, scores, reasons, min(gaps, default=None))
