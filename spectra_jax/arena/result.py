"""The Arena's submission of a local run, `result.yaml`, and the check that its `reproduce --scoring` performs.

Its fields and their rules are in `spectra_jax.arena.submission`. What is not known is left out; `write_result` refuses
to write a submission that is not complete.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from spectra_jax.arena.reported import REPORTED
from spectra_jax.arena.submission import MATCHES, SLUG, SRR_COMPLEMENT, check_submission
from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores, read_scores
from spectra_jax.data.sources.arena import ORGANISATION, PINNED
from spectra_jax.data.tables import is_number, read_text_rows
from spectra_jax.data.text import open_plain_file
from spectra_jax.errors import InputError
from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.evaluate import evaluate
from spectra_jax.evaluation.spoof_only import evaluate_spoof_only
from spectra_jax.files.outputs import output_file
from spectra_jax.messages import count, examples

EER_TOLERANCE = 1e-6
"""Two figures are the same for the Arena if they differ by no more, EERs in percentage points."""


@dataclass(frozen=True)
class Paper:
    """The paper that describes a system."""

    arxiv_id: str
    url: str
    bibtex: str


@dataclass(frozen=True)
class System:
    """The system that a result is of. What is not known is None; a submission needs the first five.

    Attributes:
      name: as the Arena shows it.
      slug: its identifier: lower-case letters, digits and hyphens.
      description: free text.
      code, checkpoint: addresses.
      paper: without one, the Arena does not rank the system.
      params_millions: the number of its parameters.
      trained_on: ids on the Hub of the datasets that it was trained on.

    Raises:
      InputError: an invalid slug.
    """

    name: str | None = None
    slug: str | None = None
    description: str | None = None
    code: str | None = None
    checkpoint: str | None = None
    paper: Paper | None = None
    params_millions: float | None = None
    trained_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.slug is not None and not re.fullmatch(SLUG, self.slug):
            raise InputError(
                f"slug {self.slug!r}: lower-case letters, digits and hyphens, beginning with a letter or digit"
            )


@dataclass(frozen=True)
class Dataset:
    """The dataset that was scored: its id on the Hub, its revision (a commit) and its split."""

    id: str | None
    revision: str | None
    split: str = "test"


@dataclass(frozen=True)
class ScoreFigures:
    """The figures of a score file.

    Attributes:
      eer_percent: None for a dataset without bona fide trials.
      srr_complement: for a dataset without bona fide trials, the share of spoofs above the threshold, in percent.
      n_trials: of the dataset.
      n_skipped: those without a score.
    """

    eer_percent: float | None
    n_trials: int
    n_skipped: int
    srr_complement: float | None = None

    @property
    def metric(self) -> str:
        """The name of the figure that it has."""
        return "eer_percent" if self.srr_complement is None else SRR_COMPLEMENT


@dataclass(frozen=True)
class Artifact:
    """The score file: its address, its sha256, and the version of the Arena's tool that the result is for."""

    scores_url: str | None
    scores_sha256: str
    bench_version: str | None


@dataclass(frozen=True)
class TransferredThreshold:
    """The threshold of `srr_complement`, and the id of the dataset at whose EER the system reaches it."""

    source_dataset: str | None
    threshold: float


@dataclass(frozen=True)
class Submitter:
    """Who submits: the user name on the Hub, and an address for questions."""

    hf_username: str | None
    contact: str | None


@dataclass(frozen=True)
class Reproduction:
    """How the Arena's maintainers have reproduced a result.

    Attributes:
      reproduced_by: who.
      reproduced_at: a date, such as 2026-11-24.
      reproduced_bench_version: the version of the tool.
      match: of the score file, of the inference, or by the organisers in a closed evaluation.
    """

    reproduced_by: str
    reproduced_at: str
    reproduced_bench_version: str
    match: Literal["scoring", "inference", "organizer", "closed-eval"]


