"""What is reproduced, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spectra_jax.errors import InputError
from spectra_jax.jobs.scorer_options import ScorerOptions


@dataclass(frozen=True)
class Settings:
    """How datasets are scored and evaluated.

    Attributes:
      folder: holds the runs and the figures.
      scorer: of the trials, with diagnostics.
      sample: trials of each dataset, drawn from each label in proportion; None for all trials.
      seed: of the sample and of the bootstrap.
      resamples: of the bootstrap, at least 1.
      part_size: trials of one part of a run.
      disk_limit: bytes of shards in the Hub client's cache at a time; None for no limit.
      mine: a folder with a score file of another system for each dataset; None for no other system.
      bench_version: of the Arena's tool that the figures are to be compared with, such as 0.4.0.
      score: whether missing trials are scored. Otherwise only what is scored already is evaluated.

    Raises:
      InputError: `mine` is not a folder, or the scorer reports no rank gaps.
    """

    folder: Path
    scorer: ScorerOptions
    sample: int | None = None
    seed: int = 0
    resamples: int = 1000
    part_size: int = 1000
    disk_limit: int | None = None
    mine: Path | None = None
    bench_version: str | None = None
    score: bool = True

    def __post_init__(self) -> None:
        if self.mine is not None and not self.mine.is_dir():
            raise InputError(f"{self.mine}: no such folder of score files; it has NAME.txt or NAME/scores.txt in it")
        if not self.scorer.diagnostics:
            raise InputError("near ties are counted by rank gaps: give ScorerOptions(..., diagnostics=True)")
