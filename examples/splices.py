"""How finely `spectra-jax inspect` locates a spoof: 2 s of a spoofed clip spliced into real recordings of the corpus.

    python -m examples.splices                                   # prints the tables
    python -m examples.splices --output docs/reports/splices.md  # writes the page

Hop and threshold are chosen on recordings of the training speakers; recordings of the eval speakers, whom neither the
checkpoint nor the choice has met, are reported.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from examples.breakdown import CORPUS, Row, read_rows
from spectra_jax import Scorer
from spectra_jax.inference.detection import Detection, Window, find_segments
from spectra_jax.inference.recordings import trial_of
from spectra_jax.inference.windows import WindowPolicy

RATE = 16_000
SPLICE_SECONDS = 2.0
CLIPS_OF_A_RECORDING = 6
RECORDINGS_OF_A_SPEAKER = 16
FINEST_HOP = 0.25
HOPS = (0.25, 0.5, 1.0)
UNSEEN = ("lpc",)


@dataclass(frozen=True)
class Spliced:
    """A recording of a real speaker with one splice, or none.

    Attributes:
      samples: (samples,) at 16 kHz.
      spoof: start and end of the splice in seconds; None without one.
      attack: of the spoofed clip; empty without one.
    """

    samples: NDArray[np.float32]
    spoof: tuple[float, float] | None
    attack: str


@dataclass(frozen=True)
class Seconds:
    """Seconds in segments and in splices, summed over recordings.

    Attributes:
      flagged: in segments.
      spoofed: in splices.
      both: in segments and in splices.
      found: splices that a segment touches.
      splices: how many there are.
      false_alarms: seconds in segments of recordings without a splice.
      genuine: seconds of recordings without a splice.
    """

    flagged: float = 0.0
    spoofed: float = 0.0
    both: float = 0.0
    found: int = 0
    splices: int = 0
    false_alarms: float = 0.0
    genuine: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def precision(self) -> float:
        return self.both / self.flagged if self.flagged else 0.0

    @property
    def recall(self) -> float:
        return self.both / self.spoofed if self.spoofed else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.both / (self.flagged + self.spoofed) if self.flagged + self.spoofed else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write a page in Markdown")
    arguments = parser.parse_args()
    scorer = Scorer(arguments.model)
    train, evaluation = (list(splice(read_rows(*splits))) for splits in (("train", "dev"), ("eval",)))
    train_windows, eval_windows = detect(scorer, train), detect(scorer, evaluation)
    hop, threshold = choose(train, train_windows)
    page = make_page(arguments.model, hop, threshold, (train, train_windows), (evaluation, eval_windows))
    if arguments.output is None:
        print(page, end="")
    else:
        arguments.output.write_text(page, encoding="utf-8")
    return 0


def splice(rows: Sequence[Row]) -> Iterator[Spliced]:
    """Recordings of each real speaker, every other one with a splice of another clip's copy."""
    random = np.random.default_rng(0)
    for speaker in sorted({row["speaker"] for row in rows if row["label"] == "bonafide"}):
        own = [row for row in rows if row["speaker"] == speaker]
        real = [row for row in own if row["label"] == "bonafide"]
        spoofed = [row for row in own if row["label"] == "spoof" and float(row["seconds"]) >= SPLICE_SECONDS]
        attacks = sorted({row["attack"] for row in spoofed})
        for number in range(RECORDINGS_OF_A_SPEAKER):
            if number % 2:
                yield Spliced(join(random, real), None, "")
                continue
            attack = attacks[number // 2 % len(attacks)]
            chosen = random.choice([row for row in spoofed if row["attack"] == attack])  # type: ignore[arg-type]
            host = join(random, [row for row in real if row["utterance_id"] != chosen["pair"]])
            start = int(random.integers(len(host)))
            length = int(SPLICE_SECONDS * RATE)
            samples = np.concatenate([host[:start], read(chosen)[:length], host[start:]])
            yield Spliced(samples, (start / RATE, (start + length) / RATE), attack)


def join(random: np.random.Generator, rows: Sequence[Row]) -> NDArray[np.float32]:
    """Clips chosen at random, one after another."""
    indices = random.choice(len(rows), CLIPS_OF_A_RECORDING, replace=False)
    return np.concatenate([read(rows[index]) for index in indices])


def read(row: Row) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = soundfile.read(CORPUS / row["path"], dtype="float32")[0]
    return samples


def detect(scorer: Scorer, recordings: Sequence[Spliced]) -> list[Detection]:
    """All windows at the finest hop."""
    settings = scorer.detection_settings(WindowPolicy(FINEST_HOP, "mean"))
    trials = [trial_of(one.samples, RATE, name=f"recording {number}") for number, one in enumerate(recordings)]
    found = list(scorer.detect(trials, settings))
    if problems := [f"{one.name}: {one.error}" for one in found if one.error is not None]:
        raise SystemExit("; ".join(problems))
    return found


def thinned(windows: Sequence[Window], hop: float) -> list[Window]:
    """The windows at a multiple of the finest hop, and the last one, which reaches the recording's end."""
    step = round(hop / FINEST_HOP)
    return [window for index, window in enumerate(windows) if index % step == 0 or index == len(windows) - 1]


def measure(recording: Spliced, detection: Detection, hop: float, threshold: float) -> Seconds:
    """What the segments below the threshold have in common with the splice."""
    segments = [(one.start, one.end) for one in find_segments(thinned(detection.windows, hop), threshold)]
    flagged = sum(end - start for start, end in segments)
    if recording.spoof is None:
        return Seconds(false_alarms=flagged, genuine=len(recording.samples) / RATE)
    start, end = recording.spoof
    both = sum(max(min(end, stop) - max(start, begin), 0.0) for begin, stop in segments)
    return Seconds(flagged, end - start, both, int(both > 0), 1)


def total(
    recordings: Sequence[Spliced], detections: Sequence[Detection], hop: float, threshold: float, *attacks: str
) -> Seconds:
    """The sum over recordings, of all attacks or of those given."""
    pairs = zip(recordings, detections, strict=True)
    return sum(
        (measure(one, found, hop, threshold) for one, found in pairs if not attacks or one.attack in attacks),
        Seconds(),
    )


def choose(recordings: Sequence[Spliced], detections: Sequence[Detection]) -> tuple[float, float]:
    """The hop and the threshold with the highest F1 in seconds."""
    scores = np.concatenate([[window.score for window in found.windows] for found in detections])
    thresholds = np.round(np.quantile(scores, np.linspace(0.01, 0.5, 50)), 2).tolist()
    settings = [(hop, threshold) for hop in HOPS for threshold in sorted(set(thresholds))]
    return max(settings, key=lambda chosen: total(recordings, detections, *chosen).f1)


def make_page(
    model: str,
    hop: float,
    threshold: float,
    train: tuple[list[Spliced], list[Detection]],
    evaluation: tuple[list[Spliced], list[Detection]],
) -> str:
    attacks = sorted({one.attack for one in evaluation[0] if one.attack})
    seen = tuple(attack for attack in attacks if attack not in UNSEEN)
    rows = [
        ("training speakers (chosen on them)", total(*train, hop, threshold)),
        ("eval speakers", total(*evaluation, hop, threshold)),
        ("eval, seen attacks", total(*evaluation, hop, threshold, *seen)),
        ("eval, unseen attack (LPC)", total(*evaluation, hop, threshold, *UNSEEN)),
        ("eval, everything flagged", total(*evaluation, hop, np.inf)),
    ]
    hops = [(f"{one:g} s", total(*evaluation, one, threshold)) for one in HOPS]
    window = evaluation[1][0].window_seconds or 0.0
    return f"""# How finely a spoof is located

`python -m examples.splices --output docs/reports/splices.md` measures this and writes this page.

Real recordings of `examples/corpus`: {CLIPS_OF_A_RECORDING} clips of a speaker one after another. Into every other one,
{SPLICE_SECONDS:g} s of a vocoded copy of another clip of the same speaker are spliced at a random moment. The
checkpoint `{model}` scores windows of {window:.2f} s. A hop of {hop:g} s and the threshold {threshold:g} have the
highest F1, in seconds, on the training speakers. The checkpoint knows these speakers and these attacks, so that only
the rows of the eval speakers say what to expect of another recording.

| recordings | precision | recall | splices touched | false alarms |
| --- | --- | --- | --- | --- |
{chr(10).join(_row(name, found) for name, found in rows)}

Precision is the share of the seconds in segments that are spliced, recall the share of the spliced seconds that are in
segments. False alarms are the seconds in segments of each minute of recordings without a splice. The last row flags
every second: a precision near it means that the segments say nothing.

The eval speakers at the same threshold, by the hop:

| hop | precision | recall | splices touched | false alarms |
| --- | --- | --- | --- | --- |
{chr(10).join(_row(name, found) for name, found in hops)}
"""


def _row(name: str, found: Seconds) -> str:
    minute = f"{60 * found.false_alarms / found.genuine:.1f} s" if found.genuine else "-"
    return f"| {name} | {found.precision:.2f} | {found.recall:.2f} | {found.found} of {found.splices} | {minute} |"


if __name__ == "__main__":
    sys.exit(main())
