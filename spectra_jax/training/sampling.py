"""Which clip each draw of a run takes: all clips alike, or a balance of groups. See `TrainingConfig.balance`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.messages import count, examples


@dataclass(frozen=True)
class Clip(Trial):
    """A labelled clip of a training manifest.

    Attributes:
      pair: utterance_id of the bona fide clip that a spoof is a copy of, where the manifest names it.
      dataset, attack: to balance by, where the manifest has them.
    """

    pair: str | None = None
    dataset: str | None = None
    attack: str | None = None

    @property
    def bonafide(self) -> bool:
        return self.label == "bonafide"

    def group(self, level: str) -> str | None:
        """The clip's group at a level of `TrainingConfig.balance`; None if the manifest has none.

        Bona fide clips have no attack, whatever the manifest has in this column: they are one group among the attacks.
        """
        if level == "label" or (level == "attack" and self.bonafide):
            return self.label
        value: str | None = getattr(self, level)
        return value


@dataclass(frozen=True)
class Group:
    """Clips, divided into groups that are drawn equally often, each of which may be divided further.

    Attributes:
      name: such as `label spoof, attack world`; empty for all clips.
      clips: all of the group.
      parts: the groups of the next level; empty at the last level.
      path: the index of each part on the way from all clips to this group, counted from 1.
    """

    name: str
    clips: Sequence[Clip]
    parts: Sequence[Group] = ()
    path: tuple[int, ...] = ()

    def find(self, index: int, seed: int) -> tuple[Group, int]:
        """The last level's group that draw number `index` takes a clip from, and how often it was drawn from before.

        A round of draws takes each part once, in a random order. Every number follows from the arguments, so that a
        resumed run needs no record of earlier draws.
        """
        if not self.parts:
            return self, index
        round_number, position = divmod(index, len(self.parts))
        chosen = int(self._order(len(self.parts), round_number, seed)[position])
        return self.parts[chosen].find(round_number, seed)

    def clip(self, number: int, seed: int) -> Clip:
        """The clip of the group's draw `number`: an epoch has each clip once, in a random order."""
        epoch, position = divmod(number, len(self.clips))
        return self.clips[int(self._order(len(self.clips), epoch, seed)[position])]

    def _order(self, size: int, epoch: int, seed: int) -> NDArray[np.int64]:
        return np.random.default_rng([seed, epoch, *self.path]).permutation(size)

    def leaves(self) -> Iterator[Group]:
        """The groups of the last level."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()

    @cached_property
    def bonafide_share(self) -> float:
        """The share of bona fide clips among the draws, from 0 to 1."""
        if self.parts:
            return sum(part.bonafide_share for part in self.parts) / len(self.parts)
        return sum(clip.bonafide for clip in self.clips) / len(self.clips)


def group_clips(clips: Sequence[Clip], balance: Sequence[str]) -> Group:
    """All clips, divided by each level of `balance` in turn: `label`, `dataset` or `attack`.

    Raises:
      InputError: a clip has no dataset, or a spoof no attack, where `balance` names these: how many, and examples.
    """
    for level in balance:
        missing = [clip.utterance_id for clip in clips if clip.group(level) is None]
        if missing:
            raise InputError(
                f"training.balance names `{level}`, which {count(len(missing), 'clip')} of {len(clips):,} to train on "
                f"{'lacks' if len(missing) == 1 else 'lack'} in the manifest; fill its column `{level}`, or leave "
                f"`{level}` out of balance:{examples(missing)}"
            )
    return _divide(Group("", clips), balance)


def _divide(group: Group, balance: Sequence[str]) -> Group:
    if not balance:
        return group
    level, *others = balance
    names = sorted({str(clip.group(level)) for clip in group.clips})
    parts = []
    for index, name in enumerate(names, start=1):
        clips = [clip for clip in group.clips if clip.group(level) == name]
        part = Group(f"{group.name}, {level} {name}".lstrip(", "), clips, path=(*group.path, index))
        parts.append(_divide(part, others))
    return Group(group.name, group.clips, parts, group.path)
