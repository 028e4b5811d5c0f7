"""Gradients of a product in bfloat16 whose rows are sharded over two devices, in every kind of mesh, as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from spectra_jax.model.precision import Precision

ROWS, WEIGHTS = P("clips"), P()


def loss(x: jax.Array, weight: jax.Array) -> jax.Array:
    return jnp.sum(jnp.sin(Precision.of("bfloat16").linear(x, weight, jnp.zeros(8))))


def main() -> None:
    rng = np.random.default_rng(0)
    x, weight = (np.asarray(rng.normal(size=shape), np.float32) for shape in ((4, 3, 8), (8, 8)))
    gradient = jax.grad(loss, (0, 1))
    found: dict[str, Any] = {"one device": gradient(x, weight)}
    for kind in (AxisType.Explicit, AxisType.Auto):
        mesh = jax.make_mesh((2,), ("clips",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            placed = (
                jax.device_put(array, NamedSharding(mesh, spec)) for array, spec in ((x, ROWS), (weight, WEIGHTS))
            )
            found[kind.name] = jax.jit(gradient)(*placed)
    # The weight does not vary over the devices, so its gradient is a sum over them.
    sharded = jax.shard_map(gradient, mesh=mesh, in_specs=(ROWS, WEIGHTS), out_specs=(ROWS, WEIGHTS))
    found["shard_map"] = jax.jit(sharded)(x, weight)
    alone = jax.shard_map(jax.grad(loss), mesh=mesh, in_specs=(ROWS, WEIGHTS), out_specs=ROWS)
    found["shard_map, frozen weight"] = [jax.jit(alone)(x, weight)]
    json.dump({name: [np.asarray(leaf).tolist() for leaf in leaves] for name, leaves in found.items()}, sys.stdout)


if __name__ == "__main__":
    main()