@dataclass(frozen=True)
class ArenaResult:
    """The content of a `result.yaml`. What is not known is None.

    Attributes:
      submitted_at: a date, such as 2026-11-24.
      reproduction: None until maintainers have reproduced the result.
      calibration: for a dataset without bona fide trials.
      notes: free text.
    """

    system: System
    dataset: Dataset
    scores: ScoreFigures
    artifact: Artifact
    submitter: Submitter | None = None
    submitted_at: str | None = None
    reproduction: Reproduction | None = None
    calibration: TransferredThreshold | None = None
    notes: str | None = None

    @property
    def schema_version(self) -> int:
        """The lowest version that has all of this: 4, which every version of the tool accepts, or else 5."""
        newer_match = self.reproduction is not None and self.reproduction.match not in MATCHES[4]
        return 5 if self.system.trained_on or self.calibration is not None or newer_match else 4

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in the order of the file, without what is not known."""
        # An empty reproduction is how a submission states that it has not been reproduced yet.
        content = {"reproduction": {}} | _without_unknown(asdict(self))
        return {"schema_version": self.schema_version} | {name: content[name] for name in _ORDER if name in content}


_ORDER = (
    *("system", "dataset", "scores", "artifact", "reproduction"),
    *("calibration", "submitter", "submitted_at", "notes"),
)


def _without_unknown(content: Mapping[str, Any]) -> dict[str, Any]:
    """Values that are not None, tuples as lists, without those that are empty."""
    known = {}
    for name, value in content.items():
        plain = _without_unknown(value) if isinstance(value, Mapping) else value
        plain = list(plain) if isinstance(plain, tuple) else plain
        if plain is not None and plain != {} and plain != []:
            known[name] = plain
    return known


@dataclass(frozen=True)
class Meta:
    """What a `meta.yaml` of the Arena's tool states: the system, and notes."""

    system: System
    notes: str | None = None


def read_meta(path: Path) -> Meta:
    """Read a `meta.yaml`, whose fields may be incomplete.

    Raises:
      InputError: it cannot be read, or has fields that a submission does not have.
    """
    import yaml

    try:
        with open_plain_file(path) as file:
            content = yaml.safe_load(file)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from error
    try:
        system = dict(content.get("system") or {})
        paper = system.pop("paper", None)
        return Meta(
            System(
                **system | {"trained_on": tuple(system.get("trained_on") or ())},
                paper=None if paper is None else Paper(**paper),
            ),
            content.get("notes"),
        )
    except (AttributeError, TypeError, ValueError) as error:
        fields = ", ".join(System.__dataclass_fields__)
        raise InputError(
            f"{path}: not a meta.yaml of the Arena, which has `system` ({fields}; a paper has "
            f"{', '.join(Paper.__dataclass_fields__)}) and `notes`: {error}"
        ) from error


def make_result(
    scores: Path,
    labels: Labels,
    dataset: str | None,
    *,
    system: System,
    revision: str | None = None,
    scores_url: str | None = None,
    bench_version: str | None = None,
    submitter: Submitter | None = None,
    submitted_at: str | None = None,
    reproduction: Reproduction | None = None,
    calibration: TransferredThreshold | None = None,
    notes: str | None = None,
) -> ArenaResult:
    """The result of a score file.

    Args:
      scores: the score file in the Arena's format. A trial of the labels without a score counts as skipped.
      labels: of the complete dataset.
      dataset: its id on the Hub.
      system: that computed the scores.
      revision: of the dataset, a commit; by default the pinned one, if there is one and it has as many trials.
      scores_url: where the score file lies on the Hub, at a commit.
      bench_version: of the Arena's tool, such as `speech-spoof-bench==0.4.1`.
      submitter, reproduction, notes: see `ArenaResult`.
      submitted_at: by default today.
      calibration: for a dataset without bona fide trials.

    Raises:
      InputError: a score file of another format, or trials that the dataset does not have.
    """
    _check_format(scores)
    return ArenaResult(
        system=system,
        dataset=Dataset(dataset, revision or pinned_commit(dataset, len(labels.utterance_ids))),
        scores=_evaluate(scores, labels, None if calibration is None else calibration.threshold),
        artifact=Artifact(scores_url, _sha256(scores), bench_version),
        submitter=submitter,
        submitted_at=submitted_at or date.today().isoformat(),
        reproduction=reproduction,
        calibration=calibration,
        notes=notes,
    )


def _check_format(path: Path) -> None:
    """Raise InputError unless a score file is in the Arena's format."""
    wrong = None if path.suffix.lower() == ".txt" else "its name does not end in .txt"
    if wrong is None:
        # Others are read too: with a header, or with four fields as the baselines of ASVspoof 2019.
        rows = read_text_rows(path)
        line = next((line for line, row in rows if len(row) != 2 or not is_number(row[1])), None)
        wrong = None if line is None else f"line {line} is not `<utterance_id> <score>`"
    if wrong is not None:
        raise InputError(f"{path}: the Arena takes its own format, which `score --output F.txt` writes; {wrong}")


