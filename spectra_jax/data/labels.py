"""Which trials are bona fide: manifests, the Arena's `labels.parquet`, and the lists that corpora publish.

    labels = read_labels("ASVspoof2019.LA.cm.eval.trl.txt")

| file | recognised by | label |
| --- | --- | --- |
| a header: .csv, .tsv, .txt; .jsonl | a column `label`, and `utterance_id`, or `path` for its stem | a word |
| .parquet | the same columns | a word; in a column `label` also 0 = bona fide, 1 = spoof |
| a list without a header | the number of its fields, and the one that has the labels | a word |
| MLAAD's meta.csv | its columns | none: all are spoofed |

The lists are those of ASVspoof 2015, 2017, 2019, 2021 (LA, DF, PA) and 5, and of ADD. `spectra_jax.data.conventions`
has their fields, the words for bona fide and spoof, and the other names that columns may have, such as `file` for
`path`. Other columns (speaker, attack, codec, ...) are kept, to evaluate by. Sources: the README files and keys that
are published with the data; `labels.parquet` of the Speech Anti-Spoofing Arena's datasets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from spectra_jax.data.conventions import (
    ALL_SPOOFED,
    BONAFIDE_WORDS,
    PROTOCOLS,
    SPOOF_WORDS,
    Match,
    Protocol,
    is_bonafide,
    known_names,
)
from spectra_jax.data.score_files import Scores
from spectra_jax.data.tables import (
    as_column,
    as_text,
    column_of,
    headed,
    matched,
    read_columns,
    require_ids,
    stem,
    take_ids,
    text_rows,
)
from spectra_jax.errors import InputError
from spectra_jax.messages import count, examples

SUBSET = "subset"


@dataclass(frozen=True)
class Labels:
    """Which of the trials are bona fide.

    Attributes:
      name: of the file.
      utterance_ids: (n,) strings, each once.
      bonafide: (n,) bool.
      columns: (n,) arrays by name, whatever else the file states of a trial: `speaker`, `attack`, `codec`, ...
    """

    name: str
    utterance_ids: np.ndarray
    bonafide: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)


def read_labels(path: str | Path, *, match: Match = "exact") -> Labels:
    """Read labels; see the top of this file for from what.

    Args:
      path: of the file.
      match: how the ids will be compared with those of a score file.

    Raises:
      InputError: not there, none of these formats, an unknown label, ids that are empty or shared: with counts and
        examples.
    """
    path = Path(path)
    if path.suffix.lower() in (".parquet", ".jsonl"):
        return _from_table(path, read_columns(path), match)
    rows = list(text_rows(path))
    if not rows:
        raise InputError(f"{path}: no trials in it")
    # A first trial may be called `file` or `key`.
    if known_names(rows[0][1]) and not _fitting(rows[0][1]):
        return _from_table(path, headed(path, rows), match)
    return _from_protocol(path, rows, match)


def labels_of(scores: Scores) -> Labels:
    """The labels that a score file brings itself, in its column `label`.

    Raises:
      InputError: it has no such column, or trials without a label: how many, and examples.
    """
    column = column_of(scores.name, scores.columns, "label")
    if column is None:
        raise InputError(f"{scores.name}: no labels in it; give a file that has them with --labels")
    columns = {name: values for name, values in scores.columns.items() if name != column}
    bonafide = _bonafide(scores.name, list(scores.utterance_ids), list(scores.columns[column]), numbers=False)
    return Labels(scores.name, scores.utterance_ids, bonafide, columns)


def own_label_words(scores: Scores) -> list[bool | None] | None:
    """What a score file's own column of labels states of each trial, None where nothing; or None without a column."""
    column = column_of(scores.name, scores.columns, "label")
    return None if column is None else [is_bonafide(str(value)) for value in scores.columns[column]]


def subset_counts(columns: Mapping[str, np.ndarray]) -> dict[str, int]:
    """How many trials each subset has, such as `progress`, `eval` and `hidden` of a 2021 key; {} without the column."""
    names = Counter(str(value) for value in columns.get(SUBSET, ()))
    return dict(sorted(names.items()))


def take_subset(scores: Sequence[Scores], labels: Labels, subset: str) -> tuple[list[Scores], Labels]:
    """Score files and labels without the trials of other subsets.

    Args:
      scores: of some or all of the trials; trials that the labels do not have are kept.
      labels: with a column `subset`.
      subset: to keep.

    Raises:
      InputError: no such column or subset; the message names those that there are.
    """
    counts = subset_counts(labels.columns)
    if not counts:
        columns = ", ".join(labels.columns) or "none"
        raise InputError(f"{labels.name}: no column `{SUBSET}`, which --subset {subset} needs; it has {columns}")
    if subset not in counts:
        there = ", ".join(f"{name} ({count(number, 'trial')})" for name, number in counts.items())
        raise InputError(f"{labels.name}: no subset {subset!r}; it has {there}")
    kept = np.array([str(value) == subset for value in labels.columns[SUBSET]], bool)
    others = set(labels.utterance_ids[~kept])
    taken = replace(
        labels,
        utterance_ids=labels.utterance_ids[kept],
        bonafide=labels.bonafide[kept],
        columns={name: column[kept] for name, column in labels.columns.items()},
    )
    return [_without(one, others) for one in scores], taken


