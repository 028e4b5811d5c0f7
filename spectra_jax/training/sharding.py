"""How a training step is divided among devices: a mesh, and rules that shard weights over its axes.

The mesh has up to three axes. The clips of a batch are divided over `clips` and `fsdp`. Weights that the rules shard
over `fsdp` are gathered for the forward and the backward pass only, and their gradients are summed and scattered (fully
sharded data parallel: Rajbhandari et al., "ZeRO", 2020). Products with weights that are sharded over `tensor` are
divided among its devices, which all have the same clips (Shoeybi et al., "Megatron-LM", 2019).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from spectra_jax.errors import ConfigError
from spectra_jax.messages import count
from spectra_jax.model.config import Section, added, check_integer, require
from spectra_jax.training import lora

CLIPS_AXIS = "clips"
"""The mesh axis over which the clips of a batch are divided, and every weight is replicated."""
FSDP_AXIS = "fsdp"
"""The mesh axis over which the clips of a batch are divided, and the weights too."""
TENSOR_AXIS = "tensor"
"""The mesh axis over which matrix products are divided. Its devices have the same clips."""
AXES = (CLIPS_AXIS, FSDP_AXIS, TENSOR_AXIS)

GATHERED = "gathered"
"""The name (`jax.ad_checkpoint.checkpoint_name`) of gathered weights, which a backward pass should not store."""

Rule = tuple[str, tuple[str | None, ...]]
"""A pattern of Flax paths, and the mesh axis of each dimension of the weights that match it."""

DEFAULT_RULES: tuple[Rule, ...] = (
    # Attention by heads and the feed-forward layers by their inner width: one sum over the devices after each.
    *((f"encoder/layers/*/attention/{name}/kernel", (FSDP_AXIS, TENSOR_AXIS)) for name in ("query", "key", "value")),
    *((f"encoder/layers/*/attention/{name}/bias", (TENSOR_AXIS,)) for name in ("query", "key", "value")),
    ("encoder/layers/*/attention/out/kernel", (TENSOR_AXIS, FSDP_AXIS)),
    ("encoder/layers/*/feed_forward_in/kernel", (FSDP_AXIS, TENSOR_AXIS)),
    ("encoder/layers/*/feed_forward_in/bias", (TENSOR_AXIS,)),
    ("encoder/layers/*/feed_forward_out/kernel", (TENSOR_AXIS, FSDP_AXIS)),
    ("encoder/feature_projection/linear/kernel", (None, FSDP_AXIS)),
    ("encoder/**/conv/kernel", (None, None, FSDP_AXIS)),
)
"""The rules of `sharding: "fsdp"`. They shard all large weights and not norms, other biases and the back-end."""


@dataclass(frozen=True)
class ShardingConfig(Section):
    """The mesh, and the rules that shard weights over its axes. The default is fully sharded data parallel."""

    clips: int = added(1)
    """Devices along `clips`, over which weights are replicated."""
    fsdp: int | None = added(None)
    """Devices along `fsdp`; null: all that the other axes leave."""
    tensor: int = added(1)
    """Devices along `tensor`."""
    rules: tuple[Rule, ...] | None = added(None)
    """(pattern, (axis or null for each dimension)). In a pattern `*` matches one part of a path, such as a layer's
    number, and `**` any number of parts. The first rule that matches is used; a weight that none matches is replicated.
    null: `DEFAULT_RULES`."""

    def _validate(self) -> None:
        for name in (CLIPS_AXIS, TENSOR_AXIS):
            check_integer(f"training.sharding.{name}", getattr(self, name))
        if self.fsdp is not None:
            check_integer(f"training.sharding.{FSDP_AXIS}", self.fsdp)
        rule = f'a list of ["pattern", [axis, ...]], each axis one of {", ".join(AXES[1:])} or null'
        for item in self.rules or ():
            known = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
            require(known and isinstance(item[1], tuple), "training.sharding.rules", item, rule)
            for axis in item[1]:
                require(axis in (None, *AXES[1:]), "training.sharding.rules", item, rule)
            named = [axis for axis in item[1] if axis is not None]
            require(len(named) == len(set(named)), "training.sharding.rules", item, "without an axis twice")


def sharding_config(value: object) -> ShardingConfig | None:
    """The value of `training.sharding`: null, "fsdp" or an object.

    Raises:
      ConfigError: another value.
    """
    if value is None or isinstance(value, ShardingConfig):
        return value
    if isinstance(value, dict):
        return ShardingConfig.from_dict(value)
    require(value == FSDP_AXIS, "training.sharding", value, f'"{FSDP_AXIS}", an object or null')
    return ShardingConfig()


@dataclass(frozen=True)
class Layout:
    """Where the arrays of a training run are: a mesh of devices, and the rules that shard weights over it."""

    mesh: Mesh
    rules: tuple[Rule, ...] = ()

    @classmethod
    def of(cls, config: ShardingConfig | None, devices: Sequence[jax.Device]) -> Layout:
        """The layout on these devices; without a configuration every weight is replicated.

        Raises:
          ValueError: the axes do not divide the devices.
        """
        if config is None:
            return cls(Mesh(np.array(devices), (CLIPS_AXIS,)))
        others = config.clips * config.tensor
        fsdp = config.fsdp or max(len(devices) // others, 1)
        if others * fsdp != len(devices):
            raise ValueError(
                f"training.sharding: clips = {config.clips}, fsdp = {config.fsdp or 'the rest'} and "
                f"tensor = {config.tensor} do not divide {count(len(devices), 'device')}: their product must be the "
                "number of devices"
            )
        sizes = {CLIPS_AXIS: config.clips, FSDP_AXIS: fsdp, TENSOR_AXIS: config.tensor}
        # An axis of one device divides nothing, and XLA does not compile a `shard_map` over one beside `tensor`.
        sizes = {axis: size for axis, size in sizes.items() if size > 1} or {FSDP_AXIS: 1}
        mesh = Mesh(np.array(devices).reshape(*sizes.values()), tuple(sizes))
        return cls(mesh, DEFAULT_RULES if config.rules is None else config.rules)

    @property
    def clip_axes(self) -> tuple[str, ...]:
        """The axes over which the clips of a batch are divided. The step is written for each of their devices; XLA
        divides the work over `tensor`. `clips` of one device is none of them: XLA:CPU would copy the gradients to sum
        them over it. `fsdp` of one device is, since weights are gathered over it."""
        sizes = self.mesh.shape
        return tuple(axis for axis in sizes if axis == FSDP_AXIS or (axis == CLIPS_AXIS and sizes[axis] > 1))

    @property
    def num_clip_shards(self) -> int:
        """Into how many parts a batch is divided."""
        return int(np.prod([self.mesh.shape[axis] for axis in self.clip_axes]))

    def map_clips(self, function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
        """A function of the arrays of all devices, from one of those that each device of `clip_axes` has."""
        if not self.clip_axes:
            return function
        return jax.shard_map(
            function, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, axis_names=set(self.clip_axes)
        )

    def summed_here(self, weights: Mapping[str, jax.Array], specs: Mapping[str, P]) -> dict[str, jax.Array]:
        """The weights, inside `map_clips`: their gradients are summed over the devices here, not where they are used.

        The sum of a gradient that is computed in a loop or a branch would be inside it. All sums have one identifier,
        since JAX gives every collective of a `shard_map` the same channel, and XLA:CPU mixes up those of a branch and
        those beside it: it aborts the process, or reads from address 0.

        Args:
          weights: by their paths.
          specs: their `manual_specs`. Over `fsdp` the gradient of a weight that is sharded is summed by its gather.
        """
        axes = {path: tuple(axis for axis in self.clip_axes if axis not in specs[path]) for path in weights}
        return {path: lax.pcast(weight, axes[path], to="varying") for path, weight in weights.items()}

    def spec(self, path: str, shape: Sequence[int]) -> P:
        """The mesh axis of each dimension of a weight. An adapter is sharded as its kernel is.

        Raises:
          ConfigError: the rule has another number of dimensions, or its axis does not divide a dimension.
        """
        kernel = lora.kernel_path(path)
        for pattern, axes in self.rules:
            if _matches(pattern, kernel or path):
                if kernel is not None:
                    axes = lora.adapter_axes(path, axes)
                return self._checked_spec(path, shape, pattern, axes)
        return P()

    def _checked_spec(self, path: str, shape: Sequence[int], pattern: str, axes: tuple[str | None, ...]) -> P:
        weight = f"training.sharding.rules: {pattern!r} matches {path} of shape {tuple(shape)}"
        if len(axes) != len(shape):
            raise ConfigError(
                f"{weight}, but names the axes of {count(len(axes), 'dimension')}: give an axis or null for each"
            )
        # An axis that this mesh does not have has one device.
        used = [axis if axis in self.mesh.axis_names else None for axis in axes]
        for size, axis in zip(shape, used, strict=True):
            if axis is not None and size % self.mesh.shape[axis]:
                raise ConfigError(
                    f"{weight}, but the {self.mesh.shape[axis]} devices of the axis {axis!r} do not divide {size}: "
                    "use a number of devices that does, or give a rule for this weight"
                )
        return P(*used)

    def specs(self, tree: Any) -> Any:
        """The spec of each array in a tree of dictionaries by path, such as a state: moments are as their weights."""

        def spec_of(keys: Any, leaf: Any) -> P:
            last = keys[-1] if keys else None
            return self.spec(last.key, leaf.shape) if isinstance(last, jax.tree_util.DictKey) else P()

        return jax.tree_util.tree_map_with_path(spec_of, tree)

    def shardings(self, tree: Any) -> Any:
        """Like `specs`, as shardings over the mesh."""
        return jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), self.specs(tree))

    def manual_specs(self, tree: Any) -> Any:
        """Like `specs`, without the axis `tensor`: what `jax.shard_map` over `clip_axes` takes."""

        def manual(spec: P) -> P:
            return P(*(axis if axis in self.clip_axes else None for axis in spec))

        return jax.tree.map(manual, self.specs(tree))

    @property
    def replicated(self) -> NamedSharding:
        """Of arrays that every device has."""
        return NamedSharding(self.mesh, P())

    def by_clip(self, *, axis: int) -> NamedSharding:
        """Of arrays whose dimension `axis` is that of the clips."""
        return NamedSharding(self.mesh, self.clip_spec(axis=axis))

    def clip_spec(self, *, axis: int) -> P:
        """Of arrays whose dimension `axis` is that of the clips."""
        return P(*[None] * axis, self.clip_axes)


class GatheredParam(nnx.Param[jax.Array]):
    """A weight that is sharded over `fsdp`, inside a `jax.shard_map`. Reading it gathers it from the devices.

    A layer that `remat` computes again in the backward pass gathers it again, and the gradient is a sum that is
    scattered over the devices.
    """

    dimension: int
    """The dimension that is sharded."""

    def get_value(self, *, index: Any = ...) -> jax.Array:
        shard = super().get_value(index=...)
        complete = lax.all_gather(shard, FSDP_AXIS, axis=self.dimension, tiled=True)
        return checkpoint_name(complete, GATHERED)[index]


def gather_when_read(model: nnx.Module, layout: Layout) -> None:
    """Make weights that the layout shards over `fsdp` gathered ones, in a network without arrays."""
    for path, module in nnx.iter_modules(model):
        for name, variable in vars(module).items():
            if isinstance(variable, nnx.Param):
                shape = variable.get_raw_value()
                spec = layout.spec(".".join(map(str, (*path, name))), shape.shape)
                if FSDP_AXIS in spec:
                    setattr(module, name, GatheredParam(shape, dimension=spec.index(FSDP_AXIS)))


def _matches(pattern: str, path: str) -> bool:
    parts: Iterable[str] = re.split(r"(\*\*/|\*\*|\*)", pattern)
    expression = "".join({"**/": "(?:.+/)?", "**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts)
    return re.fullmatch(expression, path.replace(".", "/")) is not None
