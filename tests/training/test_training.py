"""Training: what a step does, what a run keeps, and what it refuses."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from scipy import special

import spectra_jax
from spectra_jax.checkpoints.native import leaf_shapes
from spectra_jax.convert import convert
from spectra_jax.errors import ConfigError, InputError, TrainingError
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.spectra import SpectraAASIST3
from spectra_jax.model.wav2vec2 import gelu
from spectra_jax.training import (
    BEST,
    EvaluationEvent,
    Run,
    RunConfig,
    StepEvent,
    TrainingConfig,
    read_log,
    read_manifest,
    write_curves,
)
from spectra_jax.training import run as run_module
from spectra_jax.training.data import Batches, crop
from spectra_jax.training.step import (
    Examples,
    LearningRates,
    Network,
    StepReport,
    TrainingState,
    decays,
    first_state,
    is_frozen,
    learning_rates,
    make_optimizer,
    make_step,
)
from tests.conftest import spectra

# As small as the architecture goes: most of a test's time is compiling it.
MODEL = {
    "num_samples": 4000,
    "encoder": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "conv_dim": [16, 16],
        "conv_kernel": [64, 8],
        "conv_stride": [32, 4],
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
    },
    "bridge_dim": 12,
    "residual_channels": [[1, 8]],
    "gat_dims": [8, 6],
    "max_frames": 40,
    "kan": {"grid_size": 4, "spline_order": 3},
}
TRAINING: dict[str, Any] = {
    "steps": 6,
    "batch_size": 8,
    "warmup_steps": 0,
    "evaluate_every": 2,
    "learning_rate": 3e-3,
    "encoder_learning_rate": 3e-3,
}


@pytest.fixture(scope="module", autouse=True)
def unoptimised() -> Iterator[None]:
    """A step takes twice as long to compile with XLA's optimisations, and nothing here is about speed."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def config(**training: Any) -> RunConfig:
    return RunConfig.from_dict({"model": MODEL, "training": TRAINING | training})


