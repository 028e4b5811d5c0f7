"""Where two networks part: their named stages compared in the order of the data's way, near ties told from bugs.

    location = locate(ours, theirs, config, bound=STAGE_BOUND["float32"], gap_bound=GAP_BOUND)
    location.departures, location.swaps

A stage departs where it differs although everything it is computed from agrees. What follows a departure differs too
and says nothing, so it is left out. Where a graph pool nearly ties, the reference may keep the same nodes in another
order: that is a swap and no departure, and what follows it says nothing either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spectra_jax.config import SpectraConfig

STAGE_BOUND = {"float32": 1e-4, "float64": 1e-9}
"""Largest root mean square error of a stage that rounding is taken to explain, as a share of the stage's own.

In float32 at most 2.6e-5 was measured over the stages of two networks and their golden waveforms, by this package and
by the reference alike; in float64 less than 1e-12. Four times the first, and far above the second.
"""

_BRANCHES = ("branch1", "branch2", "branch3", "branch4")


@dataclass(frozen=True)
class Stage:
    """A named intermediate result.

    Attributes:
      name: as `spectra_jax.stages` has it.
      module: what computes it, by its name in the published checkpoint.
      part: which of the module's outputs it is.
      inputs: names of the stages that it is computed from.
      is_input: it is what goes into the module, not what comes out.
    """

    name: str
    module: str
    part: int
    inputs: tuple[str, ...]
    is_input: bool = False


def stage_table(config: SpectraConfig) -> list[Stage]:
    """Every stage, none before one that it is computed from."""
    encoder = "ssl_encoder.model"
    table = [
        Stage("ssl.feature_extractor", f"{encoder}.feature_extractor", 0, ()),
        Stage("ssl.feature_projection", f"{encoder}.feature_projection", 0, ("ssl.feature_extractor",)),
        Stage("ssl.pos_conv_embed", f"{encoder}.encoder.pos_conv_embed", 0, ("ssl.feature_projection",)),
    ]
    before: tuple[str, ...] = ("ssl.feature_projection", "ssl.pos_conv_embed")
    for index in range(config.encoder.num_hidden_layers):
        table.append(Stage(f"ssl.layer{index}", f"{encoder}.encoder.layers.{index}", 0, before))
        before = (f"ssl.layer{index}",)
    table += [
        Stage("ssl.last_hidden_state", f"{encoder}.encoder.layer_norm", 0, before),
        Stage("bridge", "bridge", 0, ("ssl.last_hidden_state",)),
        Stage("residual_encoder", "aasist.enc", 0, ("bridge",)),
        Stage("attention", "aasist.attention", 0, ("residual_encoder",)),
        Stage("gat_s", "aasist.GAT_layer_S", 0, ("residual_encoder", "attention")),
        Stage("gat_t", "aasist.GAT_layer_T", 0, ("residual_encoder", "attention")),
        Stage("pool_s", "aasist.pool_S", 0, ("gat_s",)),
        Stage("pool_t", "aasist.pool_T", 0, ("gat_t",)),
    ]
    for branch in _BRANCHES:
        first = [f"{branch}.st1.{part}" for part in range(3)]
        pools = (f"{branch}.pool_t", f"{branch}.pool_s")
        module = f"aasist.{branch}"
        table += [Stage(n, f"{module}.HtrgGAT_layer_ST1", i, ("pool_s", "pool_t")) for i, n in enumerate(first)]
        table += [
            Stage(pools[0], f"{module}.pool_hT", 0, (first[0],)),
            Stage(pools[1], f"{module}.pool_hS", 0, (first[1],)),
        ]
        table += [Stage(f"{branch}.{part}", module, part, (*pools, first[2])) for part in range(3)]
    ends = tuple(f"{branch}.{part}" for branch in _BRANCHES for part in range(3))
    return [
        *table,
        Stage("pooled", "aasist.out_layer", 0, ends, is_input=True),
        Stage("logits", "aasist.out_layer", 0, ("pooled",)),
    ]


@dataclass(frozen=True)
class Departure:
    """A stage that differs although what it is computed from agrees.

    Attributes:
      window: which of the windows, from 0.
      stage: its name.
      error: root mean square of the difference, as a share of the stage's own.
      after: the nearest stages before it that were compared, all of which agree.
      remark: what else is known, such as that a pool ranks otherwise.
    """

    window: int
    stage: str
    error: float
    after: tuple[str, ...]
    remark: str = ""


@dataclass(frozen=True)
class Swap:
    """A graph pool in which nodes that nearly tie changed places.

    Attributes:
      window: which of the windows, from 0.
      pool: name of the stage.
      gap: between the scores of nodes that changed places; the pool's smallest, where its stage cannot be seen.
      seen: False where the pool's stage cannot be seen, so that there may have been a swap.
    """

    window: int
    pool: str
    gap: float
    seen: bool


@dataclass(frozen=True)
class Location:
    """What the comparison of stages found.

    Attributes:
      departures: in the order of the data's way.
      swaps: near ties that rounding decided.
      compared: names of the stages that both have.
      missing: the others, and why they could not be compared.
      bound: above which a stage departs.
    """

    departures: tuple[Departure, ...]
    swaps: tuple[Swap, ...]
    compared: tuple[str, ...]
    missing: Mapping[str, str]
    bound: float

    @property
    def first(self) -> Departure | None:
        """The first departure; None where every stage that could be compared agrees."""
        return self.departures[0] if self.departures else None

    @property
    def verdict(self) -> str:
        """In words."""
        if not self.compared:
            return "No stage of the reference could be found, so the divergence cannot be located."
        unseen = f" {len(self.missing)} stages could not be compared." if self.missing else ""
        first = self.first
        if first is not None:
            after = f"; {', '.join(first.after)} before it agree{'' if len(first.after) > 1 else 's'}"
            remark = f" ({first.remark})" if first.remark else ""
            return (
                f"The first stage that departs is {first.stage}: relative error {first.error:.2g}{remark}"
                f"{after if first.after else ''}.{unseen}"
            )
        pools = ", ".join(sorted({swap.pool for swap in self.swaps if swap.seen}))
        if pools:
            return f"No stage departs. Nodes that nearly tie change places in {pools}: rounding, and no bug.{unseen}"
        if self.swaps:
            return f"No stage departs before a near tie, after which nothing can be told.{unseen}"
        return f"No stage departs by more than {self.bound:g}.{unseen}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        first = self.first
        return {
            "first_departing_stage": None if first is None else first.stage,
            "departures": [
                {
                    "window": found.window,
                    "stage": found.stage,
                    # JSON has no infinity.
                    "error": found.error if np.isfinite(found.error) else None,
                    "after": list(found.after),
                    "remark": found.remark,
                }
                for found in self.departures
            ],
            "swaps": [vars(swap).copy() for swap in self.swaps],
            "compared": list(self.compared),
            "missing": dict(self.missing),
            "bound": self.bound,
            "verdict": self.verdict,
        }


def locate(
    ours: Mapping[str, np.ndarray],
    theirs: Mapping[str, np.ndarray],
    config: SpectraConfig,
    *,
    bound: float,
    gap_bound: float,
    missing: Mapping[str, str] | None = None,
) -> Location:
    """Find the stages at which a reference departs.

    Args:
      ours: what `spectra_jax.stages` gives for some windows, the pools' `.scores` included.
      theirs: those that the reference shows for the same windows.
      config: of the network.
      bound: largest relative error that rounding explains: see `STAGE_BOUND`.
      gap_bound: below it, a rank gap can close under rounding.
      missing: why the reference does not show the other stages.
    """
    table = stage_table(config)
    reasons = dict(missing or {})
    for stage in table:
        if stage.name not in theirs:
            reasons.setdefault(stage.name, "not found in the reference")
        elif theirs[stage.name].shape != ours[stage.name].shape:
            shapes = f"{theirs[stage.name].shape}, here {ours[stage.name].shape}"
            reasons[stage.name] = f"the reference has it in another shape: {shapes}"
    departures: list[tuple[int, Departure]] = []
    swaps = []
    for window in range(len(ours["logits"])):
        clouded: set[str] = set()
        for place, stage in enumerate(table):
            name = stage.name
            if clouded.intersection(stage.inputs):
                clouded.add(name)
                continue
            if name in reasons:
                gap = _smallest_gap(ours, name, window)
                if gap is not None and gap < gap_bound:
                    swaps.append(Swap(window, name, gap, seen=False))
                    clouded.add(name)
                continue
            mine, other = (values[name][window].astype(np.float64) for values in (ours, theirs))
            error = _relative_error(other, mine)
            if error <= bound:
                continue
            clouded.add(name)
            gap = _reordered(ours, stage, window, other, bound)
            if gap is not None and gap < gap_bound:
                swaps.append(Swap(window, name, gap, seen=True))
                continue
            remark = "" if gap is None else f"the same nodes in another order, with scores that differ by {gap:.2g}"
            after = tuple(_seen_before(table, stage, reasons))
            departures.append((place, Departure(window, name, error, after, remark)))
    departures.sort(key=lambda found: found[0])
    compared = tuple(stage.name for stage in table if stage.name not in reasons)
    return Location(tuple(found for _, found in departures), tuple(swaps), compared, reasons, bound)


def _relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    with np.errstate(invalid="ignore", over="ignore"):
        error = float(np.sqrt(np.mean(np.square(found - wanted))))
    size = float(np.sqrt(np.mean(np.square(wanted))))
    if not np.isfinite(error):
        return float("inf")
    return error / size if size else (0.0 if error == 0 else float("inf"))


def _smallest_gap(ours: Mapping[str, np.ndarray], pool: str, window: int) -> float | None:
    """A pool's smallest rank gap; None where `pool` is none, or ranks nothing."""
    if f"{pool}.scores" not in ours:
        return None
    ranked = -np.sort(-ours[f"{pool}.scores"][window].astype(np.float64))
    gaps = (ranked[:-1] - ranked[1:])[: ours[pool].shape[1]]
    return float(gaps.min()) if len(gaps) else None


