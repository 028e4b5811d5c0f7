"""The configuration of a run: its rules, its old names, and its JSON."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spectra_jax.errors import ConfigError, InputError
from spectra_jax.training import RunConfig, TrainingConfig
from tests.training.runs import config


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
        ({"precision": "int8"}, 'training.precision = "int8", but it must be one of float32, tf32, bfloat16, float64'),
        ({"loss": "arcface"}, 'training.loss = "arcface", but it must be one of cross_entropy, focal, oc_softmax'),
        ({"focal_gamma": -1}, "training.focal_gamma = -1"),
        ({"oc_softmax_alpha": 0}, "training.oc_softmax_alpha = 0"),
        ({"oc_softmax_margins": [0.2, 0.9]}, "training.oc_softmax_margins = [0.2, 0.9]"),
        ({"oc_softmax_margins": [2, 0]}, "training.oc_softmax_margins = 2"),
        ({"oc_softmax_margins": 0.9}, "training.oc_softmax_margins = 0.9"),
        ({"encoder_regularization": 1}, "training.encoder_regularization = 1"),
    ],
)
def test_invalid_configurations_name_the_field(training: dict[str, Any], wanted: str) -> None:
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


def test_the_old_name_of_ema_decay_is_accepted_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match=r"training\.average is now training\.ema_decay"):
        old = TrainingConfig(average=0.5)
    assert old == TrainingConfig(ema_decay=0.5) and replace(old, steps=3).ema_decay == 0.5
    with pytest.warns(DeprecationWarning, match=r"training\.average is now training\.ema_decay"):
        read = RunConfig.from_dict({"training": {"average": 0.25}})
    assert read.training.ema_decay == 0.25
    assert "average" not in json.loads(read.to_json())["training"]


def test_the_old_name_of_ema_decay_keeps_its_rules() -> None:
    for values in ({"average": 1}, {"average": None}):
        with pytest.warns(DeprecationWarning), pytest.raises(ConfigError, match=r"training\.ema_decay = "):
            TrainingConfig.from_dict(values)
    for both in ({"average": 0.1, "ema_decay": 0.1}, {"average": 0.1, "ema_decay": 0.2}):
        with pytest.raises(ConfigError, match="give one of them"):
            TrainingConfig.from_dict(both)


def test_the_demos_configuration_is_todays() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        demo = RunConfig.from_json(Path(__file__).parents[2] / "examples" / "demo_checkpoint" / "config.json")
    assert demo.training.ema_decay == 0.99
