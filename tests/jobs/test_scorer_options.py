"""The arguments of a scorer, to load it in this process or on another node."""

from __future__ import annotations

import pickle
from typing import Literal

import jax
import pytest

from spectra_jax.errors import InputError
from spectra_jax.inference.scorer import Scorer
from spectra_jax.jobs.scorer_options import ScorerOptions


@pytest.mark.parametrize(("batch_size", "expected"), [(2, 2), (8, 3), ("auto", 3)])
def test_no_larger_batch_than_there_are_clips(batch_size: int | Literal["auto"], expected: int) -> None:
    options = ScorerOptions("demo", batch_size=batch_size, num_devices=1)
    assert options.load(num_clips=3).batch_size == expected


def test_the_identity_is_that_of_the_loaded_scorer() -> None:
    options = pickle.loads(pickle.dumps(ScorerOptions("demo", batch_size=2, num_devices=1)))
    assert options.identity() == Scorer("demo", batch_size=2, devices=jax.local_devices()[:1]).identity()
    with pytest.raises(InputError, match='batch_size = "auto" depends on the devices'):
        ScorerOptions("demo", batch_size="auto").identity()


def test_more_devices_than_there_are() -> None:
    with pytest.raises(InputError, match="--devices 99, but there are"):
        ScorerOptions("demo", num_devices=99).load()
