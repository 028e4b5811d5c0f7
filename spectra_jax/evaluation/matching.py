"""The rows of two files that have the same utterance id, and messages about ids that do not match."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from spectra_jax.data.ids import stem
from spectra_jax.data.join import join
from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores
from spectra_jax.errors import InputError
from spectra_jax.messages import count, examples


def matching_rows(first: Scores, second: Scores | Labels) -> tuple[np.ndarray, np.ndarray]:
    """Rows of both files that have the same utterance id, (n,) each, in the order of the first file.

    Raises:
      InputError: no id is in both files.
    """
    joined = join(first.utterance_ids, second.utterance_ids)
    if not len(joined.left):
        raise InputError(_nothing_in_common(first, second))
    return joined.left, joined.right


def label_rows(utterance_ids: Sequence[str] | np.ndarray, labels: Labels) -> np.ndarray:
    """The row of the labels for each utterance id, (n,).

    Raises:
      InputError: ids without a label: how many, with examples.
    """
    joined = join(utterance_ids, labels.utterance_ids)
    if missing := joined.only_left:
        hint = mismatch_hint(missing, list(labels.utterance_ids))
        raise InputError(
            f"{count(len(missing), 'trial')} without a label in {labels.name}:{examples(missing)}"
            + (f"\n{hint}" if hint else "")
        )
    return joined.right


def check_all_labelled(scores: Scores, labels: Labels) -> None:
    """Check that each scored trial has a label, and each labelled trial a score unless it was skipped.

    Raises:
      InputError: ids that are in one file only: how many, with examples.
    """
    joined = join(scores.utterance_ids, labels.utterance_ids)
    without_label = joined.only_left
    without_score = [identity for identity in joined.only_right if identity not in scores.skipped]
    if without_label or without_score:
        raise InputError(
            _unmatched(without_label, scores.name, "without a label in", labels.name)
            + _unmatched(without_score, labels.name, "without a score in", scores.name)
            + (
                mismatch_hint(without_label, without_score)
                or "Give the files that belong together, or take the trials that both have with --common."
            )
        )


def check_same_trials(a: Scores, b: Scores) -> None:
    """Check that two score files have the same trials.

    Raises:
      InputError: ids that are in one file only: how many, with examples, and the reason where a file skipped them.
    """
    joined = join(a.utterance_ids, b.utterance_ids)
    only_a, only_b = joined.only_left, joined.only_right
    if only_a or only_b:
        raise InputError(
            _unmatched([_with_reason(i, b) for i in only_a], a.name, "not in", b.name)
            + _unmatched([_with_reason(i, a) for i in only_b], b.name, "not in", a.name)
            + (mismatch_hint(only_a, only_b) or "Compare the trials that both have with --common.")
        )


def mismatch_hint(first: Sequence[str], second: Sequence[str]) -> str:
    """How to match ids that differ by folder or extension only; empty where most ids differ by more."""
    stems = {stem(identity): str(identity) for identity in second}
    pairs = [(str(identity), stems[stem(identity)]) for identity in first if stem(identity) in stems]
    if 2 * len(pairs) <= max(1, min(len(first), len(second))):
        return ""
    folders = any(re.split(r"[\\/]", a)[:-1] != re.split(r"[\\/]", b)[:-1] for a, b in pairs)
    extensions = {_extension(i) for pair in pairs if _extension(pair[0]) != _extension(pair[1]) for i in pair} - {""}
    parts = ["the folder"] * folders + [f"the extension {', '.join(sorted(extensions))}"] * bool(extensions)
    return (
        f"{count(len(pairs), 'trial')} would match: their ids differ by {' and '.join(parts)} only. "
        "--match stem compares ids without folder and extension."
    )


def _extension(identity: str) -> str:
    name = re.split(r"[\\/]", identity)[-1]
    return name.removeprefix(stem(identity))


def _nothing_in_common(first: Scores, second: Scores | Labels) -> str:
    if not len(first.utterance_ids) or not len(second.utterance_ids):
        empty, other = (first, second) if not len(first.utterance_ids) else (second, first)
        return f"{empty.name} has no trials left, so it has none in common with {other.name}"
    hint = mismatch_hint(list(first.utterance_ids), list(second.utterance_ids))
    return (
        f"{first.name} and {second.name} have no trial in common: {str(first.utterance_ids[0])!r} in one, "
        f"{str(second.utterance_ids[0])!r} in the other" + (f"\n{hint}" if hint else "")
    )


def _unmatched(ids: Sequence[str], name: str, relation: str, other: str) -> str:
    return f"{count(len(ids), 'trial')} of {name} {relation} {other}:{examples(ids)}\n" if ids else ""


def _with_reason(identity: str, other: Scores) -> str:
    reason = other.skipped.get(identity)
    return f"{identity} (skipped in {other.name}: {reason})" if reason else identity
