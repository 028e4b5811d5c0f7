"""The trials worth hearing: the most confident errors and the largest differences, with what the network heard of them.

Audio is looked for where `--audio-root` says, or beside the score file and in the current folder, and nowhere else: a
score file of somebody else's must not be able to pull other recordings into a page that is then passed on.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from spectra_jax.audio import NUM_SAMPLES, TARGET_RATE, read, resample
from spectra_jax.data.sources.files import AUDIO_SUFFIXES
from spectra_jax.errors import AudioError
from spectra_jax.evaluation.compare import Comparison
from spectra_jax.reporting.systems import System

ERRORS = 15
"""Errors of each class and system that are listed."""
CLIPS = 16
"""Clips on a page at most ..."""
CLIP_BYTES = 3_000_000
"""... and their bytes, base64 included."""


@dataclass
class Listed:
    """A trial of the table.

    Attributes:
      utterance_id: of the trial.
      label: "bona fide", "spoof" or "".
      attack: or "".
      scores: by system; one that did not score the trial is not there.
      reasons: why it is listed, and by which systems or pairs of them.
      gap: smallest rank gap, None where unknown.
      clip: what can be heard of it, None where the file was not found or the page is full.
    """

    utterance_id: str
    label: str
    attack: str
    scores: dict[str, float]
    reasons: dict[str, list[str]] = field(default_factory=dict)
    gap: float | None = None
    clip: Clip | None = None

    @property
    def why(self) -> str:
        """The reasons in words."""
        return "; ".join(f"{reason} {' and '.join(names)}".rstrip() for reason, names in self.reasons.items())


@dataclass(frozen=True)
class Clip:
    """Sound and picture as data URLs; `seconds` of the clip are heard."""

    audio: str
    spectrogram: str
    seconds: float
    whole: bool


def listed(systems: Sequence[System], comparisons: Sequence[Comparison]) -> list[Listed]:
    """The trials of the table, the worst first; without labels and comparisons, the extreme ones."""
    rows: dict[str, Listed] = {}
    places = [dict(zip(s.scores.utterance_ids, range(len(s.scores)), strict=True)) for s in systems]

    def add(identity: str, reason: str, by: str) -> None:
        if identity not in rows:
            rows[identity] = _row(identity, systems, places)
        rows[identity].reasons.setdefault(reason, []).extend([by] if by else [])

    lists = [list(_worst(system, len(systems) > 1)) for system in systems]
    for comparison in comparisons:
        other = f"from {comparison.numbers['b']}" if len(comparisons) > 1 else ""
        reasons = {True: "unexplained difference", False: "among the largest differences"}
        lists.append([(row["utterance_id"], reasons[row["unexplained"]], other) for row in comparison.numbers["worst"]])
    # In turns, so that the page's few clips are not those of one list.
    for rank in range(max(map(len, lists), default=0)):
        for own in lists:
            if rank < len(own):
                add(*own[rank])
    return list(rows.values())


def _worst(system: System, several: bool) -> Iterator[tuple[str, str, str]]:
    scores, ids = system.scores.scores, system.scores.utterance_ids
    by = system.name if several else ""
    to = " by" if several else ""
    if system.evaluation is None:
        order = np.argsort(scores, kind="stable")
        number = min(5, len(order) // 2)
        yield from ((str(ids[place]), f"among the highest{to}", by) for place in order[::-1][:number])
        yield from ((str(ids[place]), f"among the lowest{to}", by) for place in order[:number])
        return
    assert system.bonafide is not None
    distance = scores - system.evaluation.numbers["threshold"]
    rejected = np.flatnonzero(system.bonafide & (distance < 0))
    accepted = np.flatnonzero(~system.bonafide & (distance >= 0))
    pairs = (
        (rejected[np.argsort(distance[rejected], kind="stable")][:ERRORS], f"rejected{to}"),
        (accepted[np.argsort(-distance[accepted], kind="stable")][:ERRORS], f"accepted{to}"),
    )
    for rank in range(ERRORS):
        yield from ((str(ids[order[rank]]), reason, by) for order, reason in pairs if rank < len(order))


def _row(identity: str, systems: Sequence[System], places: Sequence[dict[str, int]]) -> Listed:
    row = Listed(identity, "", "", {})
    for system, known in zip(systems, places, strict=True):
        place = known.get(identity)
        if place is None:
            continue
        row.scores[system.name] = float(system.scores.scores[place])
        if system.bonafide is not None:
            row.label = "bona fide" if system.bonafide[place] else "spoof"
        if system.attacks is not None:
            row.attack = row.attack or str(system.attacks[place])
        gaps = system.scores.rank_gaps
        if gaps is not None and gaps.dtype.kind == "f" and np.isfinite(gaps[place]):
            row.gap = float(np.fmin(gaps[place], np.inf if row.gap is None else row.gap))
    return row


def add_clips(
    rows: Sequence[Listed],
    systems: Sequence[System],
    audio_root: Path | None,
    *,
    clips: int = CLIPS,
    clip_bytes: int = CLIP_BYTES,
) -> int:
    """Give the first rows whose audio is found their clips, within the limits; how many were found in all."""
    paths: dict[str, list[str]] = {}
    wanted = {row.utterance_id for row in rows}
    for system in systems:
        column = system.scores.columns.get("path")
        if column is not None:
            for identity, path in zip(system.scores.utterance_ids, column, strict=True):
                if identity in wanted:
                    paths.setdefault(identity, []).append(str(path))
    roots = [audio_root] if audio_root else [*(system.path.parent for system in systems), Path()]
    embedded = found = used = 0
    for row in rows:
        if embedded == clips:
            break
        file = _find(row.utterance_id, paths.get(row.utterance_id, ()), roots, by_id=audio_root is not None)
        if file is None:
            continue
        found += 1
        try:
            clip = make_clip(file)
        except AudioError:
            continue
        size = len(clip.audio) + len(clip.spectrogram)
        if used + size > clip_bytes:
            continue
        row.clip = clip
        embedded, used = embedded + 1, used + size
    return found


def _find(identity: str, paths: Sequence[str], roots: Sequence[Path], *, by_id: bool) -> Path | None:
    for root in roots:
        top = root.resolve()
        candidates = [Path(path) if Path(path).is_absolute() else root / path for path in paths]
        # A score file that was moved, or made elsewhere: the name alone.
        candidates += [root / Path(path).name for path in paths]
        if by_id:
            folders = (root, root / "flac", root / "wav")
            candidates += [folder / f"{identity}{suffix}" for folder in folders for suffix in sorted(AUDIO_SUFFIXES)]
        for candidate in candidates:
            try:
                file = candidate.resolve()
                if file.is_relative_to(top) and file.suffix.lower() in AUDIO_SUFFIXES and file.is_file():
                    return file
            except (OSError, ValueError):
                # A name too long, or with a NUL in it, is no file.
                continue
    return None


def make_clip(file: Path) -> Clip:
    """What the network hears of a file, as FLAC of 16 kHz and 16 bits, and its spectrogram.

    FLAC, since it hides no artefact and every browser plays it.

    Raises:
      AudioError: see `spectra_jax.audio.read`; or samples that are not finite.
    """
    import soundfile  # type: ignore[import-untyped]

    audio, rate = read(file)
    if not np.isfinite(audio).all():
        raise AudioError(f"{file}: samples that are NaN or infinite")
    samples = resample(audio, rate)
    heard = samples[:NUM_SAMPLES]
    sound = io.BytesIO()
    soundfile.write(sound, np.clip(heard, -1, 1), TARGET_RATE, format="FLAC", subtype="PCM_16")
    return Clip(
        _data_url("audio/flac", sound.getvalue()),
        _data_url("image/png", spectrogram(heard)),
        len(heard) / TARGET_RATE,
        len(heard) == len(samples),
    )


def spectrogram(samples: np.ndarray) -> bytes:
    """A PNG of the spectrogram, 0 to 8 kHz from the bottom, 80 dB deep, 256 colours."""
    from matplotlib import colormaps
    from PIL import Image
    from scipy import signal

    width = 512
    padded = np.pad(samples.astype(np.float64), (0, max(0, width - len(samples))))
    _, _, power = signal.spectrogram(padded, TARGET_RATE, "hann", width, width - 200)
    level = 10 * np.log10(power + 1e-12)
    grey = np.clip((level - level.max() + 80) / 80, 0, 1)
    image = Image.fromarray(np.flipud(np.round(255 * grey).astype(np.uint8))).resize((360, 128))
    image.putpalette(np.round(255 * colormaps["magma"](np.arange(256))[:, :3]).astype(np.uint8).tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
