"""Low-rank adapters (LoRA): pure functions on a network's arrays by their Flax paths.

    adapters = lora.init(leaves, config, key)                   # train these, and keep `leaves` as they are
    merged = lora.merge({**leaves, **adapters}, config)         # an ordinary network's arrays

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2022).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from spectra_jax.model.config import Section, check_integer, check_number, require
from spectra_jax.model.parameters import uniform_fan_in

TARGETS = ("query", "key", "value", "out")
"""The projections of attention."""
_DOWN, _UP = "lora_a", "lora_b"
_LAYER = re.compile(rf"encoder\.layers\.(\d+)\.attention\.({'|'.join(TARGETS)})\.kernel")


@dataclass(frozen=True)
class LoraConfig(Section):
    """Adapters of the encoder's attention: each target's kernel W is used as `W + alpha / rank * A @ B`."""

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("query", "value")
    """Projections that have adapters: of `query`, `key`, `value` and `out`."""

    def _validate(self) -> None:
        check_integer("training.lora.rank", self.rank)
        check_number("training.lora.alpha", self.alpha, lambda alpha: alpha > 0, "a number above 0")
        rule = f"a list without repetitions, of {', '.join(TARGETS)}"
        valid = isinstance(self.targets, tuple) and len(self.targets) > 0
        require(valid and set(self.targets) <= set(TARGETS), "training.lora.targets", self.targets, rule)
        require(len(set(self.targets)) == len(self.targets), "training.lora.targets", self.targets, rule)


def lora_config(value: object) -> LoraConfig | None:
    """The value of `training.lora`: null or an object.

    Raises:
      ConfigError: another value.
    """
    return value if value is None or isinstance(value, LoraConfig) else LoraConfig.from_dict(value)


def is_adapter(path: str) -> bool:
    """Whether this is the path of an adapter's array."""
    return path.endswith((f".{_DOWN}", f".{_UP}"))


def kernel_path(path: str) -> str | None:
    """The path of an adapter's kernel; None if this is not the path of an adapter's array."""
    return f"{path.rpartition('.')[0]}.kernel" if is_adapter(path) else None


def adapter_axes(path: str, kernel_axes: Sequence[str | None]) -> tuple[str | None, ...]:
    """The mesh axes of an adapter's array from those of its kernel: a shard of the kernel can be merged."""
    first, last = kernel_axes
    return (first, None) if path.endswith(_DOWN) else (None, last)


def init(
    leaves: Mapping[str, jax.Array], config: LoraConfig, key: jax.Array, *, first_layer: int = 0
) -> dict[str, jax.Array]:
    """New adapters, with which the network's output stays the same to the bit: A is random, B is zero.

    Args:
      leaves: of the network; only the kernels' shapes and dtypes are used.
      config: of the adapters.
      key: from which A is drawn.
      first_layer: layers of the encoder before it have no adapters.

    Returns:
      `PATH.lora_a` (in, rank) and `PATH.lora_b` (rank, out) for each kernel `PATH.kernel` (in, out) of a target.
    """
    adapters: dict[str, jax.Array] = {}
    for path, kernel in leaves.items():
        found = _LAYER.fullmatch(path)
        if found is None or found[2] not in config.targets or int(found[1]) < first_layer:
            continue
        inputs, outputs = kernel.shape
        down, up = _adapter_paths(path)
        own_key = jax.random.fold_in(key, len(adapters))
        adapters[down] = uniform_fan_in(inputs)(own_key, (inputs, config.rank), kernel.dtype)
        adapters[up] = jnp.zeros((config.rank, outputs), kernel.dtype)
    return adapters


def merge(leaves: Mapping[str, jax.Array], config: LoraConfig | None) -> dict[str, jax.Array]:
    """The network's arrays with the adapters added to their kernels.

    Args:
      leaves: of the network, and its adapters.
      config: with which the adapters were created; None: there are none.
    """
    merged = {path: leaf for path, leaf in leaves.items() if not is_adapter(path)}
    if config is None:
        return merged
    for path in merged:
        down, up = _adapter_paths(path)
        if path.endswith(".kernel") and down in leaves:
            product = jnp.matmul(leaves[down], leaves[up], precision=jax.lax.Precision.HIGHEST)
            merged[path] = merged[path] + config.alpha / config.rank * product
    return merged


def _adapter_paths(path: str) -> tuple[str, str]:
    """The paths of A and B of a kernel."""
    module = path.removesuffix("kernel")
    return module + _DOWN, module + _UP
