"""Joining two sets of trials by their ids."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spectra_jax.data.join import join, rows_of

IDS = st.lists(st.text("abc", max_size=2), unique=True, max_size=8)


def test_two_sets_in_different_orders() -> None:
    joined = join(np.array(["a", "b", "c", "d"], object), np.array(["d", "x", "a"], object))
    assert joined.left.tolist() == [0, 3] and joined.right.tolist() == [2, 0]
    assert joined.only_left == ["b", "c"] and joined.only_right == ["x"]


def test_sets_without_a_trial_in_common() -> None:
    for left, right in ((["a"], ["b"]), ([], ["b"]), (["a"], []), ([], [])):
        joined = join(left, right)
        assert joined.left.dtype == joined.right.dtype == np.int64
        assert len(joined.left) == len(joined.right) == 0
        assert (joined.only_left, joined.only_right) == (left, right)
        # Empty rows must be usable as an index.
        assert np.zeros(3)[joined.left].shape == (0,)


def test_rows_of_some_ids() -> None:
    assert rows_of(["c", "x", "a"], ["a", "b", "c"]).tolist() == [2, -1, 0]


@given(IDS, IDS)
def test_a_join_agrees_with_sets(left: list[str], right: list[str]) -> None:
    joined = join(left, right)
    both = [left[row] for row in joined.left]
    assert both == [right[row] for row in joined.right] == [one for one in left if one in right]
    assert joined.only_left == [one for one in left if one not in right]
    assert joined.only_right == [one for one in right if one not in left]
