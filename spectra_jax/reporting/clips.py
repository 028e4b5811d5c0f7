"""Clips of trials for the page: their audio as the network decodes it, and its spectrogram.

Audio is looked for below `--audio-root`, or beside the score file and in the current folder, and nowhere else: a score
file of unknown origin must not be able to pull other recordings into a page that is then passed on.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spectra_jax.audio import NUM_SAMPLES, TARGET_RATE, read, resample
from spectra_jax.data.sources.files import AUDIO_SUFFIXES
from spectra_jax.errors import AudioError
from spectra_jax.reporting.data_url import data_url
from spectra_jax.reporting.score_track import Tick, time_ticks
from spectra_jax.reporting.spectrogram import Spectrogram
from spectra_jax.reporting.systems import System

CLIPS = 16
"""Clips of a page at most ..."""
CLIP_BYTES = 3_000_000
"""... and their bytes, base64 included."""
WINDOW_SECONDS = NUM_SAMPLES / TARGET_RATE
"""The window of the published network, where another is not known."""
_WIDTH, _HEIGHT = 360, 128  # of a spectrogram
LONGER_SECONDS = 20.0
"""The length of clips of which windows after the first are scored too."""


@dataclass(frozen=True)
class ClipLength:
    """How much of a recording's start a clip has, in seconds, and why, in words."""

    seconds: float
    reason: str


def choose_clip_length(systems: Sequence[System], window_seconds: float | None) -> ClipLength:
    """The length of clips: the network's window, or more where its later windows are scored too.

    Args:
      systems: whose score files may have a column `window_scores`.
      window_seconds: the window of the model; None where that is not known.
    """
    if any(any(map(str, system.scores.columns.get("window_scores", ()))) for system in systems):
        return ClipLength(LONGER_SECONDS, "since all windows of a recording are scored")
    if window_seconds is not None:
        return ClipLength(window_seconds, "the model's window")
    return ClipLength(WINDOW_SECONDS, "the window of the published model, since no model was given (--model)")


@dataclass(frozen=True)
class Clip:
    """Audio and its spectrogram.

    Attributes:
      audio, spectrogram: data URLs.
      seconds: of the audio.
      shortened: whether the file is longer.
    """

    audio: str
    spectrogram: str
    seconds: float
    shortened: bool

    @property
    def ticks(self) -> Sequence[Tick]:
        """Of the spectrogram's axis of time."""
        return time_ticks(self.seconds, most=4)


def find_clips(
    utterance_ids: Sequence[str],
    systems: Sequence[System],
    audio_root: Path | None,
    *,
    seconds: float = WINDOW_SECONDS,
    clips: int = CLIPS,
    clip_bytes: int = CLIP_BYTES,
) -> dict[str, Clip]:
    """The clips of the first trials whose audio is found, by utterance id, within the limits.

    Args:
      utterance_ids: of the trials.
      systems: whose score files may have a column `path`.
      audio_root: a folder to look in, also by id; None looks beside the score files and in the current folder.
      seconds: how much of each recording's start a clip has.
      clips: the largest number of clips.
      clip_bytes: the largest total size of their data URLs.
    """
    paths = _paths(utterance_ids, systems)
    roots = [audio_root] if audio_root else [*(system.path.parent for system in systems), Path()]
    found: dict[str, Clip] = {}
    used = 0
    for identity in utterance_ids:
        if len(found) == clips:
            break
        file = _find(identity, paths.get(identity, ()), roots, by_id=audio_root is not None)
        if file is None:
            continue
        try:
            clip = make_clip(file, seconds)
        except AudioError:
            continue
        size = len(clip.audio) + len(clip.spectrogram)
        if used + size <= clip_bytes:
            found[identity] = clip
            used += size
    return found


def _paths(utterance_ids: Sequence[str], systems: Sequence[System]) -> Mapping[str, Sequence[str]]:
    """The paths that the score files state for these trials."""
    paths: dict[str, list[str]] = {identity: [] for identity in utterance_ids}
    for system in systems:
        column = system.scores.columns.get("path")
        if column is not None:
            for identity, path in zip(system.scores.utterance_ids, column, strict=True):
                if identity in paths:
                    paths[identity].append(str(path))
    return paths


def _find(identity: str, paths: Sequence[str], roots: Sequence[Path], *, by_id: bool) -> Path | None:
    for root in roots:
        resolved_root = root.resolve()
        candidates = [Path(path) if Path(path).is_absolute() else root / path for path in paths]
        # The name alone, for a score file that was moved or was written elsewhere.
        candidates += [root / Path(path).name for path in paths]
        if by_id:
            folders = (root, root / "flac", root / "wav")
            candidates += [folder / f"{identity}{suffix}" for folder in folders for suffix in sorted(AUDIO_SUFFIXES)]
        for candidate in candidates:
            try:
                file = candidate.resolve()
                if file.is_relative_to(resolved_root) and file.suffix.lower() in AUDIO_SUFFIXES and file.is_file():
                    return file
            except (OSError, ValueError):
                # A name that is too long or contains NUL is not that of a file.
                continue
    return None


def make_clip(file: Path, seconds: float = WINDOW_SECONDS) -> Clip:
    """The first `seconds` of a file as FLAC (16 kHz, 16 bits), and its spectrogram.

    FLAC, since it is lossless and every browser plays it.

    Raises:
      AudioError: see `spectra_jax.audio.read`; or samples that are not finite.
    """
    import soundfile

    audio, rate = read(file)
    if not np.isfinite(audio).all():
        raise AudioError(f"{file}: samples that are NaN or infinite")
    samples = resample(audio, rate)
    window = samples[: round(seconds * TARGET_RATE)]
    flac = io.BytesIO()
    soundfile.write(flac, np.clip(window, -1, 1), TARGET_RATE, format="FLAC", subtype="PCM_16")
    return Clip(
        audio=data_url("audio/flac", flac.getvalue()),
        spectrogram=data_url("image/png", spectrogram(window)),
        seconds=len(window) / TARGET_RATE,
        shortened=len(window) < len(samples),
    )


def spectrogram(samples: np.ndarray) -> bytes:
    """A PNG of the spectrogram of a clip at 16 kHz, 360 by 128: see `spectra_jax.reporting.spectrogram`."""
    drawn = Spectrogram(len(samples), _WIDTH)
    drawn.add(samples)
    return drawn.png(_WIDTH, _HEIGHT)
