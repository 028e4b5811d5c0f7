"""The garbage collector runs less often during a command, and as before after it."""

from __future__ import annotations

import gc

import pytest

from spectra_jax.cli.collector import fewer_collections


def test_the_threshold_is_higher_inside_and_restored_after_an_error() -> None:
    before = gc.get_threshold()
    with pytest.raises(KeyError), fewer_collections():
        assert gc.get_threshold()[0] > 10 * before[0]
        raise KeyError
    assert gc.get_threshold() == before


def test_a_collector_that_is_off_stays_off() -> None:
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        with fewer_collections():
            assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)
