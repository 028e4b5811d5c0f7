"""The options of `evaluate --result`, and the submission that they describe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spectra_jax.errors import InputError

if TYPE_CHECKING:
    from spectra_jax.arena.result import ArenaResult
    from spectra_jax.data.labels import Labels

ResultOption = Annotated[
    Path | None,
    typer.Option(metavar="F", help="Write the Arena's result.yaml too, for a .txt score file of a complete dataset."),
]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The dataset on the Hub: its name in the Arena, or org/name. Its labels are fetched without --labels.",
    ),
]
RevisionOption = Annotated[
    str | None,
    typer.Option(metavar="COMMIT", help="The dataset's commit; needed where none is pinned."),
]
SystemOption = Annotated[str | None, typer.Option(metavar="NAME", help="For --result: the system's name.")]
SlugOption = Annotated[
    str | None, typer.Option(metavar="SLUG", help="For --result: the system's short name, a-z, 0-9 and hyphens.")
]
DescriptionOption = Annotated[str | None, typer.Option(metavar="TEXT", help="For --result: what the system is.")]
CodeOption = Annotated[str | None, typer.Option(metavar="URL", help="For --result: where its code is.")]
CheckpointOption = Annotated[str | None, typer.Option(metavar="URL", help="For --result: where its weights are.")]
ScoresUrlOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="For --result: where the score file is on the Hub, at a commit.",
    ),
]
BenchVersionOption = Annotated[
    str | None,
    typer.Option(metavar="V", help="For --result: version of the Arena's tool, such as speech-spoof-bench==0.4.1."),
]
UserOption = Annotated[str | None, typer.Option(metavar="NAME", help="For --result: your user name on the Hub.")]
ContactOption = Annotated[str | None, typer.Option(metavar="TEXT", help="For --result: how to reach you.")]
MetaOption = Annotated[
    Path | None,
    typer.Option(
        metavar="F",
        help="For --result: the Arena's meta.yaml, `system` (name, slug, description, code, checkpoint, paper, "
        "params_millions, trained_on) and `notes`. Options override it.",
    ),
]
ThresholdDatasetOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="For --result: the dataset that --threshold or --threshold-from is of."),
]

_OPTIONS = {
    "system.name": "--system",
    "system.slug": "--slug",
    "system.description": "--description",
    "system.code": "--code",
    "system.checkpoint": "--checkpoint",
    "dataset.id": "--dataset",
    "dataset.revision": "--revision",
    "artifact.scores_url": "--scores-url",
    "artifact.bench_version": "--bench-version",
    "submitter.hf_username": "--hf-username",
    "submitter.contact": "--contact",
    "calibration.source_dataset": "--threshold-dataset",
}


@dataclass(frozen=True)
class SubmissionOptions:
    """What the options of a submission state; None where they do not.

    Attributes:
      system: `name`, `slug`, `description`, `code` and `checkpoint`.
    """

    dataset: str | None
    revision: str | None
    system: Mapping[str, str | None]
    scores_url: str | None
    bench_version: str | None
    hf_username: str | None
    contact: str | None
    meta: Path | None
    threshold_dataset: str | None

    def make_result(self, scores: Path, labels: Labels, threshold: float | None) -> ArenaResult:
        """The submission of a score file.

        Args:
          scores: the score file.
          labels: of the complete dataset.
          threshold: at which spoofs are accepted, if the dataset has no bona fide trials.

        Raises:
          InputError: facts that are missing or not valid: every one, with the option that states it.
        """
        from spectra_jax.arena.datasets import dataset_id
        from spectra_jax.arena.result import Meta, Submitter, System, TransferredThreshold, make_result, read_meta
        from spectra_jax.arena.submission import check_submission

        meta = Meta(System()) if self.meta is None else read_meta(self.meta)
        source = None if self.threshold_dataset is None else dataset_id(self.threshold_dataset)
        stated: dict[str, Any] = {name: value for name, value in self.system.items() if value is not None}
        result = make_result(
            scores,
            labels,
            None if self.dataset is None else dataset_id(self.dataset),
            system=replace(meta.system, **stated),
            revision=self.revision,
            scores_url=self.scores_url,
            bench_version=self.bench_version,
            submitter=Submitter(self.hf_username, self.contact),
            calibration=None if threshold is None else TransferredThreshold(source, threshold),
            notes=meta.notes,
        )
        if problems := check_submission(result.to_dict()):
            raise InputError(
                "--result: not a valid submission yet"
                + "".join(f"\n  {_OPTIONS.get(problem.field, '--submission-meta')}: {problem}" for problem in problems)
                + _note_on_revision(result, labels)
            )
        return result


def _note_on_revision(result: ArenaResult, labels: Labels) -> str:
    """Why the pinned revision of a dataset was not taken, if it has one."""
    from spectra_jax.arena.reported import REPORTED

    _, trials = REPORTED.get((result.dataset.id or "").rpartition("/")[2], ("", None))
    if result.dataset.revision is not None or trials is None or trials == len(labels.utterance_ids):
        return ""
    return (
        f"\n{result.dataset.id} has {trials:,} trials, and {labels.name} {len(labels.utterance_ids):,}: its labels are "
        "fetched without --labels"
    )


def fetch_labels(dataset: str, revision: str | None) -> Labels:
    """The labels of a dataset on the Hub.

    Args:
      dataset: its name in the Arena, or its id.
      revision: its commit; None for the pinned one.

    Raises:
      InputError: no commit is stated or pinned; a branch or tag; or the dataset has no labels.parquet.
      HubError: it cannot be fetched.
    """
    from spectra_jax import hub
    from spectra_jax.arena.datasets import dataset_id
    from spectra_jax.arena.submission import COMMIT
    from spectra_jax.data.labels import read_labels
    from spectra_jax.data.sources.arena import LABELS, pinned_revision

    identity = dataset_id(dataset)
    commit = revision or pinned_revision(identity)
    if not re.fullmatch(COMMIT, commit):
        problem = (
            "no revision of it is pinned here" if revision is None else f"{revision!r} is not a commit, and may move"
        )
        raise InputError(f"{identity}: {problem}; state the commit that was scored: --revision")
    return read_labels(hub.fetch_dataset_file(identity, commit, LABELS))