def pinned_commit(dataset: str | None, num_trials: int) -> str | None:
    """The pinned revision of a dataset, if there is one and it has this number of trials; else None."""
    organisation, _, name = (dataset or "").partition("/")
    _, reported = REPORTED.get(name, ("", None))
    return PINNED.get(name) if organisation == ORGANISATION and num_trials == reported else None


def write_result(result: ArenaResult, path: Path) -> None:
    """Write a `result.yaml`, atomically.

    Raises:
      InputError: the submission is not valid: every problem, a line each.
    """
    import yaml

    content = result.to_dict()
    if problems := check_submission(content):
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise InputError(f"{path}: not a valid submission:{lines}")
    with output_file(path) as file:
        file.write(yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())


def check_result(content: Mapping[str, Any], scores: Path, labels: Labels) -> list[str]:
    """The objections that a reproduction of the scoring would raise, a sentence each; none if the result is right.

    Args:
      content: of a `result.yaml`.
      scores: the score file.
      labels: of the complete dataset.

    Raises:
      InputError: the score file cannot be read, or has trials that the dataset does not have; the result is incomplete.
    """
    stated = _StatedScores.of(content)
    problems = []
    if (sha256 := _sha256(scores)) != stated.sha256:
        problems.append(f"the score file's sha256 is {sha256}, and the result states {stated.sha256}")
    computed = _evaluate(scores, labels, stated.threshold)
    num_scored = computed.n_trials - computed.n_skipped
    if not num_scored + stated.n_skipped == stated.n_trials == computed.n_trials:
        problems.append(
            f"{num_scored:,} scored and {stated.n_skipped:,} skipped of {stated.n_trials:,} trials, and "
            f"{labels.name} has {computed.n_trials:,}"
        )
    figure, stated_figure = getattr(computed, computed.metric), getattr(stated, computed.metric)
    if stated_figure is None or not abs(figure - stated_figure) <= EER_TOLERANCE:
        problems.append(f"{computed.metric} is {figure!r}, and the result states {stated_figure!r}")
    return problems


@dataclass(frozen=True)
class _StatedScores:
    """What a result states of its score file."""

    sha256: object
    n_trials: int
    n_skipped: int
    eer_percent: float | None
    srr_complement: float | None
    threshold: float | None

    @classmethod
    def of(cls, content: Any) -> _StatedScores:
        """Raises InputError: a field is missing or has the wrong type."""
        problems = [str(problem) for problem in check_submission(content) if _concerns_scores(problem.field)]
        if problems:
            raise InputError(
                "not a result: it needs scores (n_trials, n_skipped and a metric) and artifact (scores_sha256)"
                + "".join(f"\n  {problem}" for problem in problems)
            )
        scores = content["scores"]
        return cls(
            content["artifact"]["scores_sha256"],
            scores["n_trials"],
            scores["n_skipped"],
            scores.get("eer_percent"),
            scores.get(SRR_COMPLEMENT),
            content.get("calibration", {}).get("threshold"),
        )


def _concerns_scores(field: str) -> bool:
    objects = ("the submission", "artifact", "artifact.scores_sha256")
    return field in objects or field.partition(".")[0] in ("scores", "calibration")


def _evaluate(path: Path, labels: Labels, threshold: float | None) -> ScoreFigures:
    scores = read_scores(path)
    known = set(labels.utterance_ids)
    if unknown := [str(name) for name in scores.utterance_ids if name not in known]:
        raise InputError(f"{path}: {count(len(unknown), 'trial')} that {labels.name} does not have:{examples(unknown)}")
    num_trials = len(labels.utterance_ids)
    skipped = num_trials - len(scores)
    try:
        if labels.bonafide.any():
            eer_percent = evaluate(scores, labels, common=True, resamples=0).eer_percent
            return ScoreFigures(eer_percent, num_trials, skipped)
        return ScoreFigures(None, num_trials, skipped, _srr_complement(scores, labels, threshold))
    except metrics.MetricError as error:
        raise InputError(f"{path}: {error}") from error


def _srr_complement(scores: Scores, labels: Labels, threshold: float | None) -> float:
    if threshold is None:
        raise InputError(
            f"{labels.name}: no bona fide trials, so that there is no EER; the Arena reports {SRR_COMPLEMENT} at the "
            "threshold of the system's EER on another dataset"
        )
    return evaluate_spoof_only(scores, labels, threshold, common=True, resamples=0).srr_complement


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