def _without(scores: Scores, ids: set[str]) -> Scores:
    kept = np.array([identity not in ids for identity in scores.utterance_ids], bool)
    return replace(
        scores,
        utterance_ids=scores.utterance_ids[kept],
        scores=scores.scores[kept],
        columns={name: column[kept] for name, column in scores.columns.items()},
        skipped={identity: reason for identity, reason in scores.skipped.items() if identity not in ids},
    )


def _from_table(path: Path, columns: dict[str, Sequence[Any]], match: Match) -> Labels:
    label = column_of(path, columns, "label")
    # Before a column of ids is taken out.
    names = frozenset(columns)
    all_spoofed = any(known <= names for known in ALL_SPOOFED.values())
    if label is None and not all_spoofed:
        raise InputError(f"{path}: no column `label`; it has {', '.join(columns) or 'none'}")
    ids = take_ids(path, columns, match)
    given = ["spoof"] * len(ids) if label is None else columns.pop(label)
    # The Arena's parquet files define the numbers; in a manifest anybody's 0 could be either.
    return _checked(path, ids, given, columns, numbers=path.suffix.lower() == ".parquet" and label == "label")


def _from_protocol(path: Path, rows: Sequence[tuple[int, Sequence[str]]], match: Match) -> Labels:
    width = len(rows[0][1])
    protocol = _protocol(path, rows)
    if wrong := [f"line {number}: {' '.join(row)[:80]!r}" for number, row in rows if len(row) != width]:
        raise InputError(
            f"{path}: {count(len(wrong), 'line')} without the {width} fields of the first:{examples(wrong)}"
        )
    values = zip(*(row for _, row in rows), strict=True)
    columns: dict[str, Sequence[Any]] = dict(zip(protocol.fields, values, strict=False))
    columns.pop("-", None)
    if "path" in protocol.fields:
        # Files of one folder, which need no column of their own.
        paths = columns.pop("path")
        ids = matched(paths, match) if match == "path" else list(map(stem, paths))
    else:
        ids = matched(columns.pop("utterance_id"), match)
    require_ids(path, ids)
    return _checked(path, ids, columns.pop("label"), columns, numbers=False)


def _protocol(path: Path, rows: Sequence[tuple[int, Sequence[str]]]) -> Protocol:
    """The one whose labels are where these rows have label words."""
    line, first = rows[0]
    found = _fitting(first)
    if not found:
        known = ", ".join(f"{protocol.name} ({len(protocol.fields)} fields)" for protocol in PROTOCOLS)
        raise InputError(
            f"{path}, line {line}: {count(len(first), 'field')}, neither a line of a known protocol ({known}) nor a "
            "header with a column `label` and `utterance_id` or `path`; labels are "
            f"{BONAFIDE_WORDS} or {SPOOF_WORDS}: {' '.join(first)[:80]!r}"
        )
    # Of several that the first line fits, those that all lines fit, if any.
    same = [row for _, row in rows if len(row) == len(first)]
    labels = {protocol.name: [_label(protocol, row) for row in same] for protocol in found}
    fitting = [protocol for protocol in found if None not in labels[protocol.name]] or found[:1]
    if any(labels[protocol.name] != labels[fitting[0].name] for protocol in fitting):
        names = " and ".join(protocol.name for protocol in fitting)
        raise InputError(
            f"{path}: its lines could be those of {names}, which disagree on the labels; "
            "make it a .csv with the columns utterance_id and label"
        )
    return fitting[0]


def _fitting(row: Sequence[str]) -> list[Protocol]:
    """The protocols that have label words where a row has one."""
    return [protocol for protocol in PROTOCOLS if protocol.fits(len(row)) and _label(protocol, row) is not None]


def _label(protocol: Protocol, row: Sequence[str]) -> bool | None:
    return is_bonafide(row[protocol.fields.index("label")])


def _checked(
    path: Path, ids: Sequence[str], given: Sequence[Any], columns: Mapping[str, Sequence[Any]], *, numbers: bool
) -> Labels:
    bonafide = _bonafide(str(path), ids, given, numbers=numbers)
    return Labels(path.name, np.array(ids, object), bonafide, {name: as_column(v) for name, v in columns.items()})


def _bonafide(name: str, ids: Sequence[str], given: Sequence[Any], *, numbers: bool) -> np.ndarray:
    # By type too: 0, False and 0.0 are equal.
    known = {(type(value), str(value)): _meaning(value, numbers=numbers) for value in given}
    found = [known[type(value), str(value)] for value in given]
    unknown = [
        f"{identity}: {as_text(value)!r:.80}"
        for identity, value, one in zip(ids, given, found, strict=True)
        if one is None
    ]
    if unknown:
        raise InputError(
            f"{name}: {count(len(unknown), 'label')} neither {'0 (bona fide), 1 (spoof), ' if numbers else ''}"
            f"`bonafide` nor `spoof`, nor another word for them ({BONAFIDE_WORDS}; {SPOOF_WORDS}):{examples(unknown)}"
            + ("" if numbers else "\nNumbers are not guessed: corpora disagree on which is which.")
        )
    return np.array(found, bool)


def _meaning(value: Any, *, numbers: bool) -> bool | None:
    if numbers and isinstance(value, int | float) and not isinstance(value, bool):
        return {0.0: True, 1.0: False}.get(value)
    return is_bonafide(str(value))
