"""Which trials are bona fide: manifests, the Arena's `labels.parquet`, and the protocols of ASVspoof.

    labels = read_labels("ASVspoof2019.LA.cm.eval.trl.txt")

| file | recognised by | label |
| --- | --- | --- |
| .csv, .tsv, .jsonl manifest | a column `label`, and `utterance_id`, or `path` for its stem | bonafide, spoof |
| .parquet | columns `utterance_id` and `label` | 0 = bona fide, 1 = spoof, or the words |
| ASVspoof 2019 LA and PA protocol | 5 fields a line | bonafide, spoof |
| ASVspoof 2021 LA key | 8 fields | the same |
| ASVspoof 2021 DF key | 9 to 13 fields, the label in the sixth | the same |
| ASVspoof 5 protocol, track 1 (.tsv, .txt) | 10 fields, the label in the ninth | the same |

Sources: the README files and keys that ASVspoof 2019, 2021 and 5 publish with their data; `labels.parquet` of the
Speech Anti-Spoofing Arena's datasets. Other columns (speaker, attack, codec, ...) are kept, to evaluate by.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spectra_jax.score_file import Scores, as_column, read_columns, require_distinct
from spectra_jax.trials import InputError, count, csv_rows, examples, read_text

# Fields of each protocol, as their README files name them. A dash stands for a field of no use here.
_PROTOCOLS: dict[str, tuple[str, ...]] = {
    "ASVspoof 2019": ("speaker", "utterance_id", "environment", "attack", "label"),
    "ASVspoof 2021 LA": (*("speaker", "utterance_id", "codec", "transmission", "attack", "label", "trim", "subset"),),
    "ASVspoof 5": (
        *("speaker", "utterance_id", "gender", "codec", "codec_quality", "codec_seed", "attack_tag", "attack"),
        *("label", "-"),
    ),
    "ASVspoof 2021 DF": (
        *("speaker", "utterance_id", "codec", "source", "attack", "label", "trim", "subset", "vocoder"),
        *("task", "team", "gender_pair", "language"),
    ),
}
# What protocols write where there is nothing to say, such as the attack of a bona fide trial.
NOTHING = frozenset({"", "-"})


@dataclass(frozen=True)
class Labels:
    """Which of the trials are bona fide.

    Attributes:
      name: of the file.
      utterance_ids: (n,) strings, each once.
      bonafide: (n,) bool.
      columns: (n,) arrays by name, whatever else the file says of a trial: `speaker`, `attack`, `codec`, ...
    """

    name: str
    utterance_ids: np.ndarray
    bonafide: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)


def read_labels(path: str | Path) -> Labels:
    """Read labels; see the top of this file for from what.

    Raises:
      InputError: not there, none of these formats, an unknown label, ids that are empty or shared: with counts and
        examples.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    # ASVspoof 5 calls files .tsv that have spaces between their fields.
    if suffix in (".parquet", ".jsonl") or (suffix in (".csv", ".tsv") and _has_header(path)):
        return _from_table(path)
    return _from_protocol(path)


def labels_of(scores: Scores) -> Labels:
    """The labels that a score file brings itself, in its column `label`.

    Raises:
      InputError: it has no such column, or trials without a label: how many, and examples.
    """
    if "label" not in scores.columns:
        raise InputError(f"{scores.name}: no labels in it; give them with --labels")
    columns = {name: values for name, values in scores.columns.items() if name != "label"}
    bonafide = _bonafide(scores.name, list(scores.utterance_ids), list(scores.columns["label"]), numbers=False)
    return Labels(scores.name, scores.utterance_ids, bonafide, columns)


def _has_header(path: Path) -> bool:
    _, header = next(csv_rows(path), (0, [""]))
    names = {name.lower() for name in header}
    return "label" in names or len(names) > 1


