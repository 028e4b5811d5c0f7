"""The Arena's `result.yaml` of a local run, schema version 4, and the check that its `reproduce --scoring` makes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
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
# In percentage points: what the Arena takes for the same EER.
EER_TOLERANCE = 1e-6
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]*")


def result(
    scores: Path,
    labels: Labels,
    dataset: str,
    *,
    system: Mapping[str, Any],
    revision: str | None = None,
    bench_version: str | None = None,
    reproduction: Mapping[str, Any] | None = None,
    submitter: Mapping[str, Any] | None = None,
    submitted_at: str | None = None,
    notes: str | None = None,
) -> dict[str, Any]:
    """The content of a `result.yaml`; null where nothing is known.

    Args:
      scores: the score file in the Arena's format. A trial of the labels that it leaves out counts as skipped.
      labels: of the whole dataset.
      dataset: its id on the Hub.
      system: `name` and `slug`, and what of `description`, `code`, `checkpoint` and `paper` there is.
      revision: of the dataset, a commit; the pinned one otherwise, where there is one.
      bench_version: of the Arena's tool, where it made the scores: `speech-spoof-bench==0.4.0`.
      reproduction: as the Arena has it.
      submitter: as the Arena has it: `hf_username` and `contact`.
      submitted_at: a date, 2026-11-24.
      notes: free text.

    Raises:
      InputError: an impossible slug, another kind of score file, or trials that the dataset does not have.
    """
    slug = str(system.get("slug", ""))
    if not _SLUG.fullmatch(slug):
        raise InputError(f"slug {slug!r}: lower-case letters, digits and hyphens, beginning with a letter or digit")
    if scores.suffix.lower() != ".txt":
        raise InputError(f"{scores}: the Arena takes its own format, which `score --output F.txt` writes")
    found = _evaluated(scores, labels)
    # A branch says nothing of what was scored.
    pinned = pinned_revision(dataset)
    commit = revision or (pinned if pinned != "main" else None)
    return {
        "schema_version": SCHEMA_VERSION,
        "system": {key: system.get(key) for key in ("name", "slug", "description", "code", "checkpoint", "paper")},
        "dataset": {"id": dataset, "revision": commit, "split": "test"},
        "scores": {
            "eer_percent": found["eer_percent"],
            "n_trials": len(labels.utterance_ids),
            "n_skipped": len(labels.utterance_ids) - found["n_bonafide"] - found["n_spoof"],
        },
        "artifact": {"scores_url": None, "scores_sha256": _sha256(scores), "bench_version": bench_version},
        "reproduction": None if reproduction is None else dict(reproduction),
        "submitter": None if submitter is None else dict(submitter),
        "submitted_at": submitted_at,
        "notes": notes,
    }


def write(content: Mapping[str, Any], path: Path) -> None:
    """Write a `result.yaml`, whole or not at all."""
    import yaml

    with output_file(path) as file:
        file.write(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True).encode())


def check(content: Mapping[str, Any], scores: Path, labels: Labels) -> list[str]:
    """What a reproduction of the scoring would object to, a sentence each; nothing where it holds.

    Raises:
      InputError: the score file cannot be read, or has trials that the dataset does not have; the result lacks what is
        checked.
    """
    problems = []
    try:
        stated, artifact = content["scores"], content["artifact"]
        complete = all(isinstance(stated[key], int) for key in ("n_trials", "n_skipped"))
        complete = complete and isinstance(stated["eer_percent"], int | float) and "scores_sha256" in artifact
    except (KeyError, TypeError):
        complete = False
    if not complete:
        raise InputError("no result: it needs scores (eer_percent, n_trials, n_skipped) and artifact (scores_sha256)")
    if (digest := _sha256(scores)) != artifact["scores_sha256"]:
        problems.append(f"the score file's sha256 is {digest}, and the result states {artifact['scores_sha256']}")
    found = _evaluated(scores, labels)
    scored, trials = found["n_bonafide"] + found["n_spoof"], len(labels.utterance_ids)
    if not scored + stated["n_skipped"] == stated["n_trials"] == trials:
        problems.append(
            f"{scored:,} scored and {stated['n_skipped']:,} skipped of {stated['n_trials']:,} trials, and "
            f"{labels.name} has {trials:,}"
        )
    if not abs(found["eer_percent"] - stated["eer_percent"]) <= EER_TOLERANCE:
        problems.append(f"the EER comes to {found['eer_percent']!r} %, and the result states {stated['eer_percent']!r}")
    return problems


def _evaluated(path: Path, labels: Labels) -> Mapping[str, Any]:
    scores = read_scores(path)
    known = set(labels.utterance_ids)
    if unknown := [str(name) for name in scores.utterance_ids if name not in known]:
        raise InputError(f"{path}: {count(len(unknown), 'trial')} that {labels.name} does not have:{examples(unknown)}")
    try:
        return evaluate(scores, labels, common=True, resamples=0).numbers
    except metrics.MetricError as error:
        raise InputError(f"{path}: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
