"""A training step: its parts, its precision, its devices, and which weights it changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spectra_jax.checkpoints.checkpoint import weight_shapes
from spectra_jax.training import TrainingConfig
from spectra_jax.training.step import StepReport, TrainingState, decays, is_frozen, learning_rates
from tests.training.runs import config
from tests.training.steps import HALVES, take_step


@pytest.fixture(scope="module")
def complete_step() -> tuple[TrainingState, TrainingState, StepReport]:
    """A step on `HALVES` without micro-batches."""
    return take_step(config(dropout=0.0), *HALVES)


@pytest.mark.long
def test_micro_batches_and_recomputed_layers_give_the_same_step(complete_step: Any) -> None:
    _, complete, report = complete_step
    _, split, split_report = take_step(config(dropout=0.0, accumulation=2, remat=True), *HALVES)
    # Float32 sums in another order.
    assert float(split_report.loss) == pytest.approx(float(report.loss), rel=1e-5)
    assert float(split_report.gradient_norm) == pytest.approx(float(report.gradient_norm), rel=1e-4)
    # Adam's first moments are a tenth of the gradients, clipped to a global norm of 1.
    for path, moment in complete.optimizer[1].mu.items():
        np.testing.assert_allclose(split.optimizer[1].mu[path], moment, rtol=1e-3, atol=1e-6, err_msg=path)


@pytest.mark.slow
def test_a_step_changes_every_module() -> None:
    # The same program as of the runs in other files: dropout is part of it, and nothing else of their settings.
    before, after, _ = take_step(config(), *HALVES)
    unchanged = {path for path, leaf in after.trained.items() if np.array_equal(leaf, before.trained[path])}
    # The maximum over the branches has a gradient in one of them only; a slope has one for negative inputs only.
    assert len(unchanged) < 0.1 * len(after.trained)
    assert not [path for path in unchanged if not path.startswith("aasist.branches.") and not path.endswith(".slope")]
    assert not np.array_equal(after.statistics["aasist.gat_s.norm.mean"], before.statistics["aasist.gat_s.norm.mean"])


@pytest.mark.slow
def test_bfloat16_with_frozen_layers_and_an_average_of_the_weights() -> None:
    settings = config("pool+linear", dropout=0.0, precision="bfloat16", freeze_layers=1, ema_decay=0.5)
    before, after, report = take_step(settings, *HALVES)
    _, complete, complete_report = take_step(config("pool+linear", dropout=0.0), *HALVES)
    # Weights, moments and the average are float32, and bfloat16 shows in the loss by about its rounding.
    assert {leaf.dtype for leaf in jax.tree.leaves((after.trained, after.ema))} == {jnp.dtype(jnp.float32)}
    assert 0 < abs(float(report.loss) - float(complete_report.loss)) < 0.05
    frozen = {path for path in complete.trained if is_frozen(path, settings.training)}
    assert frozen == set(complete.trained) - set(after.trained)
    path = "bridge.linear1.kernel"
    # After the first step, a tenth of the initial weights is left in the average.
    wanted = 0.1 * before.trained[path] + 0.9 * np.asarray(after.trained[path])
    np.testing.assert_allclose(after.ema[path], wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("settings", "frozen"),
    [
        ({}, ()),
        ({"freeze": "encoder"}, "encoder."),
        ({"freeze": "first_convolution"}, "encoder.feature_extractor.layers.0.conv."),
        ({"freeze": "feature_extractor"}, "encoder.feature_extractor."),
        ({"freeze_layers": 1}, ("encoder.f", "encoder.positional", "encoder.layers.0.")),
    ],
)
def test_frozen_weights(settings: dict[str, Any], frozen: str | tuple[str, ...]) -> None:
    shapes = weight_shapes(config().model)
    training = config(**settings).training
    assert {path for path in shapes if is_frozen(path, training)} == {
        path for path in shapes if path.startswith(frozen)
    }


def test_norms_biases_positions_and_slopes_are_not_decayed() -> None:
    shapes = weight_shapes(config().model)
    decayed = {path for path in shapes if decays(path)}
    ends = {path.rsplit(".", 1)[-1] for path in decayed}
    assert ends == {
        *("kernel", "base_weight", "spline_weight", "spline_scaler", "pair_weight", "master_pair_weight"),
        *("pair_weight_temporal", "pair_weight_spectral", "pair_weight_cross"),
    }
    others = {path.rsplit(".", 1)[-1] for path in set(shapes) - decayed}
    assert others == {
        *("bias", "scale", "mean", "var", "num_batches", "slope", "master", "temporal_position", "spectral_position"),
    }


def test_rates_rise_and_then_fall_to_zero() -> None:
    training = TrainingConfig(steps=100, warmup_steps=10, learning_rate=0.5, encoder_learning_rate=0.05)
    rates = np.array([learning_rates(training, step) for step in range(101)])
    np.testing.assert_allclose(rates[:, 0], rates[:, 1] / 10)
    values = rates[:, 1]
    assert values[0] == 0 and values[10] == pytest.approx(0.5) and values[100] == pytest.approx(0, abs=1e-9)
    assert np.all(np.diff(values[:11]) > 0) and np.all(np.diff(values[10:]) < 0)
    assert values[55] == pytest.approx(0.25)  # half of a half cosine
    assert learning_rates(TrainingConfig(steps=9, warmup_steps=0), 0).back_end == TrainingConfig().learning_rate


@pytest.mark.parametrize(("steps", "highest"), [(1, 0), (2, 1), (50, 25), (100, 50), (101, 100)])
def test_a_short_run_warms_up_in_its_first_half(steps: int, highest: int) -> None:
    rates = [learning_rates(TrainingConfig(steps=steps), step).back_end for step in range(steps + 1)]
    assert int(np.argmax(rates)) == highest
    assert rates[highest] == TrainingConfig().learning_rate
    assert rates[-1] == 0


@pytest.mark.long
def test_devices_share_a_step(complete_step: Any) -> None:
    """On 4 devices as on one: the batch norms see the whole batch, and the gradients are sums over all of it."""
    # Unoptimised code takes half the time to compile.
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    environment = os.environ | {"XLA_FLAGS": flags}
    command = [sys.executable, "-m", "tests.programs.training_step"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    loss, norm, statistics = json.loads(done.stdout)
    _, one, report = complete_step
    assert [loss, norm] == pytest.approx([float(report.loss), float(report.gradient_norm)], rel=1e-4)
    wanted = np.concatenate([np.ravel(one.statistics[path]) for path in sorted(one.statistics)])
    np.testing.assert_allclose(statistics, wanted, rtol=1e-4, atol=1e-6)
