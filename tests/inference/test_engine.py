"""The engine: what is compiled, and when, and that it runs any number of clips."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.load import abstract_inference_model, load_model
from spectra_jax.errors import CheckpointError
from spectra_jax.inference.scorer import Scorer
from spectra_jax.model.functional import split
from spectra_jax.model.spectra import SpectraAASIST3
from tests.conftest import GOLDEN
from tests.inference.clips import (
    HANG_SECONDS,
    RATE,
    waveform,
    windows_of,
)
from tests.tolerances import LOGITS

TINY = GOLDEN / "tiny"


def test_any_number_of_clips_in_one_compiled_shape(scorer: Scorer) -> None:
    compiles: list[str] = []

    def count(event: str, duration_secs: float, **_: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            compiles.append(event)

    scorer.load()
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        seven = scorer.logits(windows_of(range(7)))
        assert seven.shape == (7, 2)
        assert seven.dtype == np.float64
        assert scorer.logits(np.empty((0, 64600), np.float32)).shape == (0, 2)
        for clips in (1, 2, 3):
            # Neighbours, padding and the position in the batch change only the order of a sum.
            found = scorer.logits(windows_of(range(clips)))
            np.testing.assert_allclose(found, seven[:clips], rtol=0, atol=1e-12)
        backwards = scorer.logits(windows_of(range(7))[::-1])
        np.testing.assert_allclose(backwards[::-1], seven, rtol=0, atol=1e-12)
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert compiles == []
    with pytest.raises(ValueError, match=r"expected windows of shape \(n, 64600\), found \(2, 100\)"):
        scorer.logits(np.zeros((2, 100), np.float32))


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16", "int8", "float64"])
def test_the_loaded_weights_are_those_that_are_compiled_for(precision: str, tiny_checkpoint: Checkpoint) -> None:
    """Shape, dtype and structure, since the network is compiled before its weights are read."""
    with jax.enable_x64(precision == "float64"):
        loaded = split(load_model(tiny_checkpoint, precision))[1:]
    shapes = split(abstract_inference_model(tiny_checkpoint.config, precision))[1:]
    assert jax.tree.structure(shapes) == jax.tree.structure(loaded)  # type: ignore[operator]
    for shape, leaf in zip(jax.tree.leaves(shapes), jax.tree.leaves(loaded), strict=True):
        assert (shape.shape, shape.dtype) == (leaf.shape, leaf.dtype)


@pytest.mark.parametrize(
    ("flags", "precision", "level"),
    [
        ("", "float32", "2"),
        ("--xla_dump_to=/x", "float32", "2"),
        ("--xla_backend_optimization_level=3", "float32", None),
        ("", "bfloat16", None),
        ("", "int8", None),
    ],
)
def test_the_level_of_optimisation(
    flags: str, precision: str, level: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Level 2 in float32, unless the user chose one; XLA's own in narrower precisions, which run faster with it."""
    requested: list[dict[str, object]] = []

    def compile_network(self: jax.stages.Lowered, options: dict[str, object]) -> jax.stages.Compiled:
        requested.append(options)
        raise RuntimeError("stopped here")

    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_network)
    monkeypatch.setenv("XLA_FLAGS", flags)
    with pytest.raises(RuntimeError, match="stopped here"):
        Scorer("demo", precision=precision).load()
    assert requested == [{} if level is None else {"xla_backend_optimization_level": level}]


@pytest.mark.parametrize("mode", [False, True], ids=["x32 process", "x64 process"])
def test_float64_leaves_the_process_s_mode_alone(mode: bool, scorer: Scorer) -> None:
    with jax.enable_x64(mode):
        scorer.logits(windows_of(range(1)))
        assert jax.config.jax_enable_x64 == mode  # type: ignore[attr-defined]
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(scorer.logits, [windows_of(range(2)), windows_of(range(2, 4))])
    np.testing.assert_allclose(np.concatenate([first, second]), scorer.logits(windows_of(range(4))), rtol=0, atol=1e-12)


@pytest.mark.slow
def test_float32_is_float32_in_an_x64_process() -> None:
    scorer = Scorer(TINY, batch_size=1)
    scores = scorer.score_batch([waveform(1)], [RATE])
    before = dict(jax.config.values)
    with jax.enable_x64(True):
        wide = Scorer(TINY, batch_size=1)
        assert wide.logits(windows_of(range(1))).dtype == np.float32
        np.testing.assert_allclose(wide.score_batch([waveform(1)], [RATE]), scores, rtol=0, atol=LOGITS["float32"])
    assert dict(jax.config.values) == before


def test_damaged_weights_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for the compile that runs beside the reading."""
    done = threading.Event()

    def compile_network(self: jax.stages.Lowered, options: dict[str, object]) -> None:
        done.wait(HANG_SECONDS)

    def damaged(*_: object) -> SpectraAASIST3:
        raise CheckpointError("damaged")

    monkeypatch.setattr(jax.stages.Lowered, "compile", compile_network)
    monkeypatch.setattr("spectra_jax.inference.engine.with_weights", damaged)
    try:
        with pytest.raises(CheckpointError, match="damaged"):
            Scorer("demo").load()
        assert not done.is_set()
    finally:
        done.set()
