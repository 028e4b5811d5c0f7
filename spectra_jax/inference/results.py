"""What scoring yields: one result a trial, written as a score file or as a table for programs.

    check_output(Path("scores.txt"))            # before hours of scoring
    write(results, Path("scores.txt"))          # .txt, .csv or .jsonl; complete or not at all

| extension | holds |
| --- | --- |
| .txt | the Arena's score file: `<utterance_id> <score, six decimals>`; skipped trials are left out |
| .csv | a header, then a line for each trial, skipped ones included; `logit_spoof` and `logit_bonafide` are columns |
| .jsonl | a line with a JSON object for each trial, skipped ones included; `logits` is [spoof, bona fide] |

Ids with white space or control characters cannot be in a `.txt`: they are refused, or encoded with `escape_ids`.
Numbers in `.csv` and `.jsonl` read back as exactly the same floats. On a terminal, results are printed by
`spectra_jax.reporting.results_table`.
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
from typing import Any, TextIO

from spectra_jax.data.score_files import RANK_GAP, RANK_GAP_POOL, score_line
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.files.outputs import output_file, require_writable


@dataclass(frozen=True)
class Result:
    """The result of one trial: logits or an error, never both and never neither.

    Attributes:
      trial: what was scored.
      logits: (spoof, bona fide), finite; None for a skipped trial. Any float type is converted to Python's.
      seconds: length of the clip at its own rate; None where it could not be read.
      flags: remarks on a scored clip, such as "silent".
      error: why the trial was skipped; None for a scored one.
      rank_gap: the smallest rank gap in any graph pool (`spectra_jax.model.rank_gap`); None without diagnostics.
      rank_gap_pool: that pool's name.
      log_likelihood_ratio: natural logarithm of p(score | bona fide) / p(score | spoof), by a calibration; or None.
      spoof_probability: P(spoof | score) at the prior that the calibration was given; or None.
      sha256: of the clip's samples, see `spectra_jax.audio.Decoded`; None where it could not be read.
      window_scores: of every window; None where only the first was requested.

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
        """The bona fide logit: higher = more bona fide. None for a skipped trial."""
        return None if self.logits is None else self.logits[1]

    def to_dict(self) -> dict[str, Any]:
        """The object of a `.jsonl` file: plain values, without the optional ones that are None."""
        record = {
            "utterance_id": self.trial.utterance_id,
            "path": str(self.trial.path),
            "score": self.score,
            "logits": self.logits,
            "seconds": self.seconds,
            "label": self.trial.label,
            "flags": self.flags,
            "error": self.error,
        }
        optional = {column: getattr(self, name) for name, column in _OPTIONAL.items()}
        return record | {column: value for column, value in optional.items() if value is not None}


CERTIFIED = "certified"
"""The flag of a trial that was scored again in float64, because its graph pools nearly tied."""

# Attributes that only some runs compute, and their names in files.
_OPTIONAL = {
    "rank_gap": RANK_GAP,
    "rank_gap_pool": RANK_GAP_POOL,
    "log_likelihood_ratio": "log_likelihood_ratio",
    "spoof_probability": "spoof_probability",
}
_CSV_COLUMNS = (
    *("utterance_id", "path", "score", "logit_spoof", "logit_bonafide", "seconds", "label", "flags", "error"),
    *_OPTIONAL.values(),
)


def _write_txt(results: Iterable[Result], file: TextIO, *, escape_ids: bool = False) -> None:
    for result in results:
        if result.score is not None:
            file.write(score_line(result.trial.utterance_id, result.score, escape=escape_ids))


def _write_csv(results: Iterable[Result], file: TextIO) -> None:
    # Lines end in CR LF, as RFC 4180 requires and spreadsheets write.
    writer = csv.writer(file)
    writer.writerow(_CSV_COLUMNS)
    for result in results:
        # csv writes floats as repr does, which reads back exactly, and None as an empty cell.
        spoof, bona_fide = result.logits or (None, None)
        trial, flags = result.trial, ";".join(result.flags)
        numbers = (result.score, spoof, bona_fide, result.seconds)
        optional = (getattr(result, name) for name in _OPTIONAL)
        writer.writerow((trial.utterance_id, trial.path, *numbers, trial.label, flags, result.error, *optional))


def _write_jsonl(results: Iterable[Result], file: TextIO) -> None:
    for result in results:
        file.write(json.dumps(result.to_dict(), ensure_ascii=False, allow_nan=False) + "\n")


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
    """Check that `write` can write `output`, by creating a file beside it and removing that again.

    Raises:
      InputError: an unknown extension, an unwritable folder, or an existing `output` that is not a plain file.
    """
    _writer(output)
    require_writable(output)


def write(results: Iterable[Result], output: Path, *, escape_ids: bool = False) -> None:
    """Write `results` in their order to `output`, in the format of its extension; see the top of this file.

    The file appears complete or not at all, and replaces an existing one: a full disk, a kill or a failure in `results`
    leaves the existing one unchanged.

    Args:
      results: one for each trial.
      output: its name ends in .txt, .csv or .jsonl.
      escape_ids: in a .txt, write ids by `spectra_jax.data.score_files.escape_id`. The other formats hold any id.

    Raises:
      InputError: an unknown extension, or an id that a .txt cannot hold.
      OSError: the disk is full, or fails.
    """
    writer = _writer(output)
    if escape_ids and writer is _write_txt:
        writer = partial(_write_txt, escape_ids=True)
    with output_file(output) as binary:
        # A path need not be UTF-8. Other bytes are written as \udcXX, which JSON reads back.
        file = io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", newline="")
        writer(results, file)
        file.flush()
        file.detach()
