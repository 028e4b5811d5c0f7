"""EERs on the example corpus by kind of spoof, each with its 95 % bootstrap interval.

One EER over all spoofs would hide what matters: whether a detector recognises the attacks of its training data in new
speakers, and whether it recognises any others.
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
"""The table's rows of EERs, and the attacks of each. Copies are the bona fide clips, resynthesised by a vocoder."""
PAIRS = {"copies below their original, seen vocoders": SEEN_COPIES, "copies below their original, LPC": ("lpc",)}
"""The table's rows of the share of copies that score below their original, and the attacks of each."""
RESAMPLES = 1000

Row = dict[str, str]
Figure = tuple[float, Interval]


def read_rows(*splits: str) -> list[Row]:
    """The rows of some splits of the corpus manifest, in its order."""
    with (CORPUS / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["split"] in splits]


def breakdown(rows: list[Row], scores: np.ndarray) -> dict[str, Figure]:
    """Each row of `GROUPS` and `PAIRS`: an EER or a share, from 0 to 1, with its interval.

    Args:
      rows: rows of the corpus manifest.
      scores: (rows,), higher = more bona fide.
    """
    score_of = {row["utterance_id"]: score for row, score in zip(rows, scores, strict=True)}
    bonafide = [score_of[row["utterance_id"]] for row in rows if row["label"] == "bonafide"]
    figures = {}
    for name, attacks in GROUPS.items():
        spoof = [score_of[row["utterance_id"]] for row in rows if row["attack"] in attacks]
        labels = np.arange(len(bonafide) + len(spoof)) < len(bonafide)
        interval = bootstrap(bonafide + spoof, labels, ("eer",), resamples=RESAMPLES)["eer"]
        figures[name] = eer(bonafide, spoof).rate, interval
    for name, attacks in PAIRS.items():
        below = np.array(
            [score_of[row["utterance_id"]] < score_of[row["pair"]] for row in rows if row["attack"] in attacks]
        )
        resamples = np.random.default_rng(0).integers(len(below), size=(RESAMPLES, len(below)))
        figures[name] = float(below.mean()), Interval(*np.quantile(below[resamples].mean(axis=1), (0.025, 0.975)))
    return figures


def format_figure(figure: Figure) -> str:
    """A figure and its interval, marked "chance" if the interval includes guessing."""
    value, interval = figure
    text = f"{value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
    return f"{text} chance" if interval.low <= 0.5 <= interval.high else text


def make_table(systems: Mapping[str, Mapping[str, Figure]], **options: Any) -> Table:
    """A table with a column for each system; `options` are rich's."""
    table = Table(**options)
    table.add_column("eval speakers")
    for name in systems:
        table.add_column(name, justify="right")
    for row in (*GROUPS, *PAIRS):
        name = f"EER: {row}" if row in GROUPS else row
        table.add_row(name, *(format_figure(figures[row]) for figures in systems.values()))
    return table
