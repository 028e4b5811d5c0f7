"""Pure functions of a network for `jax.jit`, `jax.grad`, `jax.export` and the other transformations."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from spectra_jax.model.symbolic import is_symbolic
from spectra_jax.renamed import num_unpacked_names

Tree = dict[str, Any]
"""Nested dictionaries with string keys; their leaves are arrays."""
_Path = tuple[Any, ...]


class SplitModel(NamedTuple):
    """What `split` returns: `forward, params, rest = split(model)`.

    Attributes:
      forward: `forward(params, rest, windows (batch, samples)) -> logits`, or the output of an encoder.
      params: the floating-point parameters (`nnx.Param`), which are trained.
      rest: everything else: statistics and counters of batch norms, and the state of layers of the user's own.
    """

    forward: Callable[..., Any]
    params: Tree
    rest: Tree

    def __iter__(self) -> Iterator[Any]:
        if num_unpacked_names(sys._getframe(1)) != 2:
            return tuple.__iter__(self)
        warnings.warn(
            "`forward, params = split(model)` is now `forward, params, rest = split(model)`, with "
            "`forward(params, rest, windows)`; the old form will be removed in the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        three_parts = self.forward

        def forward(params: Tree, *inputs: Any) -> Any:
            return three_parts(params, params, *inputs)

        return iter((forward, _merge(self.params, self.rest)))


def split(model: nnx.Module) -> SplitModel:
    """A model as a pure function, its parameters and its other state: `forward, params, rest = split(model)`.

    `forward(params, rest, windows)` closes over the architecture only, so that `jax.jit`, `jax.grad`, `jax.vmap`,
    `jax.shard_map` and `jax.export` take it as it is. `params` and `rest` are nested dictionaries with string keys,
    whose leaves are plain arrays: optax and orbax take them.

    With windows that are sharded over an explicit axis of a mesh, each device runs the network on its own share, and
    the output is sharded likewise. The same holds under `jax.set_mesh` of a mesh with one automatic axis whose size
    divides the batch. Elsewhere the compiler decides, which may gather the complete batch.

    Args:
      model: a `SpectraAASIST3`, a `SpeechEncoder`, either with layers of the user's own classes.
    """
    return split_method(model, lambda network, *inputs: network(*inputs))


def split_method(model: nnx.Module, call: Callable[..., Any]) -> SplitModel:
    """Like `split`, with `forward(params, rest, *inputs) = call(model, *inputs)`.

    Args:
      model: any module.
      call: takes the module and arrays with a leading batch axis, and returns such arrays.
    """
    graph, state = nnx.split(model)
    variables: list[tuple[_Path, Any]] = list(nnx.to_flat_state(state))
    trees: tuple[Tree, Tree] = ({}, {})
    layout = _Layout(graph, [(path, leaf, _is_trained(leaf)) for path, leaf in variables])
    for path, leaf, trained in layout.variables:
        _insert(trees[0 if trained else 1], path, leaf.get_value() if isinstance(leaf, nnx.Variable) else leaf)

    def forward(params: Mapping[str, Any], rest: Mapping[str, Any], *inputs: Any) -> Any:
        def run(params: Mapping[str, Any], rest: Mapping[str, Any], *inputs: Any) -> Any:
            return call(layout.merge(params, rest), *inputs)

        return _by_shard(run, params, rest, *inputs)

    return SplitModel(forward, *trees)


@dataclass(frozen=True)
class _Layout:
    """The structure of a network, and for each variable its path, itself and whether it is among `params`."""

    graph: Any
    variables: Sequence[tuple[_Path, Any, bool]]

    def merge(self, params: Mapping[str, Any], rest: Mapping[str, Any]) -> Any:
        """The network with these parameters and this other state."""
        flat = []
        for path, leaf, trained in self.variables:
            value = _find(params, path, "params") if trained else _find(rest, path, "rest")
            flat.append((path, leaf.replace(value) if isinstance(leaf, nnx.Variable) else value))
        return nnx.merge(self.graph, nnx.from_flat_state(flat))


def _is_trained(leaf: Any) -> bool:
    if not isinstance(leaf, nnx.Param):
        return False
    return all(jnp.issubdtype(value.dtype, jnp.floating) for value in jax.tree.leaves(leaf.get_value()))


def _insert(tree: Tree, path: _Path, value: Any) -> None:
    *parents, last = map(str, path)
    for part in parents:
        tree = tree.setdefault(part, {})
    tree[last] = value


def _find(tree: Mapping[str, Any], path: _Path, name: str) -> Any:
    found: Any = tree
    for part in path:
        try:
            found = found[str(part)]
        except (KeyError, TypeError, IndexError):
            raise ValueError(
                f"{name} has no {'.'.join(map(str, path))!r}: forward takes the parameters and the rest that "
                f"`split` returned with it"
            ) from None
    return found


def _merge(one: Mapping[str, Any], other: Mapping[str, Any]) -> Tree:
    """One tree with the leaves of two."""
    merged: Tree = dict(one)
    for key, value in other.items():
        merged[key] = _merge(merged[key], value) if key in merged else value
    return merged


def _by_shard(run: Callable[..., Any], params: Any, rest: Any, *inputs: Array) -> Any:
    """`run(params, rest, *inputs)`; on a mesh, each device runs it on its own share of the inputs.

    The rows of the network's loops are not sharded, which explicit axes would require of each operation, and for which
    automatic axes gather the complete batch.
    """
    axes = _batch_axes(inputs[0]) if inputs else ()
    if not axes:
        return run(params, rest, *inputs)
    mesh = jax.sharding.get_abstract_mesh()
    batch = P(axes)

    def run_shard(params: Any, rest: Any, *inputs: Array) -> Any:
        # So that gradients are summed over the devices here. The sum of one that is computed in a loop or a branch
        # would be inside it; a `shard_map` gives all its sums one identifier, and XLA:CPU mixes up those that run at
        # once.
        return run(lax.pcast(params, axes, to="varying"), rest, *inputs)

    sharded = jax.shard_map(
        run_shard,
        mesh=jax.typeof(inputs[0]).sharding.mesh if mesh.empty else mesh,
        in_specs=(P(), P(), *(batch for _ in inputs)),
        out_specs=batch,
        axis_names=set(axes),
    )
    return sharded(params, rest, *inputs)


def _batch_axes(x: Array) -> tuple[str, ...]:
    """The axes of a mesh over which the batch is divided: explicit ones, or the only axis of `jax.set_mesh`."""
    sharding = jax.typeof(x).sharding
    if isinstance(sharding, NamedSharding) and sharding.spec and sharding.spec[0] is not None:
        axes: tuple[str, ...] = sharding.spec[0] if isinstance(sharding.spec[0], tuple) else (sharding.spec[0],)
        types = dict(zip(sharding.mesh.axis_names, sharding.mesh.axis_types, strict=True))
        return axes if all(types[axis] == AxisType.Explicit for axis in axes) else ()
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.axis_types != (AxisType.Auto,) or is_symbolic(x.shape[0]) or x.shape[0] % mesh.size:
        return ()
    return tuple(mesh.axis_names)
