"""Rows of name tables: the Flax weight of each PyTorch tensor, and the order of its axes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

Row = tuple[str, str, str]
"""A PyTorch module, the Flax module, and their kind. `{...}` takes every index of a repeated part."""

# kind of module -> (PyTorch tensor, Flax weight, axes of the PyTorch tensor in the order of Flax)
KINDS: dict[str, tuple[tuple[str, str, tuple[int, ...]], ...]] = {
    "linear": (("weight", "kernel", (1, 0)), ("bias", "bias", (0,))),
    "conv1d": (("weight", "kernel", (2, 1, 0)), ("bias", "bias", (0,))),
    "conv2d": (("weight", "kernel", (2, 3, 1, 0)), ("bias", "bias", (0,))),
    "layer_norm": (("weight", "scale", (0,)), ("bias", "bias", (0,))),
    "embedding": (("weight", "embedding", (0, 1)),),
    "batch_norm": (
        ("weight", "scale", (0,)),
        ("bias", "bias", (0,)),
        ("running_mean", "mean", (0,)),
        ("running_var", "var", (0,)),
        ("num_batches_tracked", "num_batches", ()),
    ),
    "kan": (
        ("base_activation.weight", "slope", (0,)),
        ("base_weight", "base_weight", (1, 0)),
        ("spline_weight", "spline_weight", (1, 2, 0)),
        ("spline_scaler", "spline_scaler", (1, 0)),
    ),
    "features": (("", "", (0,)),),
    "vector": (("", "", (0, 1)),),
    "position": (("", "", (0, 1, 2)),),
    "heads": (("", "", (0, 1, 2, 3)),),
}


@dataclass(frozen=True)
class Entry:
    """A PyTorch tensor, the Flax weight that it sets, and its axes in the order of the Flax weight."""

    source: str
    target: str
    axes: tuple[int, ...]

    @property
    def inverse_axes(self) -> tuple[int, ...]:
        """The axes of the Flax weight in the order of the PyTorch tensor."""
        return tuple(self.axes.index(axis) for axis in range(len(self.axes)))


Parts = Mapping[str, Sequence[Mapping[str, object]]]
"""For each placeholder of a row, such as `{layer}`, the names that replace it, once for each repetition."""


def expand_rows(rows: Iterable[Row], parts: Parts, weights: Iterable[str]) -> list[Entry]:
    """The entries of rows for one network: one for every tensor that sets one of `weights`."""
    weights = set(weights)
    return [entry for row in rows for entry in entries_of_row(row, parts) if entry.target in weights]


def entries_of_row(row: Row, parts: Parts) -> Iterator[Entry]:
    """Every entry that a row can have, whether or not the network has such a weight."""
    source, target, kind = row
    for indices in product(*(values for part, values in parts.items() if part in source)):
        names = {key: value for index in indices for key, value in index.items()}
        for tensor, weight, axes in KINDS[kind]:
            yield Entry(
                ".".join(filter(None, [source.format(**names), tensor])),
                ".".join(filter(None, [target.format(**names), weight])),
                axes,
            )
