"""Dropout, and the spans that SpecAugment masks."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectra_jax.model.encoder.augment import dropout, span_mask


def test_dropout_keeps_the_mean_and_without_a_key_the_values() -> None:
    x = jnp.ones((1000, 100))
    dropped = np.asarray(dropout(x, 0.3, jax.random.key(0)))
    assert dropped.mean() == pytest.approx(1, abs=0.01)
    assert set(np.unique(dropped).tolist()) == {0, np.float32(1 / 0.7).item()}
    assert dropout(x, 0.3, None) is x
    assert dropout(x, 0.0, jax.random.key(0)) is x


@settings(deadline=None, max_examples=30)
@given(
    lengths=st.lists(st.integers(0, 50), min_size=4, max_size=4),
    probability=st.floats(0, 0.99),
    span=st.integers(1, 20),
    min_spans=st.integers(0, 4),
    seed=st.integers(0, 2**31),
)
def test_spans_are_inside_the_valid_positions(
    lengths: list[int], probability: float, span: int, min_spans: int, seed: int
) -> None:
    mask = np.asarray(
        span_mask(
            jax.random.key(seed),
            jnp.asarray(lengths, jnp.int32),
            50,
            probability=probability,
            span=span,
            min_spans=min_spans,
        )
    )
    for row, length in zip(mask, lengths, strict=True):
        assert not row[length:].any()
        assert all(run >= span for run in runs(row))
        if min_spans and length >= span:
            assert row.any()


def runs(row: np.ndarray) -> list[int]:
    """The lengths of the masked runs of a row."""
    return [len(list(group)) for masked, group in groupby(row.tolist()) if masked]


def test_a_span_longer_than_the_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="masks spans of 10 positions, but the axis has 9: use longer clips"):
        span_mask(jax.random.key(0), jnp.asarray([9]), 9, probability=0.5, span=10, min_spans=0)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("probability", "span", "min_spans"), [(0.65, 10, 2), (0.05, 10, 2), (0.075, 10, 0), (0.3, 1, 0), (0.9, 3, 0)]
)
def test_masks_are_distributed_as_those_of_transformers(probability: float, span: int, min_spans: int) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers.models.wav2vec2.modeling_wav2vec2")
    size, draws = 100, 1500
    lengths = np.asarray([100, 57, 12], np.int32)
    attention_mask = torch.from_numpy((np.arange(size) < lengths[:, None]).astype(np.int64))
    np.random.seed(0)
    theirs = np.stack(
        [
            transformers._compute_mask_indices(
                (3, size), probability, span, attention_mask=attention_mask, min_masks=min_spans
            )
            for _ in range(draws)
        ]
    )
    theirs &= attention_mask.numpy().astype(bool)  # it marks the last padded frame of a clip without spans
    options: dict[str, Any] = {"probability": probability, "span": span, "min_spans": min_spans}
    draw = jax.jit(jax.vmap(lambda key: span_mask(key, jnp.asarray(lengths), size, **options)))
    ours = np.asarray(draw(jax.random.split(jax.random.key(0), draws)))
    for row in range(3):
        share, expected = (masks[:, row].mean(axis=1) for masks in (ours, theirs))
        error = 4 * np.sqrt((share.var() + expected.var()) / draws) + 1e-9
        assert abs(share.mean() - expected.mean()) < error
        assert share.std() == pytest.approx(expected.std(), abs=0.01)
        # How often each position is masked: less near the ends.
        by_position = ours[:, row].mean(axis=0), theirs[:, row].mean(axis=0)
        np.testing.assert_allclose(*by_position, atol=5 * np.sqrt(0.5 / draws))
        found, wanted = ([run for mask in masks[:, row] for run in runs(mask)] or [0] for masks in (ours, theirs))
        assert np.mean(found) == pytest.approx(np.mean(wanted), rel=0.05, abs=0.1)
        assert min(found) == min(wanted)
