"""Which windows are scored, and how their logits are combined."""

from __future__ import annotations

import numpy as np
import pytest

from spectra_jax.inference.windows import Aggregate, WindowPolicy, aggregate_logits, parse_window_policy

LOGITS = np.array([[0.0, 5.0], [1.0, -3.0], [9.0, 1.0]])


@pytest.mark.usefixtures("annotations_unchecked")
def test_invalid_policies() -> None:
    with pytest.raises(ValueError, match="hop = 0"):
        WindowPolicy(0.0)
    with pytest.raises(ValueError, match="'max' is none of first, mean"):
        WindowPolicy(1.0, "max")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("windows", "aggregate", "policy"),
    [
        ("first", None, WindowPolicy()),
        ("first", "first", WindowPolicy()),
        ("hop=0.5", None, WindowPolicy(0.5, "speech-mean")),
        ("2", "first", WindowPolicy(2.0, "first")),
    ],
)
def test_policies_that_are_stated_as_text(windows: str, aggregate: str | None, policy: WindowPolicy) -> None:
    assert parse_window_policy(windows, aggregate) == policy


@pytest.mark.parametrize(
    ("windows", "aggregate", "message"),
    [
        ("all", None, "windows 'all': neither hop=SECONDS"),
        ("first", "mean", "aggregate 'mean' needs several windows"),
        ("hop=nan", None, "hop = nan: seconds above 0"),
        ("hop=1", "\ud800", "aggregate '\\\\ud800' is none of"),
    ],
)
def test_what_states_no_policy(windows: str, aggregate: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_window_policy(windows, aggregate)


@pytest.mark.parametrize(
    ("aggregate", "logits", "windows"),
    [("first", [0, 5], [0]), ("min", [1, -3], [1]), ("mean", [10 / 3, 1], [0, 1, 2]), ("median", [1, 1], [0, 1, 2])],
)
def test_a_clip_s_logits_and_the_windows_they_come_from(
    aggregate: Aggregate, logits: list[float], windows: list[int]
) -> None:
    found, chosen = aggregate_logits(LOGITS, aggregate)
    np.testing.assert_allclose(found, logits, rtol=1e-15)
    assert chosen.tolist() == windows


def test_the_mean_over_windows_that_count() -> None:
    found, chosen = aggregate_logits(LOGITS, "speech-mean", [True, False, True])
    assert (found.tolist(), chosen.tolist()) == ([4.5, 3.0], [0, 2])
    # Where none counts, all do.
    found, chosen = aggregate_logits(LOGITS, "speech-mean", [False] * 3)
    assert (found.tolist(), chosen.tolist()) == ([10 / 3, 1.0], [0, 1, 2])


def test_records_of_first_windows_are_those_of_earlier_versions() -> None:
    assert WindowPolicy().identity() == {"hop": None, "aggregate": "first"}
    assert WindowPolicy(1.0, "mean").identity() == {"hop": 1.0, "aggregate": "mean", "partial": True}
    assert WindowPolicy(1.0, "speech-mean").identity()["min_speech"] == 0.25
