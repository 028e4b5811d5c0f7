"""The old names of modules: they work, with a warning that states the new name."""

from __future__ import annotations

import importlib
import operator

import pytest

import spectra_jax
from spectra_jax.checkpoints.config_file import read_config
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.inference.windows import WindowPolicy
from spectra_jax.model.config import SpectraConfig
from spectra_jax.training.log import StepEvent
from tests.conftest import GOLDEN


@pytest.mark.parametrize(
    ("old", "name", "today"),
    [
        ("ray", "SpectraScorer", "jobs.ray"),
        ("scoring", "Scorer", "inference.scorer"),
        ("trials", "Trial", "data.trial"),
        ("trials", "InputError", "errors"),
        ("metrics", "eer", "evaluation.metrics"),
        ("bulk", "BulkRun", "jobs"),
        ("model.wav2vec2", "XLSREncoder", "model.encoder"),
    ],
)
def test_an_old_module_gives_the_new_ones_attributes_with_a_warning(old: str, name: str, today: str) -> None:
    module = importlib.import_module(f"spectra_jax.{old}")
    with pytest.warns(DeprecationWarning, match=rf"spectra_jax\.{old} is now spectra_jax\.{today};"):
        found = getattr(module, name)
    assert found is getattr(importlib.import_module(f"spectra_jax.{today}"), name)
    assert operator.attrgetter(old)(spectra_jax) is module


def test_an_attribute_that_no_new_module_has_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Tril'"):
        importlib.import_module("spectra_jax.trials").Tril  # noqa: B018


def test_one_old_module_gives_names_from_two_new_ones() -> None:
    with pytest.warns(DeprecationWarning):
        from spectra_jax.trials import InputError as OldError  # type: ignore[import-not-found]
        from spectra_jax.trials import Trial as OldTrial
    assert OldError is InputError and OldTrial is Trial


def test_a_replaced_name_is_todays_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match=r"scoring\.Listening is now .*inference\.windows\.WindowPolicy;"):
        found = importlib.import_module("spectra_jax.scoring").Listening
    assert found is WindowPolicy


def test_old_spellings_of_methods_and_attributes() -> None:
    path = GOLDEN / "tiny" / "config.json"
    with pytest.warns(DeprecationWarning, match="read_config"):
        assert SpectraConfig.from_json(path) == read_config(path)
    with pytest.warns(DeprecationWarning, match="skipped"):
        assert StepEvent(1, 0.5, 1.0, 1e-4, 10.0, ("a: no such file",)).refused == ("a: no such file",)
