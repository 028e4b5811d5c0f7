"""Run the demo network on windows that are sharded over 1, 2, 4 and 8 devices, and print what happened as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import spectra_jax
from tests.conftest import golden_windows


def run(model: Any, windows: np.ndarray, mesh: Mesh, *, set_mesh: bool) -> dict[str, Any]:
    """The output of `jit(forward)` and of its gradient, with the windows sharded over the mesh."""
    forward, params, rest = spectra_jax.split(model)
    placed = jax.device_put((params, rest), NamedSharding(mesh, P()))
    sharded = jax.device_put(windows, NamedSharding(mesh, P("clips")))

    def loss(params: Any, rest: Any, windows: jax.Array) -> jax.Array:
        return jax.numpy.mean(forward(params, rest, windows) ** 2)

    def compute() -> dict[str, Any]:
        output = jax.jit(forward)(*placed, sharded)
        gradient = jax.jit(jax.grad(loss))(*placed, sharded)
        return {
            "output": np.asarray(output).reshape(len(windows), -1)[:, :16].tolist(),
            "shards": sorted({shard.data.shape[0] for shard in output.addressable_shards}),
            "spec": str(output.sharding.spec),
            "gradient": float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradient)))),
        }

    if not set_mesh:
        return compute()
    with jax.set_mesh(mesh):
        return compute()


def main() -> None:
    model = spectra_jax.load("demo")
    windows = golden_windows([{"seed": seed, "samples": 20000} for seed in range(8)])[:, :4000]
    found = {}
    for count in (1, 2, 4, 8):
        for kind in (AxisType.Explicit, AxisType.Auto):
            mesh = jax.make_mesh((count,), ("clips",), axis_types=(kind,), devices=jax.devices()[:count])
            for set_mesh in (False, True):
                key = f"{kind.name} {count} {'set_mesh' if set_mesh else 'arrays'}"
                found[key] = run(model, windows, mesh, set_mesh=set_mesh)
            found[f"{kind.name} {count} encoder"] = run(model.encoder, windows, mesh, set_mesh=True)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
