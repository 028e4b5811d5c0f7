"""The scores that a network has when nodes that nearly tie are swapped: what a jump at a near tie can lead to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int32

from spectra_jax.model.fold import fold_for_inference
from spectra_jax.model.functional import split_method
from spectra_jax.model.graph import num_kept
from spectra_jax.model.spectra import POOLS, SpectraAASIST3, pool_ratios

# Of a trial with more near ties, the nearest are swapped, in all combinations: 16.
_MOST_TIES = 4


class Tie(NamedTuple):
    """Two neighbours in the ranking of a graph pool whose scores nearly tie.

    Attributes:
      gap: the difference of their scores.
      pool: its index in `POOLS`.
      rank: of the higher one, from 0.
    """

    gap: float
    pool: int
    rank: int


def swapped_scores(
    model: SpectraAASIST3, windows: Float[np.ndarray, "clips samples"], gap_bound: float
) -> list[list[float]]:
    """The scores of windows with nodes swapped whose rank gap is below the bound, in all combinations, one of a pool.

    The first one is that without a swap. Where a swap makes nodes of a later pool tie, these are not swapped.
    """
    network = fold_for_inference(model)
    ratios = pool_ratios(model.config)

    def encode(network: SpectraAASIST3, windows: Array) -> Array:
        return network.bridge(network.encoder(windows))

    def classify(network: SpectraAASIST3, features: Array, ranks: Array) -> tuple[Array, dict[str, Array]]:
        rankings: dict[str, Array] = {}

        def swap(name: str, value: Array) -> Array:
            if not name.endswith(".scores"):
                return value
            pool = name.removesuffix(".scores")
            rankings[pool] = value
            return _swapped(value, ranks[:, POOLS.index(pool)])

        return network.back_end(features, hook=swap)[:, 1], rankings

    (encoder, *encoder_weights), (back_end, *back_end_weights) = (
        split_method(network, call) for call in (encode, classify)
    )
    encoder, back_end = jax.jit(encoder), jax.jit(back_end)
    found = []
    for window in windows:
        features = encoder(*encoder_weights, jnp.asarray(window[None]))
        score, rankings = back_end(*back_end_weights, features, _ranks(()))
        ties = _find_ties({pool: np.asarray(scores[0]) for pool, scores in rankings.items()}, ratios, gap_bound)
        scores = [float(score[0])]
        for chosen in _combinations(ties[:_MOST_TIES]):
            score, _ = back_end(*back_end_weights, features, _ranks(chosen))
            scores.append(float(score[0]))
        found.append(scores)
    return found


def _find_ties(rankings: dict[str, np.ndarray], ratios: dict[str, float], gap_bound: float) -> list[Tie]:
    """The neighbours whose rank gap is below the bound, nearest first: kept nodes, and the first one dropped."""
    ties = []
    for pool, scores in rankings.items():
        ranked = -np.sort(-scores)
        gaps = (ranked[:-1] - ranked[1:])[: num_kept(len(scores), ratios[pool])]
        ties += [Tie(float(gaps[rank]), POOLS.index(pool), int(rank)) for rank in np.flatnonzero(gaps < gap_bound)]
    return sorted(ties)


def _combinations(ties: Sequence[Tie]) -> list[tuple[Tie, ...]]:
    """Every choice of at least one tie with at most one of each pool."""
    chosen = itertools.chain.from_iterable(itertools.combinations(ties, number) for number in range(1, len(ties) + 1))
    return [some for some in chosen if len({tie.pool for tie in some}) == len(some)]


def _ranks(ties: Sequence[Tie]) -> Int32[np.ndarray, "1 pools"]:
    """For each pool, the rank whose node is swapped with the next one; -1 for none."""
    ranks = np.full((1, len(POOLS)), -1, np.int32)
    for tie in ties:
        ranks[0, tie.pool] = tie.rank
    return ranks


def _swapped(scores: Float[Array, "batch nodes"], rank: Int32[Array, " batch"]) -> Float[Array, "batch nodes"]:
    """Pool scores with which the node of a rank and the next one are ranked in the opposite order; -1 for none."""
    order = jnp.argsort(-scores, axis=1, stable=True)
    ranks = jnp.maximum(rank, 0)[:, None]
    higher, lower = (jnp.take_along_axis(order, ranks + step, axis=1) for step in (0, 1))
    high, low = (jnp.take_along_axis(scores, node, axis=1) for node in (higher, lower))
    nodes = jnp.arange(scores.shape[1], dtype=order.dtype)[None]
    # The next larger number, since equal scores are ranked by the order of the nodes.
    swapped = jnp.where(nodes == lower, jnp.nextafter(high, jnp.inf), jnp.where(nodes == higher, low, scores))
    return jnp.where(rank[:, None] < 0, scores, swapped)
