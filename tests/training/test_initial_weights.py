"""What a run starts from: a pretrained encoder with a new back-end, and what excludes what."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flax import nnx

from spectra_jax import encoders
from spectra_jax.checkpoints.checkpoint import variables_by_path
from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.errors import InputError
from spectra_jax.model.config import EncoderConfig
from spectra_jax.model.spectra import SpectraAASIST3
from spectra_jax.training import BEST, EvaluationEvent, Run, RunConfig
from tests.conftest import spectra
from tests.published_detectors import write_small
from tests.training.runs import MODEL, TRAINING, config, weights_of, without_speed

REGULARIZED = {"hidden_dropout": 0.1, "attention_dropout": 0.1, "layerdrop": 0.1, "mask_time_prob": 0.2}
REGULARIZED_SPANS = {"mask_time_length": 2}
STILL = {"steps": 1, "learning_rate": 0.0, "encoder_learning_rate": 0.0, "warmup_steps": 0}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pretrained encoder in the format of transformers, with SpecAugment, dropout and layerdrop."""
    sizes: Any = MODEL["encoder"]
    settings = sizes | REGULARIZED | REGULARIZED_SPANS
    built = encoders.SpeechEncoder(EncoderConfig.from_dict(settings), rngs=nnx.Rngs(params=7))
    directory = tmp_path_factory.mktemp("encoders") / "pretrained"
    encoders.save_pretrained(built, directory)
    return directory


