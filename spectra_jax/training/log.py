"""The events of a run, and its log: `log.jsonl`, a line of JSON for each event."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from spectra_jax.files.atomic import atomic_file

LOG = "log.jsonl"
# In the log, `skipped` has the name that earlier versions gave it.
_SKIPPED_KEY = "refused"


class _LoggedEvent:
    """What both events share. They are dataclasses and this is none, so that `skipped` is their last field."""

    kind: ClassVar[str]
    skipped: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as the log has them."""
        values = dict(vars(self))
        values[_SKIPPED_KEY] = values.pop("skipped")
        return {"event": self.kind, **values}

    @property
    def refused(self) -> tuple[str, ...]:
        """The old name of `skipped`, for one release."""
        warnings.warn(
            "an event's `refused` is now `skipped`; the old name will be removed in the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.skipped


@dataclass(frozen=True)
class StepEvent(_LoggedEvent):
    """One training step.

    Attributes:
      step: its number, from 1 on.
      loss: class-weighted loss of the batch.
      gradient_norm: global norm, before clipping.
      learning_rate: of the back-end, at this step.
      clips_per_second: since the step before.
      skipped: for each clip that could not be decoded, the reason; other clips replaced them in the batch.
    """

    kind: ClassVar[str] = "step"

    step: int
    loss: float
    gradient_norm: float
    learning_rate: float
    clips_per_second: float
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluationEvent(_LoggedEvent):
    """An evaluation of the dev split.

    Attributes:
      step: how many steps were taken before.
      loss: the training's loss, with the same weight for both classes.
      eer: from 0 to 1.
      best: whether no earlier evaluation had a lower EER, or the same EER and a lower loss.
      skipped: for each clip that could not be decoded, the reason.
    """

    kind: ClassVar[str] = "evaluation"

    step: int
    loss: float
    eer: float
    best: bool
    skipped: tuple[str, ...] = ()


Event = StepEvent | EvaluationEvent


def _from_dict(values: dict[str, Any]) -> Event:
    kind: type[Event] = {cls.kind: cls for cls in (StepEvent, EvaluationEvent)}[values["event"]]
    fields = {name: value for name, value in values.items() if name not in ("event", _SKIPPED_KEY)}
    return kind(**fields, skipped=tuple(values[_SKIPPED_KEY]))


def read_log(path: str | Path) -> list[Event]:
    """The events of a run's log, in order, without a last line that is incomplete."""
    events: list[Event] = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            break
        events.append(_from_dict(values))
    return events


class Log:
    """Appends events to a run's log, from which those after `last_step` are removed first: the run is resumed there."""

    def __init__(self, path: Path, last_step: int):
        if path.exists():
            events = read_log(path)
            with atomic_file(path) as file:
                file.writelines(_line(event) for event in events if event.step <= last_step)
        self._file = path.open("ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, event: Event) -> None:
        self._file.write(_line(event))

    def flush(self) -> None:
        self._file.flush()


def _line(event: Event) -> bytes:
    return (json.dumps(event.to_dict()) + "\n").encode()
