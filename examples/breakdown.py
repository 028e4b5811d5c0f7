"""EERs on the example corpus by what each kind of spoof tells, every figure with its 95 % bootstrap interval.

An EER over everything would hide what matters: whether a detector knows attacks it has seen when the speakers are new,
and whether it knows anything beyond them.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from spectra_jax.evaluation.metrics import Interval, bootstrap, eer

CORPUS = Path(__file__).parent / "corpus"
SEEN_COPIES = ("world", "griffinlim", "mlsa")
GROUPS = {
    "copies, vocoders of the training data": SEEN_COPIES,
    "copies, unseen vocoder (LPC)": ("lpc",),
    "unseen text-to-speech (Flite)": ("flite",),
    "unseen text-to-speech (Kokoro)": ("kokoro",),
}
"""Rows of the table, and the attacks that each is about. Copies are made from the bona fide clips themselves."""
PAIRS = {"copies below their original, seen vocoders": SEEN_COPIES, "the same, LPC": ("lpc",)}
"""Rows of how often a clip scores above its own copy."""
RESAMPLES = 1000

Row = dict[str, str]
Figure = tuple[float, Interval]


def rows_of(*splits: str) -> list[Row]:
    """The corpus manifest's rows of some splits, in its order."""
    with (CORPUS / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["split"] in splits]


def breakdown(rows: list[Row], scores: np.ndarray) -> dict[str, Figure]:
    """Every group's EER and every row of `PAIRS`, from 0 to 1, with its interval.

    Args:
      rows: of the corpus manifest.
      scores: (n,), one for each row; higher = more bona fide.
    """
    score_of = {row["utterance_id"]: score for row, score in zip(rows, scores, strict=True)}
    bonafide = [score_of[row["utterance_id"]] for row in rows if row["label"] == "bonafide"]
    found = {}
    for name, attacks in GROUPS.items():
        spoof = [score_of[row["utterance_id"]] for row in rows if row["attack"] in attacks]
        labels = np.arange(len(bonafide) + len(spoof)) < len(bonafide)
        interval = bootstrap(bonafide + spoof, labels, ("eer",), resamples=RESAMPLES)["eer"]
        found[name] = eer(bonafide, spoof).rate, interval
    for name, attacks in PAIRS.items():
        above = np.array(
            [score_of[row["pair"]] > score_of[row["utterance_id"]] for row in rows if row["attack"] in attacks]
        )
        drawn = np.random.default_rng(0).integers(len(above), size=(RESAMPLES, len(above)))
        found[name] = float(above.mean()), Interval(*np.quantile(above[drawn].mean(axis=1), (0.025, 0.975)))
    return found


def in_words(figure: Figure) -> str:
    """A figure and its interval, and whether it cannot be told from guessing."""
    value, interval = figure
    words = f"{value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
    return f"{words} chance" if interval.low <= 0.5 <= interval.high else words


def table(systems: Mapping[str, Mapping[str, Figure]], **options: Any) -> Table:
    """One column a system."""
    drawn = Table(**options)
    drawn.add_column("eval speakers")
    for name in systems:
        drawn.add_column(name, justify="right")
    for row in (*GROUPS, *PAIRS):
        drawn.add_row(f"EER: {row}" if row in GROUPS else row, *(in_words(found[row]) for found in systems.values()))
    return drawn
