"""From a manifest to training batches: which clips a step hears, and how. Everything follows from seed and step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spectra_jax import audio
from spectra_jax.data.labels import read_labels
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.inference.prefetch import ahead
from spectra_jax.messages import count, examples
from spectra_jax.model.config import SpectraConfig
from spectra_jax.training.augment import augment
from spectra_jax.training.config import TrainingConfig

SPLITS = ("train", "dev")


@dataclass(frozen=True)
class Clip(Trial):
    """A labelled clip of a training manifest.

    Attributes:
      pair: utterance_id of the bona fide clip that a spoof was made from, where the manifest says.
    """

    pair: str | None = None

    @property
    def bonafide(self) -> bool:
        return self.label == "bonafide"


def read_manifest(manifest: str | Path) -> dict[str, list[Clip]]:
    """The clips of the splits `train` and `dev`, in the manifest's order; other splits are left alone.

    Args:
      manifest: .csv, .tsv or .jsonl with the columns `path` (relative to the manifest's folder), `label` and `split`;
        `utterance_id` (otherwise the file's stem) and `pair` are optional, other columns are ignored.

    Raises:
      InputError: a column or a split is missing, a split has one class, a label is unknown, files are not there.
    """
    manifest = Path(manifest)
    labels = read_labels(manifest)
    for name in ("path", "split"):
        if name not in labels.columns:
            raise InputError(f"{manifest}: no column `{name}`; training needs path, label and split")
    rows = zip(
        labels.utterance_ids,
        labels.columns["path"],
        labels.columns["split"],
        labels.bonafide,
        labels.columns.get("pair", [None] * len(labels.bonafide)),
        strict=True,
    )
    splits: dict[str, list[Clip]] = {name: [] for name in SPLITS}
    for name, path, split, bonafide, pair in rows:
        if split in splits:
            clip = Clip(
                str(name),
                manifest.parent / str(path),
                "bonafide" if bonafide else "spoof",
                pair=str(pair) if pair else None,
            )
            splits[split].append(clip)
    for split, clips in splits.items():
        found = ", ".join(sorted({str(value) for value in labels.columns["split"]}))
        if not clips:
            raise InputError(f"{manifest}: no trial of split `{split}`; the column `split` has: {found[:200]}")
        for label in ("bonafide", "spoof"):
            if not any(clip.label == label for clip in clips):
                raise InputError(
                    f"{manifest}: split `{split}` has {count(len(clips), 'trial')} and none labelled `{label}`; "
                    "a detector is trained and judged on both classes"
                )
    missing = [
        f"{clip.utterance_id}: {clip.path}"
        for clips in splits.values()
        for clip in clips
        if not Path(clip.path).is_file()
    ]
    if missing:
        raise InputError(f"{manifest}: {count(len(missing), 'file')} not there:{examples(missing)}")
    return splits


@dataclass(frozen=True)
class Batch:
    """What one step hears: windows (n, num_samples) float32 and labels (n,), 0 = spoof, 1 = bona fide."""

    windows: NDArray[np.float32]
    labels: NDArray[np.int32]
    utterance_ids: tuple[str, ...]
    refused: tuple[str, ...] = ()
    """Why clips could not be heard; others took their places."""


class Batches:
    """The training batches of a run: an epoch is every clip once (in pairs: every spoof), in an order of its own.

    A clip that cannot be decoded costs nothing but itself: the next one takes its place.
    """

    def __init__(self, clips: Sequence[Clip], model: SpectraConfig, training: TrainingConfig):
        self._bonafide = [clip for clip in clips if clip.bonafide]
        named = {clip.utterance_id: clip for clip in self._bonafide}
        # What is drawn together: a clip by itself, or a spoof and the bona fide clip beside it.
        if training.pairs:
            spoofs = [clip for clip in clips if not clip.bonafide]
            self._units = [(clip, named.get(clip.pair or "")) for clip in spoofs]
        else:
            self._units = [(clip, None) for clip in clips]
        self._model, self._training = model, training
        self._per_step = training.batch_size // (2 if training.pairs else 1)

    @property
    def steps_per_epoch(self) -> float:
        return len(self._units) / self._per_step

    def from_step(self, step: int, pool: ThreadPoolExecutor) -> Iterator[Batch]:
        """The batches of steps `step`, `step + 1`, ... without end, each decoded while earlier ones are trained on."""
        tasks = (pool.submit(self.batch, now) for now in range(step, self._training.steps))
        for future in ahead(tasks, 3):
            yield future.result()

    def batch(self, step: int) -> Batch:
        """The batch of one step, the same whenever it is asked for.

        Raises:
          InputError: no clip at all can be decoded.
        """
        windows: list[NDArray[np.float32]] = []
        clips: list[Clip] = []
        refused: list[str] = []
        place = step * self._per_step
        for slot in range(self._per_step):
            for attempt in range(len(self._units)):
                # A unit that fails is replaced by one half an epoch away, rather than by what comes next anyway.
                seed = (self._training.seed, place + slot, attempt)
                rng = np.random.default_rng(seed)
                unit = self._unit(place + slot if attempt == 0 else int(rng.integers(len(self._units))), rng)
                try:
                    heard = [self._hear(clip, (*seed, 1)) for clip in unit]
                except audio.AudioError as error:
                    refused.append(str(error))
                    continue
                windows += heard
                clips += unit
                break
            else:
                raise InputError(f"no clip of the training split can be decoded:{examples(refused)}")
        labels = np.array([clip.bonafide for clip in clips], np.int32)
        return Batch(np.stack(windows), labels, tuple(clip.utterance_id for clip in clips), tuple(refused))

    def _unit(self, place: int, rng: np.random.Generator) -> list[Clip]:
        epoch, rank = divmod(place, len(self._units))
        order = np.random.default_rng([self._training.seed, epoch]).permutation(len(self._units))
        clip, partner = self._units[order[rank]]
        if not self._training.pairs:
            return [clip]
        return [clip, partner or self._bonafide[rng.integers(len(self._bonafide))]]

    def _hear(self, clip: Clip, seed: tuple[int, ...]) -> NDArray[np.float32]:
        # A generator anew for each clip of a pair: both draw the same.
        rng = np.random.default_rng(seed)
        samples, rate = audio.read(clip.path)
        if not np.all(np.isfinite(samples)) or not len(samples):
            raise audio.AudioError(f"{clip.path}: NaN or infinite samples, or none")
        start = rng.random()
        samples = augment(audio.resample(samples, rate, self._model.sample_rate), self._training.augment, rng)
        return crop(audio.pre_emphasis(samples, self._model.preemphasis), self._model.num_samples, start)


def crop(samples: NDArray[np.float32], num_samples: int, start: float) -> NDArray[np.float32]:
    """A window at the share `start`, 0 to 1, of where one can start; a clip shorter than it is repeated from there."""
    if len(samples) > num_samples:
        return samples[int(start * (len(samples) - num_samples + 1)) :][:num_samples].copy()
    return audio.window(np.roll(samples, -int(start * len(samples))), num_samples)
