"""The names that modules had before: they work, with a warning that gives today's name."""

from __future__ import annotations

import importlib

import pytest

import spectra_jax
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError


@pytest.mark.parametrize(
    ("old", "name", "today"),
    [
        ("ray", "SpectraScorer", "jobs.ray"),
        ("scoring", "Scorer", "inference.scorer"),
        ("trials", "Trial", "data.trial"),
        ("trials", "InputError", "errors"),
        ("metrics", "eer", "evaluation.metrics"),
        ("bulk", "BulkRun", "jobs"),
    ],
)
def test_an_old_module_is_todays_with_a_warning(old: str, name: str, today: str) -> None:
    module = importlib.import_module(f"spectra_jax.{old}")
    with pytest.warns(DeprecationWarning, match=rf"spectra_jax\.{old} is now spectra_jax\.{today};"):
        found = getattr(module, name)
    assert found is getattr(importlib.import_module(f"spectra_jax.{today}"), name)
    assert getattr(spectra_jax, old) is module


def test_what_an_old_module_never_had_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Tril'"):
        importlib.import_module("spectra_jax.trials").Tril  # noqa: B018


def test_one_import_takes_names_that_are_in_two_modules_today() -> None:
    with pytest.warns(DeprecationWarning):
        from spectra_jax.trials import InputError as OldError  # type: ignore[import-not-found]
        from spectra_jax.trials import Trial as OldTrial
    assert OldError is InputError and OldTrial is Trial
