"""Evaluate detectors and two controls on the eval split of the larger corpus, attack by attack.

    python -m examples.large_corpus.evaluate build/large_corpus/manifest.csv demo MODEL --json FILE

The controls of `examples/controls.py` are trained on train and dev. Needs scikit-learn, which the extra `test` has. The
intervals are of resampled clips, not of resampled speakers: they do not cover what other speakers would change.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from examples.breakdown import RESAMPLES, SEEN_COPIES, Figure, Row, format_figure
from examples.controls import score_by_lfcc_gmm, score_by_shortcuts
from spectra_jax import Scorer
from spectra_jax.data.trial import Trial
from spectra_jax.evaluation.metrics import bootstrap, eer

ATTACKS = {
    "copies, vocoders of the training data": SEEN_COPIES,
    "copies, unseen vocoder (LPC)": ("lpc",),
    "Flite": ("flite",),
    "Kokoro": ("kokoro",),
    "Hibari, a student of Kokoro": ("hibari",),
    "Gnuspeech": ("gnuspeech",),
}
"""The table's rows, and the attacks of each; the text-to-speech engines are unseen in training."""
FIRST_SPEAKERS = frozenset({"june", "ivrru"})
"""The eval speakers of `examples/corpus`."""

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Corpus:
    """Rows of the manifest, and the folder that their paths are relative to."""

    folder: Path
    rows: Sequence[Row]

    @classmethod
    def read(cls, manifest: Path) -> Corpus:
        """The corpus of a manifest."""
        with manifest.open(newline="", encoding="utf-8") as file:
            return cls(manifest.parent, list(csv.DictReader(file)))

    def split(self, *names: str) -> Corpus:
        """The part of these splits."""
        return Corpus(self.folder, [row for row in self.rows if row["split"] in names])

    @property
    def bonafide(self) -> NDArray[np.bool_]:
        """Whether each clip is bona fide, (rows,)."""
        return np.array([row["label"] == "bonafide" for row in self.rows])

    def samples(self) -> list[NDArray[np.float32]]:
        """The samples of each clip."""
        return [soundfile.read(self.folder / row["path"], dtype="float32")[0] for row in self.rows]


def score_by_model(model: str, corpus: Corpus) -> Scores:
    """Scores (rows,) of a detector.

    Raises:
        SystemExit: A clip cannot be scored.
    """
    trials = [Trial(row["utterance_id"], corpus.folder / row["path"]) for row in corpus.rows]
    results = list(Scorer(model).score_trials(trials))
    skipped = [f"{result.trial.utterance_id}: {result.error}" for result in results if result.score is None]
    if skipped:
        raise SystemExit("clips that cannot be scored: " + "; ".join(skipped))
    return np.array([result.score for result in results])


def score_by_controls(train: Corpus, clips: Corpus) -> dict[str, Scores]:
    """Scores (rows,) of each control."""
    samples, spoken = train.samples(), clips.samples()
    return {
        "LFCC and GMM": score_by_lfcc_gmm(samples, train.bonafide, spoken),
        "shortcuts": score_by_shortcuts(samples, train.bonafide, spoken),
    }


def figures_by_attack(rows: Sequence[Row], scores: Scores, speakers: frozenset[str] | None = None) -> dict[str, Figure]:
    """EER and interval of each row of `ATTACKS`.

    Args:
        rows: Rows of the eval split.
        scores: (rows,), higher = more bona fide.
        speakers: Whose recordings and copies count; None: everyone's. Text-to-speech always counts.
    """
    people = {row["speaker"] for row in rows if row["label"] == "bonafide"}
    left_out = people - (people if speakers is None else speakers)
    pairs = [(row, score) for row, score in zip(rows, scores, strict=True) if row["speaker"] not in left_out]
    bonafide = [float(score) for row, score in pairs if row["label"] == "bonafide"]
    figures = {}
    for name, attacks in ATTACKS.items():
        spoof = [float(score) for row, score in pairs if row["attack"] in attacks]
        labels = np.arange(len(bonafide) + len(spoof)) < len(bonafide)
        interval = bootstrap(bonafide + spoof, labels, ("eer",), resamples=RESAMPLES)["eer"]
        figures[name] = eer(bonafide, spoof).rate, interval
    return figures


def make_table(title: str, systems: Mapping[str, Mapping[str, Figure]]) -> Table:
    """A table of EERs with a column for each system."""
    table = Table(title=title)
    table.add_column("EER")
    for name in systems:
        table.add_column(name, justify="right")
    for attack in ATTACKS:
        table.add_row(attack, *(format_figure(figures[attack]) for figures in systems.values()))
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.large_corpus.evaluate", description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("models", nargs="+", help="detectors, as `spectra-jax score --model` takes them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures")
    options = parser.parse_args(arguments)
    corpus = Corpus.read(options.manifest)
    clips = corpus.split("eval")
    scores = {model: score_by_model(model, clips) for model in options.models}
    scores |= score_by_controls(corpus.split("train", "dev"), clips)
    results = {}
    for title, speakers in (("all eval speakers", None), ("june and ivrru", FIRST_SPEAKERS)):
        systems = {name: figures_by_attack(clips.rows, values, speakers) for name, values in scores.items()}
        Console(width=160).print(make_table(title, systems))
        results[title] = {
            name: {attack: [value, interval.low, interval.high] for attack, (value, interval) in figures.items()}
            for name, figures in systems.items()
        }
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