def write_corpus(folder: Path, *, train: int = 8, dev: int = 6, tone: bool = True, seed: int = 0) -> Path:
    """A manifest and its clips: noise, with a tone in the spoofs (or, without `tone`, labels that say nothing)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for split, number in (("train", train), ("dev", dev)):
        for label in ("bonafide", "spoof"):
            for index in range(number):
                samples = 0.1 * rng.standard_normal(5000)
                if tone and label == "spoof":
                    samples += 0.3 * np.sin(np.arange(5000) * rng.uniform(0.5, 0.6))
                name = f"{split}_{label}_{index}"
                soundfile.write(folder / f"{name}.wav", samples.astype(np.float32), 16_000, subtype="FLOAT")
                pair = f"{split}_bonafide_{index}" if label == "spoof" and index % 2 else ""
                rows.append({"path": f"{name}.wav", "label": label, "split": split, "pair": pair, "extra": "x"})
    return write_manifest(folder / "manifest.csv", rows)


def write_manifest(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows_of(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="") as file:
        return [row | {"path": str(manifest.parent / row["path"])} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def facts(events: Sequence[Any]) -> list[Any]:
    """The events without how fast they came."""
    return [replace(event, clips_per_second=0.0) if isinstance(event, StepEvent) else event for event in events]


def leaves_of(directory: Path) -> dict[str, np.ndarray]:
    return dict(spectra_jax.checkpoints.resolve.open_checkpoint(directory))


# --- One step ---------------------------------------------------------------------------------------------------------


def take_step(
    settings: RunConfig, windows: np.ndarray, labels: np.ndarray, weights: tuple[float, float] = (1.0, 1.0)
) -> tuple[TrainingState, TrainingState, StepReport]:
    """One step on windows (n, samples): the state before it, the one after, and its report."""
    training = settings.training
    network = Network(settings.model, training.precision, training)
    leaves = network.leaves(SpectraAASIST3(settings.model, precision=training.precision, rngs=nnx.Rngs(params=0)))
    optimizer = make_optimizer(training)
    before, frozen = first_state(network, leaves, training, optimizer)
    mesh = Mesh(np.array(jax.devices()), ("clips",))
    shape = (training.accumulation, len(windows) // training.accumulation)
    labels = labels.reshape(shape)
    examples = Examples(windows.reshape(*shape, -1), labels, np.array(weights, np.float32)[labels])
    given = (before, frozen, LearningRates(np.float32(3e-3), np.float32(3e-3)), jax.random.key(0, impl="rbg"))
    held = jax.tree.map(np.array, before)  # the step uses up the state that it gets
    # Placed as a run places them, so that both use one compiled program.
    state, frozen, rates, key = jax.device_put(given, NamedSharding(mesh, P()))
    examples = jax.device_put(examples, NamedSharding(mesh, P(None, "clips")))
    after, report = make_step(settings.model, training, optimizer, mesh)(state, frozen, examples, rates, key)
    return held, after, report


WINDOWS = np.random.default_rng(5).standard_normal((8, 4000)).astype(np.float32) * 0.1
LABELS = np.array([0, 1, 1, 0, 1, 0, 0, 0], np.int32)
HALVES = np.concatenate([WINDOWS[:4]] * 2), np.concatenate([LABELS[:4]] * 2), (0.3, 1.7)
"""A batch whose halves are the same, so that the batch norms of a half see what those of the whole see."""


@pytest.fixture(scope="module")
def whole_step() -> tuple[TrainingState, TrainingState, StepReport]:
    """A step on `HALVES` at once."""
    return take_step(config(dropout=0.0), *HALVES)


@pytest.mark.slow
def test_parts_of_a_batch_and_layers_computed_twice_give_the_same_step(whole_step: Any) -> None:
    _, whole, report = whole_step
    _, parted, parted_report = take_step(config(dropout=0.0, accumulation=2, remat=True), *HALVES)
    # Float32 sums in another order.
    assert float(parted_report.loss) == pytest.approx(float(report.loss), rel=1e-5)
    assert float(parted_report.gradient_norm) == pytest.approx(float(report.gradient_norm), rel=1e-4)
    # Adam's first moments are a tenth of the gradients, clipped to a global norm of 1.
    for path, moment in whole.optimizer[1].mu.items():
        np.testing.assert_allclose(parted.optimizer[1].mu[path], moment, rtol=1e-3, atol=1e-6, err_msg=path)


def test_a_step_moves_every_part() -> None:
    # The program that the runs below compile: dropout is part of it, and nothing else of their settings.
    before, after, _ = take_step(config(), *HALVES)
    still = {path for path, leaf in after.trained.items() if np.array_equal(leaf, before.trained[path])}
    # The maximum over the branches lets only one of them hear of a node; a slope hears of negative inputs alone.
    assert len(still) < 0.1 * len(after.trained)
    assert not [path for path in still if not path.startswith("aasist.branches.") and not path.endswith(".slope")]
    assert not np.array_equal(after.statistics["aasist.gat_s.norm.mean"], before.statistics["aasist.gat_s.norm.mean"])


@pytest.mark.slow
def test_bfloat16_with_frozen_layers_and_an_average(whole_step: Any) -> None:
    settings = config(dropout=0.0, precision="bfloat16", freeze_layers=1, average=0.5)
    before, after, report = take_step(settings, *HALVES)
    # Weights, moments and the average are float32, and bfloat16 shows in the loss by about its rounding.
    assert {leaf.dtype for leaf in jax.tree.leaves((after.trained, after.average))} == {jnp.dtype(jnp.float32)}
    assert 0 < abs(float(report.loss) - float(whole_step[2].loss)) < 0.05
    assert {path for path in whole_step[1].trained if is_frozen(path, settings.training)} == set(
        whole_step[1].trained
    ) - set(after.trained)
    path = "bridge.linear1.kernel"
    # Of the first step, a tenth of the start is kept.
    wanted = 0.1 * before.trained[path] + 0.9 * np.asarray(after.trained[path])
    np.testing.assert_allclose(after.average[path], wanted, rtol=1e-5, atol=1e-7)


def test_the_gelus_derivative_is_its_own_inside_shard_map() -> None:
    """There JAX follows which values differ between devices, and its own rule for `erf` has failed."""
    with jax.enable_x64(True):
        x = jnp.linspace(-9.0, 9.0, 361)
        mesh = Mesh(np.array(jax.devices()[:1]), ("clips",))
        mapped = jax.shard_map(
            lambda x: jax.grad(lambda x: jnp.sum(gelu(x)))(x), mesh=mesh, in_specs=P("clips"), out_specs=P("clips")
        )
        found = np.asarray(mapped(x))
    values = np.asarray(x)
    wanted = special.ndtr(values) + values * np.exp(-(values**2) / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, ()),
        ({"freeze": "encoder"}, "encoder."),
        ({"freeze": "feature_extractor"}, "encoder.feature_extractor."),
        ({"freeze_layers": 1}, ("encoder.f", "encoder.positional", "encoder.layers.0.")),
    ],
)
def test_what_is_frozen(settings: dict[str, Any], kept: str | tuple[str, ...]) -> None:
    shapes = leaf_shapes(config().model)
    training = config(**settings).training
    assert {path for path in shapes if is_frozen(path, training)} == {path for path in shapes if path.startswith(kept)}


def test_weight_decay_pulls_at_no_norm_bias_position_or_slope() -> None:
    shapes = leaf_shapes(config().model)
    decaying = {path for path in shapes if decays(path)}
    ends = {path.rsplit(".", 1)[-1] for path in decaying}
    assert ends == {
        *("kernel", "base_weight", "spline_weight", "spline_scaler", "pair_weight", "master_pair_weight"),
        *("pair_weight_temporal", "pair_weight_spectral", "pair_weight_cross"),
    }
    left = {path.rsplit(".", 1)[-1] for path in set(shapes) - decaying}
    assert left == {
        *("bias", "scale", "mean", "var", "num_batches", "slope", "master", "temporal_position", "spectral_position"),
    }


def test_rates_rise_then_fall_to_nothing() -> None:
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


@pytest.mark.slow
def test_devices_share_a_step(whole_step: Any) -> None:
    """On 4 devices as on one: the batch norms see the whole batch, and the gradients are sums over all of it."""
    program = """
