"""From a manifest to training batches. A batch is a function of the seed and the step's number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32
from numpy.typing import NDArray

from spectra_jax import audio
from spectra_jax.data.labels import read_labels
from spectra_jax.errors import InputError
from spectra_jax.inference.prefetch import prefetch
from spectra_jax.messages import count, examples
from spectra_jax.model.config import SpectraConfig
from spectra_jax.training.augment import augment
from spectra_jax.training.config import TrainingConfig
from spectra_jax.training.sampling import Clip, Group, group_clips

SPLITS = ("train", "dev")
# What tables have in place of a dataset or an attack.
_NOTHING = ("", "-", "None", "nan")


def read_manifest(manifest: str | Path) -> dict[str, list[Clip]]:
    """The clips of the splits `train` and `dev`, in the manifest's order. Other splits are ignored.

    Args:
      manifest: .csv, .tsv or .jsonl with the columns `path` (relative to the manifest's folder), `label` and `split`;
        `utterance_id` (otherwise the file's stem), `pair`, `dataset` and `attack` are optional, other columns are
        ignored.

    Raises:
      InputError: a column, a split or a file is missing, a split has one class only, or a label is unknown.
    """
    manifest = Path(manifest)
    labels = read_labels(manifest)
    for name in ("path", "split"):
        if name not in labels.columns:
            raise InputError(f"{manifest}: no column `{name}`; training needs path, label and split")
    absent = [None] * len(labels.bonafide)
    rows = zip(
        labels.utterance_ids,
        labels.columns["path"],
        labels.columns["split"],
        labels.bonafide,
        *(labels.columns.get(name, absent) for name in ("pair", "dataset", "attack")),
        strict=True,
    )
    splits: dict[str, list[Clip]] = {name: [] for name in SPLITS}
    for name, path, split, bonafide, pair, dataset, attack in rows:
        if split in splits:
            clip = Clip(
                str(name),
                manifest.parent / str(path),
                "bonafide" if bonafide else "spoof",
                pair=str(pair) if pair else None,
                dataset=_value(dataset),
                attack=_value(attack),
            )
            splits[split].append(clip)
    for split, clips in splits.items():
        if not clips:
            present = ", ".join(sorted({str(value) for value in labels.columns["split"]}))
            raise InputError(f"{manifest}: no trial of split `{split}`; the column `split` has: {present[:200]}")
        _require_both_classes(manifest, split, clips)
    _require_files(manifest, [clip for clips in splits.values() for clip in clips])
    return splits


def _value(cell: object) -> str | None:
    """The text of a table's cell; None if it has nothing."""
    return None if str(cell) in _NOTHING else str(cell)


def _require_both_classes(manifest: Path, split: str, clips: Sequence[Clip]) -> None:
    for label in ("bonafide", "spoof"):
        if not any(clip.label == label for clip in clips):
            raise InputError(
                f"{manifest}: split `{split}` has {count(len(clips), 'trial')} and none labelled `{label}`; "
                "training and evaluation need both classes"
            )


def _require_files(manifest: Path, clips: Sequence[Clip]) -> None:
    missing = [f"{clip.utterance_id}: {clip.path}" for clip in clips if not Path(clip.path).is_file()]
    if missing:
        raise InputError(f"{manifest}: {count(len(missing), 'file')} missing:{examples(missing)}")


def class_weights(clips: Sequence[Clip], training: TrainingConfig) -> tuple[float, float]:
    """The weights of a spoof and of a bona fide clip in the loss: see `TrainingConfig.class_weights`."""
    if training.class_weights != "balanced":
        return training.class_weights
    if training.pairs:
        return 1.0, 1.0
    if training.balance is not None:
        share = group_clips(clips, training.balance).bonafide_share
        return 0.5 / (1 - share), 0.5 / share
    bonafide = sum(clip.bonafide for clip in clips)
    return len(clips) / (2 * (len(clips) - bonafide)), len(clips) / (2 * bonafide)


@dataclass(frozen=True)
class Batch:
    """The training examples of one step.

    Attributes:
      windows: (clips, num_samples) float32.
      labels: (clips,) int32, 0 = spoof, 1 = bona fide.
      utterance_ids: of the clips.
      skipped: for each clip that could not be decoded, the reason; other clips replaced them.
    """

    windows: Float32[np.ndarray, "clips num_samples"]
    labels: Int32[np.ndarray, " clips"]
    utterance_ids: tuple[str, ...]
    skipped: tuple[str, ...] = ()


class Batches:
    """The training batches of a run. An epoch has every clip once (in pairs: every spoof), in a random order.

    With `TrainingConfig.balance`, each group has epochs of its own. A clip that cannot be decoded is replaced by
    another one of the same group.

    Raises:
      InputError: a clip lacks what the groups are formed by.
    """

    def __init__(self, clips: Sequence[Clip], model: SpectraConfig, training: TrainingConfig):
        self._bonafide = [clip for clip in clips if clip.bonafide]
        self._bonafide_by_id = {clip.utterance_id: clip for clip in self._bonafide}
        # In pairs, spoofs are drawn, each with a bona fide clip.
        drawn = [clip for clip in clips if not clip.bonafide] if training.pairs else clips
        self._clips = group_clips(drawn, training.balance or ())
        self._model, self._training = model, training
        self._draws_per_step = training.batch_size // (2 if training.pairs else 1)

    @property
    def steps_per_epoch(self) -> float:
        return len(self._clips.clips) / self._draws_per_step

    @property
    def groups(self) -> list[Group]:
        """The groups of clips that are balanced; one of all clips without `TrainingConfig.balance`."""
        return list(self._clips.leaves())

    def from_step(self, step: int, pool: ThreadPoolExecutor) -> Iterator[Batch]:
        """The batches of the steps from `step` (counted from 0) on, each decoded while earlier ones are trained on."""
        tasks = (pool.submit(self.batch, number) for number in range(step, self._training.steps))
        for task in prefetch(tasks, 3):
            yield task.result()

    def batch(self, step: int) -> Batch:
        """The batch of one step, counted from 0; always the same one.

        Raises:
          InputError: no clip of the training split can be decoded.
        """
        windows: list[NDArray[np.float32]] = []
        clips: list[Clip] = []
        skipped: list[str] = []
        first = step * self._draws_per_step
        for index in range(first, first + self._draws_per_step):
            drawn, drawn_windows = self._draw_decodable(index, skipped)
            clips += drawn
            windows += drawn_windows
        labels = np.array([clip.bonafide for clip in clips], np.int32)
        return Batch(np.stack(windows), labels, tuple(clip.utterance_id for clip in clips), tuple(skipped))

    def _draw_decodable(self, index: int, skipped: list[str]) -> tuple[list[Clip], list[NDArray[np.float32]]]:
        """Draw number `index` of the run, or another one if it cannot be decoded: its clips and their windows.

        The reasons why draws were skipped are added to `skipped`.
        """
        group, number = self._clips.find(index, self._training.seed)
        for attempt in range(len(group.clips)):
            seed = (self._training.seed, index, attempt)
            rng = np.random.default_rng(seed)
            clips = self._draw(group, number if attempt == 0 else self._replacement(group, number, attempt, rng), rng)
            try:
                return clips, [self._window(clip, (*seed, 1)) for clip in clips]
            except audio.AudioError as error:
                skipped.append(str(error))
        clips_of = f"no clip of {group.name} in the training split" if group.name else "no clip of the training split"
        raise InputError(f"{clips_of} can be decoded:{examples(skipped)}")

    def _replacement(self, group: Group, number: int, attempt: int, rng: np.random.Generator) -> int:
        """The draw of a group that replaces one that cannot be decoded."""
        size = len(group.clips)
        if self._training.balance is None:
            # A random one, since the next ones are drawn anyway.
            return int(rng.integers(size))
        # The next ones of the epoch, since a group may have few clips that can be decoded.
        epoch, position = divmod(number, size)
        return epoch * size + (position + attempt) % size

    def _draw(self, group: Group, number: int, rng: np.random.Generator) -> list[Clip]:
        """The clip of a group's draw, with the bona fide clip of its pair where pairs are drawn."""
        clip = group.clip(number, self._training.seed)
        if not self._training.pairs:
            return [clip]
        partner = self._bonafide_by_id.get(clip.pair or "")
        return [clip, partner or self._bonafide[rng.integers(len(self._bonafide))]]

    def _window(self, clip: Clip, seed: tuple[int, ...]) -> NDArray[np.float32]:
        """A random window of a clip, augmented. With the same seed both clips of a pair get the same augmentation."""
        rng = np.random.default_rng(seed)
        samples, rate = audio.read(clip.path)
        if not np.all(np.isfinite(samples)) or not len(samples):
            raise audio.AudioError(f"{clip.path}: NaN or infinite samples, or none")
        start = rng.random()
        samples = augment(audio.resample(samples, rate, self._model.sample_rate), self._training.augment, rng)
        emphasised = audio.pre_emphasis(samples, self._model.preemphasis)
        return audio.window(emphasised, self._model.num_samples, start=start)