def of_encoder(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {path: array for path, array in weights.items() if path.startswith("encoder.")}


def test_a_run_starts_from_the_encoder_and_a_new_back_end(encoder: Path, manifest: Path, tmp_path: Path) -> None:
    settings = RunConfig.from_dict({"model": MODEL | {"back_end": "pool+linear"}, "training": TRAINING | STILL})
    run = Run(manifest, tmp_path / "run", settings, encoder=encoder)
    found = run.config.model.encoder
    assert {name: getattr(found, name) for name in REGULARIZED} == REGULARIZED
    list(run)
    weights, pretrained = weights_of(tmp_path / "run" / BEST), dict(encoders.open_encoder(encoder))
    assert {f"encoder.{name}" for name in pretrained} == set(of_encoder(weights))
    for name, array in pretrained.items():
        np.testing.assert_allclose(weights[f"encoder.{name}"], array, rtol=1e-6, err_msg=name)
    # Bridge and back-end are those of the seed.
    new = SpectraAASIST3(run.config.model, rngs=nnx.Rngs(params=settings.training.seed))
    for path, variable in variables_by_path(nnx.state(new)).items():
        if not path.startswith("encoder."):
            np.testing.assert_array_equal(weights[path], variable[...], err_msg=path)
    provenance = open_checkpoint(tmp_path / "run" / BEST).provenance
    assert provenance["training_encoder"].startswith(f"{encoder} (sha256 ")


@pytest.mark.slow
def test_a_run_is_that_of_its_encoder_and_is_resumed(encoder: Path, manifest: Path, tmp_path: Path) -> None:
    settings = RunConfig.from_dict({"model": MODEL | {"back_end": "pool+linear"}, "training": TRAINING})
    uninterrupted = list(Run(manifest, tmp_path / "uninterrupted", settings, encoder=encoder))
    interrupted = iter(Run(manifest, tmp_path / "run", settings, encoder=encoder))
    while not isinstance(next(interrupted), EvaluationEvent):
        pass
    next(interrupted)
    interrupted.close()  # type: ignore[attr-defined]
    resumed = Run(manifest, tmp_path / "run", settings, encoder=encoder)
    assert resumed.steps_done == 2
    wanted = [event for event in without_speed(uninterrupted) if event.step > 2]
    assert without_speed(list(resumed)) == wanted
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["encoder_sha256"] and record["init"] is None
    with pytest.raises(InputError, match="holds another run") as caught:
        Run(manifest, tmp_path / "run", settings)
    assert "encoder" in str(caught.value)
    with pytest.raises(InputError, match="holds another run"):
        Run(manifest, tmp_path / "run", settings, encoder=encoder, encoder_layers=1)


@pytest.mark.long
@pytest.mark.parametrize("back_end", ["aasist", "ecapa-tdnn"])
def test_a_run_starts_from_a_published_detector(back_end: str, manifest: Path, tmp_path: Path) -> None:
    source = write_small(back_end, tmp_path / "source")
    settings = RunConfig.from_dict({"training": TRAINING | STILL})
    run = Run(manifest, tmp_path / "run", settings, init=source)
    assert run.config.model.back_end == back_end
    list(run)
    found, wanted = weights_of(tmp_path / "run" / BEST), dict(open_checkpoint(source))
    assert found.keys() == wanted.keys()
    for path, array in wanted.items():
        # One step moves the statistics of the batch norms, also at a learning rate of zero.
        if not path.endswith((".mean", ".var", ".num_batches")):
            np.testing.assert_allclose(found[path], array, rtol=1e-6, err_msg=path)


def test_the_first_layers_of_an_encoder(encoder: Path, manifest: Path, tmp_path: Path) -> None:
    run = Run(manifest, tmp_path / "run", config(), encoder=encoder, encoder_layers=1)
    assert run.config.model.encoder.num_hidden_layers == 1
    with pytest.raises(ValueError, match="encoder_layers needs encoder"):
        Run(manifest, tmp_path / "other", config(), encoder_layers=1)
    with pytest.raises(ValueError, match="init and encoder exclude each other"):
        Run(manifest, tmp_path / "other", config(), init="demo", encoder=encoder)
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_the_encoders_regularization_is_applied_or_switched_off(encoder: Path, manifest: Path, tmp_path: Path) -> None:
    """Without any dropout elsewhere, the first loss depends on the encoder's only."""
    losses = {}
    for on in (True, False):
        settings = RunConfig.from_dict(
            {
                "model": MODEL | {"back_end": "pool+linear"},
                "training": TRAINING | STILL | {"dropout": 0.0, "encoder_regularization": on},
            }
        )
        run = Run(manifest, tmp_path / f"{on}", settings, encoder=encoder)
        assert run.config.model.encoder.apply_spec_augment is on
        assert (run.config.model.encoder.layerdrop > 0) is on
        losses[on] = next(iter(run)).loss
    assert losses[True] != losses[False]


def test_the_record_of_a_run_without_new_options_is_that_of_earlier_versions(manifest: Path, tmp_path: Path) -> None:
    run = Run(manifest, tmp_path / "run", config())
    record = json.loads((run.output / "run.json").read_text())
    assert not {"encoder", "encoder_sha256"} & set(record)
    assert not {"back_end", "head"} & set(record["model"])
    added = {"loss", "focal_gamma", "oc_softmax_alpha", "oc_softmax_margins", "balance", "encoder_regularization"}
    assert not added & set(record["training"])
    # To the byte: the digest of the text that the first version with `added` fields wrote.
    digest = "ae31da2ebe6ab81349d85da61b75803480ec79597987163633599d8b3c1fc4ac"
    assert hashlib.sha256(RunConfig().to_json().encode()).hexdigest() == digest


def test_the_commands_options(
    encoder: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"model": {**MODEL, "encoder": {}}, "training": TRAINING | {"steps": 2, "balance": ["label"]}}
    (tmp_path / "c.json").write_text(json.dumps(settings))
    command = ("train", "--manifest", manifest, "--config", tmp_path / "c.json", "-o", tmp_path / "run")
    assert spectra(monkeypatch, *command, "--encoder", encoder, "--encoder-layers", 1, "--back-end", "pool+linear") == 0
    printed = capsys.readouterr().err
    assert "2 balanced groups, with clips of each: label bonafide: 8; label spoof: 8" in printed
    found = open_checkpoint(tmp_path / "run" / BEST).config
    assert found.back_end == "pool+linear" and found.encoder.num_hidden_layers == 1
    for options, wanted in (
        (("--back-end", "asist"), 'back_end = "asist", but it must be one of kan-aasist, aasist, ecapa-tdnn, pool'),
        (("--back-end", "aasist", "--init", "demo"), "--back-end cannot be used with --init"),
        (("--encoder", encoder, "--init", "demo"), "exclude each other"),
        (("--encoder-layers", 1), "encoder_layers needs encoder"),
        (("--encoder", tmp_path / "nothing"), "nothing"),
    ):
        assert spectra(monkeypatch, *command[:-1], tmp_path / "other", *options) == 2
        message = capsys.readouterr().err
        assert wanted in " ".join(message.split()) and "Traceback" not in message
    assert not (tmp_path / "other").exists()