import json, jax, numpy as np
from tests import test_training as t
assert jax.device_count() == 4
_, state, report = t.take_step(t.config(dropout=0.0), *t.HALVES)
statistics = np.concatenate([np.ravel(state.statistics[path]) for path in sorted(state.statistics)])
print(json.dumps([float(report.loss), float(report.gradient_norm), statistics.tolist()]))
"""
    # Unoptimised code: half the time to compile.
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    environment = os.environ | {"XLA_FLAGS": flags}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    loss, norm, statistics = json.loads(done.stdout)
    _, one, report = whole_step
    assert [loss, norm] == pytest.approx([float(report.loss), float(report.gradient_norm)], rel=1e-4)
    wanted = np.concatenate([np.ravel(one.statistics[path]) for path in sorted(one.statistics)])
    np.testing.assert_allclose(statistics, wanted, rtol=1e-4, atol=1e-6)


# --- Data -------------------------------------------------------------------------------------------------------------


def test_an_epoch_is_every_clip_once(manifest: Path) -> None:
    settings = config(batch_size=4)
    clips = read_manifest(manifest)["train"]
    batches = Batches(clips, settings.model, settings.training)
    epochs = [
        [name for step in range(start, start + 4) for name in batches.batch(step).utterance_ids] for start in (0, 4)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(clip.utterance_id for clip in clips)
    assert epochs[0] != epochs[1]


def test_pairs_are_heard_alike(manifest: Path, tmp_path: Path) -> None:
    """A spoof and the clip it was made from get the same crop and the same augmentation."""
    clips = read_manifest(manifest)["train"]
    # The copies made the same sounds as their originals, the pair's windows have to be the same.
    same = [replace(clip, path=manifest.parent / f"{clip.pair}.wav") if clip.pair else clip for clip in clips]
    chances = dict.fromkeys(("speed", "rawboost", "equaliser", "band_limit", "noise", "gain", "codec"), 0.5)
    settings = config(pairs=True, augment=chances)
    batches = Batches(same, settings.model, settings.training)
    named = {clip.utterance_id: clip for clip in clips}
    pairs = 0
    for step in range(6):
        batch = batches.batch(step)
        assert list(batch.labels) == [0, 1] * 4
        for place in range(0, 8, 2):
            spoof, partner = batch.utterance_ids[place : place + 2]
            if named[spoof].pair:
                pairs += 1
                assert partner == named[spoof].pair
                np.testing.assert_array_equal(batch.windows[place], batch.windows[place + 1])
    assert pairs > 6


def test_a_batch_is_the_same_whenever_it_is_asked_for(manifest: Path) -> None:
    settings = config(augment={"noise": 1.0, "speed": 1.0})
    batches = [Batches(read_manifest(manifest)["train"], settings.model, settings.training) for _ in range(2)]
    batches[0].batch(0)
    first, second = batches[0].batch(3), batches[1].batch(3)
    assert first.utterance_ids == second.utterance_ids
    np.testing.assert_array_equal(first.windows, second.windows)


def test_a_bad_clip_costs_itself_alone(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path)
    (tmp_path / "train_spoof_3.wav").write_bytes(b"no audio")
    soundfile.write(tmp_path / "train_bonafide_2.wav", np.full(100, np.nan, np.float32), 16_000, subtype="FLOAT")
    settings = config(batch_size=16)
    batch = Batches(read_manifest(manifest)["train"], settings.model, settings.training).batch(0)
    assert len(batch.windows) == 16 and np.isfinite(batch.windows).all()
    assert len(batch.refused) >= 2
    assert any("train_spoof_3" in reason for reason in batch.refused)
    assert any("train_bonafide_2" in reason and "NaN" in reason for reason in batch.refused)


def test_crop() -> None:
    long, short = np.arange(100, dtype=np.float32), np.arange(3, dtype=np.float32)
    assert crop(long, 10, 0.0).tolist() == list(range(10))
    assert crop(long, 10, 0.9999).tolist() == list(range(90, 100))
    assert crop(short, 7, 0.4).tolist() == [1, 2, 0, 1, 2, 0, 1]


# --- A run ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    output = tmp_path_factory.mktemp("runs") / "whole"
    return output, list(Run(manifest, output, config(augment={"noise": 0.5})))


def test_a_run_tells_and_leaves_everything(finished: tuple[Path, list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    output, events = finished
    assert [event.step for event in events if isinstance(event, StepEvent)] == [1, 2, 3, 4, 5, 6]
    evaluations = [event for event in events if isinstance(event, EvaluationEvent)]
    assert [event.step for event in evaluations] == [2, 4, 6] and evaluations[0].best
    assert facts(read_log(output / "log.jsonl")) == facts(events)
    best = min(evaluations, key=lambda event: (event.eer, event.loss))
    checkpoint = spectra_jax.checkpoints.resolve.open_checkpoint(output / BEST)
    assert checkpoint.provenance["training_step"] == str(best.step)
    picture = write_curves(output)
    assert picture is not None and picture.read_text().startswith("<svg")
    # The best network scores with the ordinary command.
    assert (
        spectra(monkeypatch, "score", "--model", output / BEST, "-o", output / "s.txt", output.parent) == 2
    )  # no audio


def test_the_best_network_goes_to_pytorch_and_back(finished: tuple[Path, list[Any]], tmp_path: Path) -> None:
    output, _ = finished
    convert(output / BEST, tmp_path / "torch", "torch")
    convert(tmp_path / "torch", tmp_path / "native")
    before, after = leaves_of(output / BEST), leaves_of(tmp_path / "native")
    assert before.keys() == after.keys()
    for path, leaf in before.items():
        # The positional kernel comes back as a product, everything else as it was.
        np.testing.assert_allclose(after[path], leaf, rtol=1e-6 if "positional" in path else 0, atol=1e-9, err_msg=path)


@pytest.mark.slow
def test_killed_and_gone_on_with_to_the_bit(manifest: Path, finished: tuple[Path, list[Any]], tmp_path: Path) -> None:
    """SIGKILL in the middle of a run, then the same run again: as if nothing had been."""
    whole, events = finished
    settings = config(augment={"noise": 0.5})
    (tmp_path / "config.json").write_text(settings.to_json())
    words = ("train", "--manifest", manifest, "--config", tmp_path / "config.json", "--output", tmp_path / "run")
    command = [sys.executable, "-c", "from spectra_jax.cli import main; main()", *map(str, words)]
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as begun:
        assert begun.stderr is not None
        assert any(line.startswith("step 4 of 6") for line in begun.stderr)
        begun.send_signal(signal.SIGKILL)
    again = Run(manifest, tmp_path / "run", settings)
    done = again.steps_done
    assert done >= 4
    assert facts(list(again)) == [event for event in facts(events) if event.step > done]
    assert facts(read_log(tmp_path / "run" / "log.jsonl")) == facts(events)
    for path, leaf in leaves_of(whole / BEST).items():
        np.testing.assert_array_equal(leaves_of(tmp_path / "run" / BEST)[path], leaf)
    # Finished, there is nothing left to do.
    assert list(Run(manifest, tmp_path / "run", settings)) == []


def test_the_log_survives_a_cut_line(tmp_path: Path, finished: tuple[Path, list[Any]]) -> None:
    text = (finished[0] / "log.jsonl").read_text()
    (tmp_path / "log.jsonl").write_text(text[:-20])
    assert facts(read_log(tmp_path / "log.jsonl")) == facts(finished[1][:-1])


@pytest.mark.slow
def test_sixteen_clips_are_learnt_by_heart(manifest: Path, tmp_path: Path) -> None:
    """All of the training clips as dev clips: no error is left, and the loss is nearly nothing."""
    rows = [row | {"utterance_id": row["path"]} for row in rows_of(manifest) if row["split"] == "train"]
    rows += [row | {"split": "dev", "utterance_id": row["path"] + "_dev"} for row in rows]
    learnt = write_manifest(tmp_path / "manifest.csv", rows)
    settings = config(steps=200, evaluate_every=200, dropout=0.0, warmup_steps=5)
    assert len(read_manifest(learnt)["train"]) == 16
    last = list(Run(learnt, tmp_path / "run", settings))[-1]
    assert isinstance(last, EvaluationEvent)
    assert last.eer == 0 and last.loss < 0.1


@pytest.mark.long
@pytest.mark.slow
def test_labels_that_say_nothing_teach_nothing(tmp_path: Path) -> None:
    """Where labels are drawn at random, the dev EER stays near a half: nothing leaks from train to dev."""
    manifest = write_corpus(tmp_path / "corpus", train=16, dev=60, tone=False)
    settings = config(steps=100, evaluate_every=20, dropout=0.0)
    rates = [e.eer for e in Run(manifest, tmp_path / "run", settings) if isinstance(e, EvaluationEvent)]
    # 60 clips of each class: the standard deviation of an EER at chance is 0.065.
    assert min(rates) > 0.3 and max(rates) < 0.7


def test_init_takes_the_checkpoints_network(manifest: Path, finished: tuple[Path, list[Any]], tmp_path: Path) -> None:
    settings = RunConfig.from_dict(
        {"training": TRAINING | {"steps": 1, "learning_rate": 0.0, "encoder_learning_rate": 0.0}}
    )
    run = Run(manifest, tmp_path / "run", settings, init=finished[0] / BEST)
    assert run.config.model == SpectraConfig.from_dict(MODEL)
    assert len(list(run)) == 2
    before, after = leaves_of(finished[0] / BEST), leaves_of(tmp_path / "run" / BEST)
    weights = [path for path in before if path.rsplit(".", 1)[-1] not in ("mean", "var", "num_batches")]
    assert all(np.array_equal(before[path], after[path]) for path in weights)
    assert not np.array_equal(before["aasist.gat_s.norm.mean"], after["aasist.gat_s.norm.mean"])
    assert (
        "best" in spectra_jax.checkpoints.resolve.open_checkpoint(tmp_path / "run" / BEST).provenance["training_init"]
    )


# --- What is refused --------------------------------------------------------------------------------------------------


BROKEN: dict[str, tuple[Any, str]] = {
    "no dev": (lambda rows: [row for row in rows if row["split"] != "dev"], "no trial of split `dev`"),
    "one class": (
        lambda rows: [row for row in rows if row["label"] == "spoof" or row["split"] == "train"],
        "split `dev` has 6 trials and none labelled `bonafide`",
    ),
    "unknown label": (lambda rows: [rows[0] | {"label": "maybe"}, *rows[1:]], "'maybe'"),
    "missing file": (lambda rows: [rows[0] | {"path": "nowhere.wav"}, *rows[1:]], "1 file not there"),
    "no split": (lambda rows: [{k: v for k, v in row.items() if k != "split"} for row in rows], "no column `split`"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_manifests_that_cannot_train(
    case: str, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change, wanted = BROKEN[case]
    broken = write_manifest(tmp_path / "broken.csv", change(rows_of(manifest)))
    assert spectra(monkeypatch, "train", "--manifest", broken, "-o", tmp_path / "run") == 2
    message = capsys.readouterr().err
    assert wanted in message and "broken.csv" in message and "Traceback" not in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("training", "wanted"),
    [
        ({"stepz": 1}, "unknown field 'stepz'"),
        ({"batch_size": 6, "accumulation": 4}, "training.accumulation = 4"),
        ({"pairs": True, "batch_size": 5}, "training.batch_size = 5"),
        ({"augment": {"noise": 2}}, "augment.noise = 2"),
        ({"augment": {"codecs": ["amr"]}}, "augment.codecs"),
        ({"freeze": "all"}, 'training.freeze = "all"'),
        ({"freeze_layers": 3}, "training.freeze_layers = 3"),
        ({"class_weights": [1, 0]}, "training.class_weights"),
        ({"precision": "float16"}, "training.precision"),
    ],
)
def test_configurations_that_cannot_train(training: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError, match="config: ") as caught:
        config(**training)
    assert wanted in str(caught.value)


def test_the_configuration_reads_back(tmp_path: Path) -> None:
    settings = config(augment={"noise": 0.25}, class_weights=[1, 2])
    (tmp_path / "c.json").write_text(settings.to_json())
    assert RunConfig.from_json(tmp_path / "c.json") == settings
    for text in ("{", '{"training": {}, "training": {"steps": 1}}', "[" * 100_000):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(ConfigError, match=r"c\.json: not a JSON file"):
            RunConfig.from_json(tmp_path / "c.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(InputError, match=r"pipe\.json: not a plain file"):
        RunConfig.from_json(tmp_path / "pipe.json")
    with pytest.raises(InputError, match=r"none\.json: cannot be read"):
        RunConfig.from_json(tmp_path / "none.json")


def test_another_run_is_refused_with_what_differs(manifest: Path, finished: tuple[Path, list[Any]]) -> None:
    with pytest.raises(InputError, match="holds another run") as caught:
        Run(manifest, finished[0], config(seed=1, augment={"noise": 0.5}))
    assert "training.seed: 0 there, 1 now" in str(caught.value)
    with pytest.raises(FileExistsError):
        Run(manifest, manifest.parent, config())


def test_a_kill_while_the_record_is_written_is_not_in_the_way(manifest: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".run.json.0123456789ab.partial").write_bytes(b"{")
    Run(manifest, folder, config())
    assert not (folder / ".run.json.0123456789ab.partial").exists()
    record = (folder / "run.json").read_bytes()
    (folder / "run.json").write_bytes(record.replace(b'"seed": 0', b'"seed": 1'))
    with pytest.raises(InputError, match=r"run\.json is damaged \(its checksum"):
        Run(manifest, folder, config())


def test_a_loss_that_is_no_number_stops_the_run(manifest: Path, tmp_path: Path) -> None:
    settings = config(learning_rate=1e38, encoder_learning_rate=1e38, evaluate_every=1)
    events: list[Any] = []
    with pytest.raises(TrainingError) as caught:
        for event in Run(manifest, tmp_path / "run", settings):
            events.append(event)  # noqa: PERF402
    message = str(caught.value)
    assert "train_" in message
    assert all(np.isfinite(event.loss) for event in events)
    # What was saved can be read, and is finite.
    saved = [event.step for event in events if isinstance(event, EvaluationEvent)]
    assert Run(manifest, tmp_path / "run", settings).steps_done == max(saved, default=0)


@pytest.mark.long
@pytest.mark.slow
def test_a_full_disk_loses_nothing(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No room for a better network: the one before stays, and the run goes on once there is room."""
    settings = config()
    (tmp_path / "config.json").write_text(settings.to_json())
    words = ("train", "--manifest", manifest, "--config", tmp_path / "config.json", "-o", tmp_path / "run")
    original = run_module.replace_weights

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.safetensors")

    monkeypatch.setattr(run_module, "replace_weights", full)
    status = spectra(monkeypatch, *words)
    message = capsys.readouterr().err
    # Whether a second evaluation is better is the run's own business.
    if status:
        assert status == 2 and "No space left" in message and "Traceback" not in message
        leaves_of(tmp_path / "run" / BEST)
    monkeypatch.setattr(run_module, "replace_weights", original)
    assert spectra(monkeypatch, *words) == 0
    assert [e.step for e in read_log(tmp_path / "run" / "log.jsonl") if isinstance(e, StepEvent)] == [1, 2, 3, 4, 5, 6]


def test_devices_that_cannot_share_a_batch(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"batch_size = 8 cannot be shared evenly by 3 devices"):
        Run(manifest, tmp_path / "run", config(), devices=[jax.devices()[0]] * 3)
