"""The benchmark of training steps: contenders that take the same steps, each timed in every round."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import training_step
from benchmarks.speed.network import Network
from tests.benchmarks import contenders

CONTENDERS = [training_step.REFERENCE, "spectra-jax"]
FROZEN: tuple[training_step.Frozen, ...] = ("nothing", "feature_extractor")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Network:
    network = Network("tiny", tmp_path_factory.mktemp("networks"))
    training_step.write_network(network)
    return network


@pytest.mark.parity
@pytest.mark.long
def test_steps_of_the_tiny_network(tiny: Network, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")
    # Compiling takes PyTorch minutes and needs a C++ compiler.
    words = ["--networks", "tiny", "--seconds", "1", "--batches", "4", "--rounds", "2", "--limit", "3600"]
    words += ["--work", str(tiny.work), "--output", str(tmp_path / "found"), "--contenders", *CONTENDERS]
    assert training_step.main(words) == 0
    results = json.loads((tmp_path / "found.json").read_text())
    rows = [training_step.Row(**row) for row in results["rows"]]
    assert [(row.contender, row.precision) for row in rows] == [
        (contender, precision) for precision in ("float32", "bfloat16") for contender in CONTENDERS
    ]
    for row in rows:
        assert row.seconds is not None and len(row.seconds) == 2 and min(row.seconds) > 0
        assert row.loss_difference is not None
        assert row.loss_difference <= training_step.TOLERANCES[row.precision].loss
    assert rows[1].loss_difference and rows[3].loss_difference
    assert rows[1].loss_difference < rows[3].loss_difference
    table = (tmp_path / "found.md").read_text()
    assert table.count("| spectra-jax |") == 2 and results["machine"]["cpu"] in table


@pytest.mark.parity
@pytest.mark.long
def test_a_contender_that_takes_other_steps_is_not_timed(tiny: Network) -> None:
    pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")
    batch = training_step.make_batch(2, 16_000)
    task = training_step.Task(tiny, "float32", training_step.optimizer_groups(tiny))
    reports = training_step.first_steps(task, batch)
    losses = [report.loss for report in reports]
    assert len(set(losses)) == len(losses), "each step changes the weights"
    other = [training_step.Report(1.01 * report.loss, report.gradient_norm) for report in reports]
    with pytest.raises(ValueError, match=r"PyTorch, eager, tiny in float32: the first 3 losses differ"):
        training_step.measure(task, batch, other, [training_step.REFERENCE], rounds=1, limit=3600)


@pytest.mark.parity
@pytest.mark.long
def test_gradients_agree_in_float64(tiny: Network) -> None:
    pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")
    batch = training_step.make_batch(2, 16_000)
    groups = training_step.optimizer_groups(tiny)
    for frozen in FROZEN:
        agreement = training_step.compare_gradients(training_step.Task(tiny, "float64", groups, freeze=frozen), batch)
        assert agreement.frozen == frozen
        # Some rounding, or the two sides are not two computations.
        assert 0 < agreement.gradient_difference <= training_step.FLOAT64_TOLERANCE


def test_a_summary_depends_on_the_order_of_the_elements() -> None:
    gradient = np.arange(6.0).reshape(2, 3)
    norm, product = training_step._summary(gradient)
    other_norm, other_product = training_step._summary(gradient[:, ::-1])
    assert norm == pytest.approx(other_norm) and abs(product - other_product) > 0.1


@pytest.mark.long
def test_a_contender_that_fails_has_a_row_with_the_reason(tiny: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    task = training_step.Task(tiny, "float32", [])
    monkeypatch.setitem(training_step.CONTENDERS, "fails", contenders.fails_for)
    (row,) = training_step.measure(task, training_step.make_batch(1, 16_000), [], ["fails"], rounds=1, limit=60)
    assert row.seconds is None and row.problem == "fails: RuntimeError: no such device"
    machine = {
        "cores": 2,
        "cpu": "a CPU",
        "cpu_family_model": [None, None],
        "packages": dict.fromkeys(("torch", "transformers", "jax"), "1"),
    }
    results = {"machine": machine, "compared_steps": 3, "tolerances": {}, "rows": [vars(row)]}
    assert (
        "| tiny | nothing | float32 | 1 x 1.00 s | fails | fails: RuntimeError: no such device |"
        in training_step.render(results)
    )


@pytest.mark.slow
def test_every_weight_is_in_one_group(tiny: Network) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")
    groups = training_step.optimizer_groups(tiny)
    names = [name for group in groups for name in group.names]
    model = training_step.load_trainable(tiny, rows_at_a_time=None)
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    rates = {name: (group.learning_rate, group.weight_decay) for group in groups for name in group.names}
    encoder, back_end = training_step.ENCODER_LEARNING_RATE, training_step.LEARNING_RATE
    assert rates["ssl_encoder.model.encoder.layers.0.attention.q_proj.weight"] == (encoder, training_step.WEIGHT_DECAY)
    assert rates["ssl_encoder.model.encoder.layers.0.attention.q_proj.bias"] == (encoder, 0.0)
    assert rates["aasist.out_layer.spline_weight"] == (back_end, training_step.WEIGHT_DECAY)
    assert not any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in model.modules())


def test_the_largest_difference_is_a_share_of_the_expected_value() -> None:
    assert training_step.largest_difference([1.0, 2.2], [1.0, 2.0]) == pytest.approx(0.1)
