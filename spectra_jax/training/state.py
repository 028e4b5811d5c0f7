"""The saved states of a run, in orbax checkpoints: all that is needed to resume it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp  # type: ignore[import-untyped]

from spectra_jax.errors import InputError
from spectra_jax.training.step import TrainingState

CHECKPOINTS = "checkpoints"
_MAX_KEPT = 2
# In saved states, `TrainingState.ema` has the name that earlier versions gave it.
_SAVED_NAMES = {".ema": ".average"}


class Score(NamedTuple):
    """How good a network is on the dev split; the lower of two is better.

    Attributes:
      eer: from 0 to 1.
      loss: of the training, which decides between equal EERs.
    """

    eer: float
    loss: float


class StateStore:
    """The saved states of the run in `directory`. The latest two are kept."""

    def __init__(self, directory: Path):
        self._path = directory / CHECKPOINTS
        self._manager = ocp.CheckpointManager(
            self._path.resolve(),
            options=ocp.CheckpointManagerOptions(max_to_keep=_MAX_KEPT, enable_async_checkpointing=False),
        )

    @property
    def latest_step(self) -> int | None:
        """The step of the latest saved state; None if there is none."""
        step: int | None = self._manager.latest_step()
        return step

    def save(self, state: TrainingState, best: Score | None) -> None:
        items = {
            "state": ocp.args.StandardSave(_by_name(state)),
            "best": ocp.args.JsonSave(None if best is None else best._asdict()),
        }
        self._manager.save(int(state.step), args=ocp.args.Composite(**items), force=True)

    def restore(self, initial: TrainingState) -> tuple[TrainingState, Score | None]:
        """The latest saved state and the best score until then; the initial state and None if nothing was saved.

        Raises:
          InputError: the saved state cannot be read.
        """
        step = self.latest_step
        if step is None:
            return initial, None
        arrays = _by_name(initial)
        try:
            items = ocp.args.Composite(state=ocp.args.StandardRestore(arrays), best=ocp.args.JsonRestore())
            saved = self._manager.restore(step, args=items)
        except (ValueError, KeyError, OSError) as error:
            raise InputError(
                f"{self._path / str(step)}: the saved state cannot be read ({error}); remove this directory to resume "
                "from the saved state before it"
            ) from error
        state = jax.tree.unflatten(jax.tree.structure(initial), [saved.state[name] for name in arrays])
        return state, None if saved.best is None else Score(**saved.best)


def _by_name(state: TrainingState) -> dict[str, Any]:
    """The arrays of a state by their names in a saved state."""
    return {_saved_name(jax.tree_util.keystr(path)): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def _saved_name(path: str) -> str:
    for prefix, saved in _SAVED_NAMES.items():
        if path.startswith(prefix + "["):
            return saved + path.removeprefix(prefix)
    return path