def _from_table(path: Path) -> Labels:
    columns = dict(read_columns(path))
    if "label" not in columns:
        raise InputError(f"{path}: no column `label`; it has {', '.join(columns) or 'none'}")
    if "utterance_id" in columns:
        ids = [str(value or "") for value in columns.pop("utterance_id")]
    elif "path" in columns:
        ids = [Path(str(value or "")).stem for value in columns["path"]]
    else:
        raise InputError(f"{path}: no column `utterance_id` or `path`; it has {', '.join(columns)}")
    given = columns.pop("label")
    # The Arena's parquet files define the numbers; in a manifest anybody's 0 could be either.
    return _checked(path, ids, given, columns, numbers=path.suffix.lower() == ".parquet")


def _from_protocol(path: Path) -> Labels:
    lines = [(number, line.split()) for number, line in enumerate(read_text(path).split("\n"), start=1)]
    rows = [(number, row) for number, row in lines if row]
    if not rows:
        raise InputError(f"{path}: empty")
    width = len(rows[0][1])
    names = next((names for names in _PROTOCOLS.values() if _fits(names, rows[0][1])), None)
    if names is None:
        known = ", ".join(f"{name} ({len(fields)} fields)" for name, fields in _PROTOCOLS.items())
        raise InputError(
            f"{path}, line {rows[0][0]}: {count(width, 'field')}, none of the known protocols: {known}; nor a manifest "
            f"(.csv, .tsv, .jsonl, .parquet) with columns utterance_id and label: {' '.join(rows[0][1])[:80]!r}"
        )
    if wrong := [f"line {number}: {' '.join(row)[:80]!r}" for number, row in rows if len(row) != width]:
        raise InputError(
            f"{path}: {count(len(wrong), 'line')} without the {width} fields of the first:{examples(wrong)}"
        )
    columns: dict[str, Sequence[Any]] = dict(zip(names, zip(*(row for _, row in rows), strict=True), strict=False))
    columns.pop("-", None)
    ids = columns.pop("utterance_id")
    return _checked(path, ids, columns.pop("label"), columns, numbers=False)


def _fits(names: Sequence[str], row: Sequence[str]) -> bool:
    place = names.index("label")
    # Of DF's thirteen fields, some copies leave out the last ones.
    shortest = 9 if "vocoder" in names else len(names)
    return shortest <= len(row) <= len(names) and _word(row[place]) is not None


def _checked(
    path: Path, ids: Sequence[str], given: Sequence[Any], columns: Mapping[str, Sequence[Any]], *, numbers: bool
) -> Labels:
    if not ids:
        raise InputError(f"{path}: no trials in it")
    if empty := sum(not identity for identity in ids):
        raise InputError(f"{path}: {count(empty, 'trial')} without an utterance_id")
    require_distinct(path, ids)
    bonafide = _bonafide(str(path), ids, given, numbers=numbers)
    return Labels(path.name, np.array(ids, object), bonafide, {name: as_column(v) for name, v in columns.items()})


def _bonafide(name: str, ids: Sequence[str], given: Sequence[Any], *, numbers: bool) -> np.ndarray:
    known = {value: _label(value, numbers=numbers) for value in set(given)}
    unknown = [f"{identity}: {value!r}" for identity, value in zip(ids, given, strict=True) if known[value] is None]
    if unknown:
        words = "0 (bona fide), 1 (spoof), `bonafide`" if numbers else "`bonafide`"
        raise InputError(
            f"{name}: {count(len(unknown), 'label')} neither {words} nor `spoof`:{examples(unknown)}"
            + ("" if numbers else "\nNumbers are not guessed at: corpora disagree on which is which.")
        )
    return np.array([known[value] for value in given], bool)


def _label(value: Any, *, numbers: bool) -> bool | None:
    if numbers and not isinstance(value, str):
        return {0: True, 1: False}.get(value)
    return _word(str(value))


def _word(text: str) -> bool | None:
    return {"bonafide": True, "spoof": False}.get(re.sub(r"[ _-]", "", text.lower()))
