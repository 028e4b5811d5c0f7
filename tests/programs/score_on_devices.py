"""Score the tiny network's clips on 1, 2, 4 and 8 of eight devices, and print what happened as JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import spectra_jax
from spectra_jax.inference.compilation_cache import CompilationCache
from spectra_jax.inference.engine import CompiledEngine
from spectra_jax.inference.scorer import Scorer
from tests.conftest import GOLDEN, golden_windows

TINY = GOLDEN / "tiny"
# Neither 2 nor 4 nor 8 divides this many clips, and a batch of 8 is filled once and then in part.
NUM_CLIPS = 11


class KeyComputed(Exception):  # noqa: N818
    """Stops a scorer from loading further."""


class KeyOnly(CompilationCache):
    """A cache from which only the key of a network is wanted."""

    def key(self, facts: str) -> str:
        raise KeyComputed(super().key(facts))


class Runs:
    """Scorers on some devices."""

    def __init__(self) -> None:
        self._windows = golden_windows([{"seed": seed, "samples": 20000} for seed in range(NUM_CLIPS)])
        self._compiles: list[str] = []
        jax.monitoring.register_event_duration_secs_listener(self._count)

    def _count(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            self._compiles.append(event)

    def score(
        self, precision: str, devices: Sequence[jax.Device], batch_size: int, cache: CompilationCache | None = None
    ) -> dict[str, Any]:
        self._compiles.clear()
        # From the file: compiled from shapes alone, while the weights are read.
        scorer = Scorer(TINY, precision=precision, batch_size=batch_size, devices=devices)
        scorer.load(cache=cache)
        compiles_at_load = len(self._compiles)
        logits = scorer.logits(self._windows)
        scorer.logits(self._windows[:1])
        engine = scorer.engine
        assert isinstance(engine, CompiledEngine)
        in_flight = engine.dispatch(self._windows[:1])
        return {
            "logits": logits.tolist(),
            "dtype": str(logits.dtype),
            "batch_size": scorer.batch_size,
            "compiles": len(self._compiles),
            "compiles at load": compiles_at_load,
            "program": engine.executable.as_text(),
            "weights on": sorted({len(leaf.sharding.device_set) for leaf in engine.params}),
            "weights replicated": all(leaf.sharding.is_fully_replicated for leaf in engine.params),
            "clips on": [len(shard.data) for shard in in_flight.addressable_shards],
        }

    def pmap(self, devices: Sequence[jax.Device]) -> tuple[dict[str, Any], list[list[float]]]:
        """Logits of two clips by the pure function under `pmap`, with its warnings, and under `jit`."""
        forward, params, rest = spectra_jax.split(spectra_jax.load(TINY))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            by_device = self._windows[:2].reshape(2, 1, -1)
            mapped = jax.pmap(forward, in_axes=(None, None, 0), devices=devices)(params, rest, by_device)
            logits = np.asarray(mapped).reshape(2, 2).tolist()
        alone = jax.jit(forward)
        expected = [np.asarray(alone(params, rest, self._windows[index : index + 1]))[0].tolist() for index in range(2)]
        return {"logits": logits, "warnings": [str(warning.message) for warning in caught]}, expected


def key_on(devices: Sequence[jax.Device], directory: Path) -> str:
    try:
        Scorer(TINY, batch_size=8, devices=devices).load(cache=KeyOnly(directory, print))
    except KeyComputed as computed:
        return str(computed)
    raise AssertionError("no key was computed")


def main() -> None:
    runs, devices = Runs(), jax.devices()
    found: dict[str, Any] = {f"float64 {count}": runs.score("float64", devices[:count], 8) for count in (1, 2, 4, 8)}
    found["float32 1"] = runs.score("float32", devices[:1], 1)
    with tempfile.TemporaryDirectory() as directory:
        cache = CompilationCache(Path(directory), print)
        for name in ("float32 8", "float32 8 cached"):
            found[name] = runs.score("float32", devices, 8, cache)
        # For other devices of the same kind it is another program.
        first, again, others = (key_on(some, Path(directory)) for some in (devices[:4], devices[:4], devices[4:]))
        found["keys"] = [again == first, others == first]
    found["rounded up"] = runs.score("float32", devices[1:3], 1)
    found["pmap"], found["jit"] = runs.pmap(devices[:2])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
