"""Draw score-over-time.svg, the README's picture: the demo checkpoint's score along one recording.

    python docs/images/score_over_time.py

The recording joins the first four eval clips of one speaker that have a WORLD copy, and then those four copies.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

import spectra_jax

CORPUS = Path(__file__).parents[2] / "examples" / "corpus"
OUTPUT = Path(__file__).with_name("score-over-time.svg")
SPEAKER, ATTACK, NUM_CLIPS = "june", "world", 4
HOP_SECONDS = 0.25

WIDTH, LEFT, RIGHT = 760, 56, 12
WAVE_MIDDLE, WAVE_HEIGHT = 58, 56
SCORE_TOP, SCORE_BOTTOM = 112, 222
SCORES = (-5, 4)  # the axis
# Legible on white and on GitHub's dark background.
TEXT, GRID, BONA_FIDE, SPOOF = "#7d8590", "#7d859066", "#2f81f7", "#d9822b"


def read_clips() -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]], int]:
    """The recorded clips, their copies, and the sample rate of all."""
    with (CORPUS / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["utterance_id"]: row for row in csv.DictReader(file)}
    copies = [row for row in rows.values() if row["split"] == "eval" and row["speaker"] == SPEAKER]
    copies = [row for row in copies if row["attack"] == ATTACK][:NUM_CLIPS]
    originals = [rows[row["pair"]] for row in copies]
    sample_rate = soundfile.info(CORPUS / copies[0]["path"]).samplerate
    read = [[soundfile.read(CORPUS / row["path"], dtype="float32")[0] for row in some] for some in (originals, copies)]
    return read[0], read[1], sample_rate


def score_windows(samples: NDArray[np.float32], sample_rate: int) -> tuple[list[float], list[float], float]:
    """The middle of each window in seconds, its score, and the seconds of a window."""
    model = spectra_jax.load("demo")
    length = model.config.num_samples
    starts = np.arange(0, len(samples) - length + 1, int(HOP_SECONDS * sample_rate))
    scorer = spectra_jax.Scorer(model)
    windows = [samples[start : start + length] for start in starts]
    batches = [windows[first : first + 8] for first in range(0, len(windows), 8)]
    scores = [score for batch in batches for score in scorer.score_batch(batch, [sample_rate] * len(batch))]
    return [(start + length / 2) / sample_rate for start in starts], scores, length / sample_rate


def draw(originals: list[NDArray[np.float32]], copies: list[NDArray[np.float32]], sample_rate: int) -> str:
    """The picture as SVG."""
    samples = np.concatenate([*originals, *copies])
    seconds = len(samples) / sample_rate
    splice = sum(map(len, originals)) / sample_rate
    middles, scores, window_seconds = score_windows(samples, sample_rate)

    def x(time: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * time / seconds

    def y(score: float) -> float:
        return SCORE_BOTTOM - (SCORE_BOTTOM - SCORE_TOP) * (score - SCORES[0]) / (SCORES[1] - SCORES[0])

    def text(words: str, at: tuple[float, float], anchor: str = "start", colour: str = TEXT) -> str:
        return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'

    def line(start: tuple[float, float], end: tuple[float, float], colour: str, style: str = "") -> str:
        ends = "{:.1f} {:.1f} L {:.1f} {:.1f}".format(*start, *end)
        return f'<path d="M {ends}" stroke="{colour}" {style}/>'

    def waveform() -> list[str]:
        columns = np.array_split(samples, WIDTH - LEFT - RIGHT)
        peaks = np.array([np.abs(column).max() for column in columns]) / np.abs(samples).max() * WAVE_HEIGHT / 2
        split = round(len(columns) * splice / seconds)
        parts = []
        for colour, first, last in ((BONA_FIDE, 0, split), (SPOOF, split, len(columns))):
            strokes = "".join(
                f"M{LEFT + column} {WAVE_MIDDLE - peaks[column]:.1f}v{2 * peaks[column]:.1f}"
                for column in range(first, last)
            )
            parts.append(f'<path d="{strokes}" stroke="{colour}"/>')
        return parts

    def colour_of(middle: float) -> str:
        if abs(middle - splice) < window_seconds / 2:
            return TEXT  # the window holds some of both
        return BONA_FIDE if middle < splice else SPOOF

    points = [f"{x(time):.1f},{y(score):.1f}" for time, score in zip(middles, scores, strict=True)]
    dots = [
        f'<circle cx="{x(time):.1f}" cy="{y(score):.1f}" r="2.5" fill="{colour_of(time)}"/>'
        for time, score in zip(middles, scores, strict=True)
    ]
    parts = [
        text("four clips as recorded", (x(splice / 2), 18), "middle", BONA_FIDE),
        text("the same four through a vocoder", (x((splice + seconds) / 2), 18), "middle", SPOOF),
        *waveform(),
        text(f"score of each {window_seconds:.1f} s window, at its middle", (LEFT, SCORE_TOP - 8)),
        *(line((LEFT, y(tick)), (WIDTH - RIGHT, y(tick)), GRID) for tick in (-4, -2, 0, 2, 4)),
        *(text(f"{tick:+d}" if tick else "0", (LEFT - 8, y(tick) + 4), "end") for tick in (-4, -2, 0, 2, 4)),
        line((x(splice), 28), (x(splice), SCORE_BOTTOM), TEXT, 'stroke-dasharray="4 4"'),
        f'<polyline points="{" ".join(points)}" stroke="{TEXT}"/>',
        *dots,
        *(text(f"{time} s", (x(time), SCORE_BOTTOM + 18), "middle") for time in range(0, int(seconds) + 1, 2)),
    ]
    height = SCORE_BOTTOM + 28
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            'font-family="sans-serif" font-size="13" fill="none">',
            "<title>The demo checkpoint's score over time</title>",
            *parts,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    OUTPUT.write_text(draw(*read_clips()), encoding="utf-8")
