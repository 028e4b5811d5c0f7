"""The Arena's `result.yaml` of a local run, schema version 4, and the check that its `reproduce --scoring` performs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import read_scores
from spectra_jax.data.sources.arena import pinned_revision
from spectra_jax.errors import InputError
from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.evaluate import evaluate
from spectra_jax.files.outputs import output_file
from spectra_jax.messages import count, examples

SCHEMA_VERSION = 4
EER_TOLERANCE = 1e-6
"""In percentage points: two EERs are the same for the Arena if they differ by no more."""
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True)
class System:
    """The system that a result is of. What is not known is None.

    Attributes:
      name: as the Arena shows it.
      slug: its identifier: lower-case letters, digits and hyphens.
      description: free text.
      code, checkpoint, paper: addresses.

    Raises:
      InputError: an invalid slug.
    """

    name: str
    slug: str
    description: str | None = None
    code: str | None = None
    checkpoint: str | None = None
    paper: str | None = None

    def __post_init__(self) -> None:
        if not _SLUG.fullmatch(self.slug):
            raise InputError(
                f"slug {self.slug!r}: lower-case letters, digits and hyphens, beginning with a letter or digit"
            )


@dataclass(frozen=True)
class Dataset:
    """The dataset that was scored: its id on the Hub, its revision (a commit) and its split."""

    id: str
    revision: str | None
    split: str = "test"


@dataclass(frozen=True)
class ScoreFigures:
    """The figures of a score file: EER in percent, trials of the dataset, and those without a score."""

    eer_percent: float
    n_trials: int
    n_skipped: int


@dataclass(frozen=True)
class Artifact:
    """The score file: its address, its sha256, and the version of the Arena's tool that computed the scores."""

    scores_url: str | None
    scores_sha256: str
    bench_version: str | None


@dataclass(frozen=True)
class ArenaResult:
    """The content of a `result.yaml`. What is not known is None.

    Attributes:
      reproduction, submitter: as the Arena defines them; a submitter has `hf_username` and `contact`.
      submitted_at: a date, such as 2026-11-24.
      notes: free text.
    """

    system: System
    dataset: Dataset
    scores: ScoreFigures
    artifact: Artifact
    reproduction: Mapping[str, Any] | None = None
    submitter: Mapping[str, Any] | None = None
    submitted_at: str | None = None
    notes: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in the order of the file."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


def make_result(
    scores: Path,
    labels: Labels,
    dataset: str,
    *,
    system: System,
    revision: str | None = None,
    bench_version: str | None = None,
    reproduction: Mapping[str, Any] | None = None,
    submitter: Mapping[str, Any] | None = None,
    submitted_at: str | None = None,
    notes: str | None = None,
) -> ArenaResult:
    """The result of a score file.

    Args:
      scores: the score file in the Arena's format. A trial of the labels without a score counts as skipped.
      labels: of the complete dataset.
      dataset: its id on the Hub.
      system: that computed the scores.
      revision: of the dataset, a commit; by default the pinned one, if there is one.
      bench_version: of the Arena's tool, if it computed the scores, such as `speech-spoof-bench==0.4.0`.
      reproduction, submitter, submitted_at, notes: see `ArenaResult`.

    Raises:
      InputError: a score file of another format, or trials that the dataset does not have.
    """
    if scores.suffix.lower() != ".txt":
        raise InputError(f"{scores}: the Arena takes its own format, which `score --output F.txt` writes")
    # A branch does not identify what was scored.
    pinned = pinned_revision(dataset)
    commit = revision or (pinned if pinned != "main" else None)
    return ArenaResult(
        system,
        Dataset(dataset, commit),
        _evaluate(scores, labels),
        Artifact(None, _sha256(scores), bench_version),
        reproduction,
        submitter,
        submitted_at,
        notes,
    )


def write_result(result: ArenaResult, path: Path) -> None:
    """Write a `result.yaml`, atomically."""
    import yaml

    with output_file(path) as file:
        file.write(yaml.safe_dump(result.to_dict(), sort_keys=False, allow_unicode=True).encode())


def check_result(content: Mapping[str, Any], scores: Path, labels: Labels) -> list[str]:
    """The objections that a reproduction of the scoring would raise, a sentence each; none if the result is right.

    Args:
      content: of a `result.yaml`.
      scores: the score file.
      labels: of the complete dataset.

    Raises:
      InputError: the score file cannot be read, or has trials that the dataset does not have; the result is incomplete.
    """
    stated, stated_sha256 = _stated_scores(content)
    problems = []
    if (sha256 := _sha256(scores)) != stated_sha256:
        problems.append(f"the score file's sha256 is {sha256}, and the result states {stated_sha256}")
    computed = _evaluate(scores, labels)
    num_scored = computed.n_trials - computed.n_skipped
    if not num_scored + stated.n_skipped == stated.n_trials == computed.n_trials:
        problems.append(
            f"{num_scored:,} scored and {stated.n_skipped:,} skipped of {stated.n_trials:,} trials, and "
            f"{labels.name} has {computed.n_trials:,}"
        )
    if not abs(computed.eer_percent - stated.eer_percent) <= EER_TOLERANCE:
        problems.append(f"the EER is {computed.eer_percent!r} %, and the result states {stated.eer_percent!r}")
    return problems


def _stated_scores(content: Mapping[str, Any]) -> tuple[ScoreFigures, object]:
    """The scores and the sha256 that a result states. Raises InputError: it is incomplete."""
    try:
        stated = ScoreFigures(**{name: content["scores"][name] for name in ("eer_percent", "n_trials", "n_skipped")})
        sha256 = content["artifact"]["scores_sha256"]
        complete = isinstance(stated.n_trials, int) and isinstance(stated.n_skipped, int)
        complete = complete and isinstance(stated.eer_percent, int | float)
    except (KeyError, TypeError):
        complete = False
    if not complete:
        raise InputError(
            "not a result: it needs scores (eer_percent, n_trials, n_skipped) and artifact (scores_sha256)"
        )
    return stated, sha256


def _evaluate(path: Path, labels: Labels) -> ScoreFigures:
    scores = read_scores(path)
    known = set(labels.utterance_ids)
    if unknown := [str(name) for name in scores.utterance_ids if name not in known]:
        raise InputError(f"{path}: {count(len(unknown), 'trial')} that {labels.name} does not have:{examples(unknown)}")
    try:
        found = evaluate(scores, labels, common=True, resamples=0)
    except metrics.MetricError as error:
        raise InputError(f"{path}: {error}") from error
    num_trials = len(labels.utterance_ids)
    return ScoreFigures(found.eer_percent, num_trials, num_trials - found.n_bonafide - found.n_spoof)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
