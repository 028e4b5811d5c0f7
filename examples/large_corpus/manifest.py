"""Rows of the corpus's manifest, with the columns of `examples/corpus/manifest.csv`."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from examples.large_corpus.packages import compute_sha256

SMALL_CORPUS = Path(__file__).parents[1] / "corpus"


@dataclass(frozen=True)
class Clip:
    """One clip; the fields are the manifest's columns."""

    utterance_id: str
    path: str
    split: str
    label: str
    speaker: str
    attack: str
    pair: str
    source: str
    seconds: str
    license: str
    sha256: str


COLUMNS = tuple(field.name for field in fields(Clip))


def split_of_clip(split: str, number: int) -> str:
    """Split of a person's clip of this number: every sixth clip of a training speaker is in dev."""
    return "dev" if split == "train" and number % 6 == 5 else split


def clip_row(
    utterance_id: str,
    path: Path,
    split: str,
    *,
    label: str,
    speaker: str,
    attack: str,
    pair: str,
    source: str,
    seconds: float,
    license: str,  # noqa: A002
) -> Clip:
    """Row of a clip that was written to `path`, with its hash."""
    return Clip(
        utterance_id,
        f"{split}/{path.name}",
        split,
        label,
        speaker,
        attack,
        pair,
        source,
        f"{seconds:.3f}".rstrip("0").rstrip("."),
        license,
        compute_sha256(path),
    )


def read_manifest(path: Path) -> list[Clip]:
    """Rows of a manifest."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Clip(**row) for row in csv.DictReader(file)]


def write_manifest(path: Path, rows: Iterable[Clip]) -> None:
    """Write a manifest, sorted by split and identifier."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in sorted(rows, key=lambda row: (row.split, row.utterance_id)))


def copy_small_corpus(output: Path) -> list[Clip]:
    """Copy the clips of `examples/corpus` as they are; returns their rows."""
    rows = read_manifest(SMALL_CORPUS / "manifest.csv")
    for row in rows:
        path = output / row.path
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SMALL_CORPUS / row.path, path)
    return rows


def check_disjoint(rows: Iterable[Clip]) -> None:
    """Raise unless no speaker of eval is in train or dev, and each identifier occurs once.

    Raises:
        ValueError: With the speakers or identifiers that occur twice.
    """
    rows = list(rows)
    trained = {row.speaker for row in rows if row.split != "eval"}
    both = sorted(trained & {row.speaker for row in rows if row.split == "eval"})
    if both:
        raise ValueError(f"speakers in eval and in train or dev: {', '.join(both)}; give each one split")
    counts = Counter(row.utterance_id for row in rows)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        raise ValueError(f"identifiers that occur twice: {', '.join(repeated[:5])}; rename the clips")
