"""Score files as systems: read under distinct names, joined with their labels, and evaluated where they can be."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spectra_jax.data.conventions import NOTHING, Match, is_bonafide
from spectra_jax.data.labels import Labels, labels_of, own_label_words, take_subset
from spectra_jax.data.score_files import Scores, read_scores
from spectra_jax.errors import InputError, SpectraError
from spectra_jax.evaluation.evaluate import Evaluation, evaluate
from spectra_jax.messages import count, examples

ATTACK = "attack"


@dataclass(frozen=True)
class System:
    """A score file with the labels, attacks and metrics of its trials.

    Attributes:
      path: of the score file.
      sha256: of its bytes.
      scores: of the labelled trials where there are labels, otherwise of all.
      bonafide: (n,) bool; None without labels.
      attacks: (n,) strings, empty for bona fide trials; None where no trial has one.
      evaluation: None without trials of both classes.
    """

    path: Path
    sha256: str
    scores: Scores
    bonafide: np.ndarray | None
    attacks: np.ndarray | None
    evaluation: Evaluation | None

    @property
    def name(self) -> str:
        return self.scores.name


def read_systems(
    paths: Sequence[str | Path],
    labels: Labels | None = None,
    *,
    match: Match = "exact",
    subset: str | None = None,
    common: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> list[System]:
    """Read score files and evaluate those that can be.

    Args:
      paths: of score files.
      labels: of their trials; else each file's own column `label`, where it has one that is not empty.
      match: how ids are compared.
      subset: take the trials of this subset only.
      common: take the trials that have both a score and a label; otherwise a trial with only one of them is an error.
      resamples: of the bootstrap.
      seed: of the bootstrap.

    Raises:
      InputError: a file given twice, or one that cannot be read or joined.
    """
    files = [Path(path) for path in paths]
    if not files:
        raise InputError("no score file: give at least one")
    resolved = [file.resolve() for file in files]
    if repeated := [str(file) for index, file in enumerate(files) if resolved[index] in resolved[:index]]:
        raise InputError(f"{count(len(repeated), 'score file')} given twice:{examples(repeated)}")
    return [
        _system(file, read_scores(file, name, match=match), labels, subset, common, resamples, seed)
        for file, name in zip(files, _distinct_names(files), strict=True)
    ]


def _distinct_names(files: Sequence[Path]) -> list[str]:
    """The files' names without extension; with it, or entire paths, where those are not distinct."""
    for names in ([file.stem for file in files], [file.name for file in files]):
        if len(set(names)) == len(names):
            return names
    return [str(file) for file in files]


def _system(
    file: Path, scores: Scores, labels: Labels | None, subset: str | None, common: bool, resamples: int, seed: int
) -> System:
    with file.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
    unlabelled = labels is None and all(word is None for word in own_label_words(scores) or ())
    if unlabelled and subset is None:
        return System(file, digest, scores, None, _attacks(scores.columns.get(ATTACK)), None)
    labels = labels_of(scores) if labels is None else labels
    if subset is not None:
        (scores,), labels = take_subset([scores], labels, subset)
    known = dict(zip(labels.utterance_ids, labels.bonafide, strict=True))
    labelled = np.array([identity in known for identity in scores.utterance_ids], bool)
    kept = scores if labelled.all() or not common else _rows(scores, labelled)
    bonafide = np.array([known.get(identity, False) for identity in kept.utterance_ids], bool)
    columns = {**kept.columns}
    if ATTACK in labels.columns:
        attack = dict(zip(labels.utterance_ids, labels.columns[ATTACK], strict=True))
        columns[ATTACK] = np.array([attack.get(identity, "") for identity in kept.utterance_ids], object)
    attacks = _attacks(columns.get(ATTACK))
    evaluation = None
    # `evaluate` reports ids that do not match. It refuses trials of one class, which a report shows without metrics.
    if (not labelled.all() and not common) or len(np.unique(bonafide)) == 2:
        by = () if attacks is None else (ATTACK,)
        evaluation = evaluate(scores, labels, common=common, by=by, resamples=resamples, seed=seed)
    return System(file, digest, kept, bonafide, attacks, evaluation)


def model_window_seconds(model: str | os.PathLike[str]) -> float | None:
    """The length of a model's window; None for weights that are not those of such a network."""
    from spectra_jax.checkpoints.resolve import DEMO, open_checkpoint

    try:
        config = open_checkpoint(DEMO if str(model) == DEMO else Path(model)).config
    except (SpectraError, OSError):
        return None
    return config.num_samples / config.sample_rate


def _rows(scores: Scores, kept: np.ndarray) -> Scores:
    if not kept.any():
        raise InputError(f"{scores.name}: none of its {count(len(scores), 'trial')} has a label")
    columns = {name: column[kept] for name, column in scores.columns.items()}
    return Scores(scores.name, scores.utterance_ids[kept], scores.scores[kept], columns, scores.skipped)


def _attacks(column: np.ndarray | None) -> np.ndarray | None:
    if column is None:
        return None
    names = np.array([str(value) for value in column], object)
    # Protocols and incomplete tables have such words for trials without an attack.
    names[[name in {*NOTHING, "nan"} or is_bonafide(name) is True for name in names]] = ""
    return names if any(names) else None


def model_digests(folder: str | os.PathLike[str]) -> dict[str, str]:
    """sha256 of the weights in a model's folder, or of a weight file, by file name; `demo` is the demo checkpoint.

    Raises:
      InputError: no such file, or a folder without one.
    """
    from spectra_jax.checkpoints.resolve import DEMO, open_checkpoint

    if str(folder) == DEMO:
        return {DEMO: open_checkpoint(DEMO).sha256()}
    path = Path(folder)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise InputError(f"{folder}: neither a .safetensors file nor a folder with one")
    found = {}
    for file in files:
        with file.open("rb") as data:
            found[file.name] = hashlib.file_digest(data, "sha256").hexdigest()
    return found