def _reordered(
    ours: Mapping[str, np.ndarray], stage: Stage, window: int, found: np.ndarray, bound: float
) -> float | None:
    """How far apart the scores are of nodes that a pool has in other places than ours.

    None where the stage is no pool, or what it shows are not the nodes that went in, each times its score.
    """
    name = f"{stage.name}.scores"
    if name not in ours:
        return None
    scores = ours[name][window].astype(np.float64)
    nodes = ours[stage.inputs[0]][window].astype(np.float64) * scores[:, None]  # (n, d)
    order = np.argsort(-scores, kind="stable")[: len(found)]
    distances = np.sqrt(np.mean(np.square(found[:, None] - nodes[None]), axis=-1))  # (k, n)
    matched = distances.argmin(axis=1)
    size = np.sqrt(np.mean(np.square(nodes)))
    # A node's own error may be several times that of the stage.
    if len(set(matched)) < len(matched) or not np.all(distances.min(axis=1) <= 10 * bound * size):
        return None
    return float(np.max(np.abs(scores[matched] - scores[order])))


def _seen_before(table: list[Stage], stage: Stage, reasons: Mapping[str, str]) -> list[str]:
    """The nearest stages before one that could be compared."""
    by_name = {other.name: other for other in table}
    seen: dict[str, None] = {}
    for name in stage.inputs:
        if name in reasons:
            seen |= dict.fromkeys(_seen_before(table, by_name[name], reasons))
        else:
            seen[name] = None
    return list(seen)
