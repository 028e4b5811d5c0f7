"""What scoring leaves behind: one result a trial, as a score file, a table for programs, or one for people.

    check_output(Path("scores.txt"))            # before hours of scoring
    write(results, Path("scores.txt"))          # .txt, .csv or .jsonl; whole or not at all
    table(results, Console())

| extension | holds |
| --- | --- |
| .txt | the Arena's score file: `<utterance_id> <score, six decimals>`; skipped trials are left out, and ids with white
space or control characters are refused, or with `escape_ids` written as in a URL |
| .csv | a header, then a line a trial, skipped ones too; `logit_spoof` and `logit_bonafide` in columns of their own |
| .jsonl | a JSON object a line and trial, skipped ones too; `logits` is [spoof, bona fide] |

Numbers in `.csv` and `.jsonl` read back as the very same floats.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from rich.console import Console

from spectra_jax.data.score_files import RANK_GAP, RANK_GAP_POOL, score_line
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.files.outputs import output_file, require_writable
from spectra_jax.reporting.console import Column, print_table


@dataclass(frozen=True)
class Result:
    """What came of one trial: logits or an error, never both and never neither.

    Attributes:
      trial: what was scored.
      logits: (spoof, bona fide), finite; None for a skipped trial. Any float type is taken, and kept as a Python float.
      seconds: length of the clip at its own rate; None where it could not be read.
      flags: remarks on a scored clip, such as "silent".
      error: why the trial was skipped; None for a scored one.
      rank_gap: the smallest rank gap in any graph pool (`spectra_jax.model.rank_gap`); None where nobody asked.
      rank_gap_pool: that pool's name.
      log_likelihood_ratio: natural logarithm of p(score | bona fide) / p(score | spoof), by a calibration; or None.
      spoof_probability: P(spoof | score) at the prior that the calibration was asked for; or None.
      sha256: of the clip's samples, see `spectra_jax.audio.Decoded`; None where it could not be read.
      window_scores: of every window, where more than the first was asked for; else None.

    Raises:
      ValueError: numbers that are not finite, or logits and error both given or both missing.
    """

    trial: Trial
    logits: tuple[float, float] | None
    seconds: float | None = None
    flags: tuple[str, ...] = ()
    error: str | None = None
    rank_gap: float | None = None
    rank_gap_pool: str | None = None
    log_likelihood_ratio: float | None = None
    spoof_probability: float | None = None
    sha256: str | None = None
    window_scores: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        name = self.trial.utterance_id
        if (self.logits is None) == (self.error is None):
            raise ValueError(f"{name}: a result has either logits or an error, not {self.logits} and {self.error!r}")
        if self.logits is not None:
            spoof, bona_fide = (float(logit) for logit in self.logits)
            if not (math.isfinite(spoof) and math.isfinite(bona_fide)):
                raise ValueError(f"{name}: logits ({spoof}, {bona_fide}) are not finite: an error and not a result")
            object.__setattr__(self, "logits", (spoof, bona_fide))
        if self.seconds is not None:
            if not math.isfinite(self.seconds):
                raise ValueError(f"{name}: a length of {self.seconds} seconds")
            object.__setattr__(self, "seconds", float(self.seconds))

    @property
    def score(self) -> float | None:
        """The bona fide logit: higher = more bona fide (a real person). None for a skipped trial."""
        return None if self.logits is None else self.logits[1]


CERTIFIED = "certified"
"""The flag of a trial that was scored again in float64, because its graph pools nearly tied."""

# What only some runs find, and the name that files give it.
_EXTRAS = {
    "rank_gap": RANK_GAP,
    "rank_gap_pool": RANK_GAP_POOL,
    "log_likelihood_ratio": "log_likelihood_ratio",
    "spoof_probability": "spoof_probability",
}
_CSV_COLUMNS = (
    *("utterance_id", "path", "score", "logit_spoof", "logit_bonafide", "seconds", "label", "flags", "error"),
    *_EXTRAS.values(),
)


def _write_txt(results: Iterable[Result], file: TextIO, *, escape_ids: bool = False) -> None:
    for result in results:
        if result.score is not None:
            file.write(score_line(result.trial.utterance_id, result.score, escape=escape_ids))


def _write_csv(results: Iterable[Result], file: TextIO) -> None:
    # Lines end in CR LF, as RFC 4180 has it and spreadsheets write it.
    writer = csv.writer(file)
    writer.writerow(_CSV_COLUMNS)
    for result in results:
        # csv writes floats as repr does, which reads back exactly, and None as an empty cell.
        spoof, bona_fide = result.logits or (None, None)
        trial, flags = result.trial, ";".join(result.flags)
        numbers = (result.score, spoof, bona_fide, result.seconds)
        extras = (getattr(result, name) for name in _EXTRAS)
        writer.writerow((trial.utterance_id, trial.path, *numbers, trial.label, flags, result.error, *extras))


def _write_jsonl(results: Iterable[Result], file: TextIO) -> None:
    for result in results:
        record = {
            "utterance_id": result.trial.utterance_id,
            "path": str(result.trial.path),
            "score": result.score,
            "logits": result.logits,
            "seconds": result.seconds,
            "label": result.trial.label,
            "flags": result.flags,
            "error": result.error,
        }
        extras = {column: getattr(result, name) for name, column in _EXTRAS.items()}
        record |= {column: value for column, value in extras.items() if value is not None}
        file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


_WRITERS: dict[str, Callable[[Iterable[Result], TextIO], None]] = {
    ".txt": _write_txt,
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
}


def _writer(output: Path) -> Callable[[Iterable[Result], TextIO], None]:
    if output.suffix.lower() not in _WRITERS:
        raise InputError(
            f"{output}: not a known format of result files; its name must end in one of {', '.join(_WRITERS)}"
        )
    return _WRITERS[output.suffix.lower()]


def check_output(output: Path) -> None:
    """See that `write` will be able to write `output`, by creating a file beside it and removing that again.

    Raises:
      InputError: an unknown extension, an unwritable folder, or something there that is not a plain file.
    """
    _writer(output)
    require_writable(output)


def write(results: Iterable[Result], output: Path, *, escape_ids: bool = False) -> None:
    """Write `results` in their order to `output`, in the format its extension names; see the top of this file.

    The file appears whole or not at all, replacing one that was there: a full disk, a kill or a failure in `results`
    leaves the old one as it was.

    Args:
      results: one a trial.
      output: its name ends in .txt, .csv or .jsonl.
      escape_ids: in a .txt, write ids as `spectra_jax.data.score_files.escape_id` has them. Other kinds hold any id.

    Raises:
      InputError: an unknown extension, or an id that a .txt cannot hold.
      OSError: the disk said no.
    """
    writer = _writer(output)
    if escape_ids and writer is _write_txt:
        writer = partial(_write_txt, escape_ids=True)
    with output_file(output) as binary:
        # A path need not be UTF-8. What is not becomes \udcXX, which JSON reads back and which fails no writing.
        file = io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", newline="")
        writer(results, file)
        file.flush()
        file.detach()


# Optional columns are left out of a table on a narrow terminal, the least important first.
_TABLE = (
    Column("id", "text"),
    Column("score", "number"),
    Column("seconds", "number", optional=1),
    Column("rank gap", "number", optional=3),
    Column("pool", "text", optional=2),
    Column("P(spoof)", "number"),
    Column("label"),
    Column("notes", "text"),
)


def table(results: Iterable[Result], console: Console) -> None:
    """Print a table in the order of `results`: id, score, length, and the label and notes where there are any.

    Ids and numbers are always printed whole; see `spectra_jax.reporting.console`.
    """
    results = list(results)
    rows = [
        (
            result.trial.utterance_id,
            "-" if result.score is None else f"{result.score:.4f}",
            "-" if result.seconds is None else f"{result.seconds:.2f}",
            "" if result.rank_gap is None else f"{result.rank_gap:.2g}",
            result.rank_gap_pool or "",
            "" if result.spoof_probability is None else f"{result.spoof_probability:.3f}",
            result.trial.label or "",
            f"skipped: {result.error}" if result.error else ", ".join(result.flags),
        )
        for result in results
    ]
    kept = [index for index in range(len(_TABLE)) if index < 3 or any(row[index] for row in rows)]
    print_table(console, [_TABLE[index] for index in kept], [[row[index] for index in kept] for row in rows])
    scored = sum(result.score is not None for result in results)
    skipped = f", {len(results) - scored:,} skipped" if scored < len(results) else ""
    console.print(f"{scored:,} scored{skipped}. Higher = more bona fide (human). No threshold is applied.")
