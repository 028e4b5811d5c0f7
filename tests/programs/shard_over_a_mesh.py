"""Run a small network on windows that are sharded over 1, 2, 4 and 8 devices, and print what happened as JSON."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import spectra_jax
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.spectra import SpectraAASIST3

# Small, since everything is compiled for each number of devices.
CONFIG = {
    "num_samples": 2000,
    "max_frames": 60,
    "bridge_dim": 12,
    "residual_channels": [[1, 4], [4, 4]],
    "gat_dims": [6, 4],
    "encoder": {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "conv_dim": [6, 6],
        "conv_kernel": [10, 4],
        "conv_stride": [8, 5],
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
    },
}


def run(model: Any, windows: np.ndarray, mesh: Mesh, *, set_mesh: bool) -> dict[str, Any]:
    """The output of `jit(forward)` on windows that are sharded over the mesh."""
    forward, params, rest = spectra_jax.split(model)
    placed = jax.device_put((params, rest), NamedSharding(mesh, P()))
    sharded = jax.device_put(windows, NamedSharding(mesh, P("clips")))
    with jax.set_mesh(mesh) if set_mesh else nullcontext():
        output = jax.jit(forward)(*placed, sharded)
    return {
        "output": np.asarray(output).reshape(len(windows), -1).tolist(),
        "clips on": sorted({len(shard.data) for shard in output.addressable_shards}),
        "spec": [axis for axis in output.sharding.spec if axis is not None],
    }


def gradient(model: Any, windows: np.ndarray, mesh: Mesh) -> dict[str, float]:
    """With respect to the parameters, with the windows sharded over the mesh: its norm, and how many sums over devices
    are inside a loop or a branch."""
    forward, params, rest = spectra_jax.split(model)
    placed = jax.device_put((params, rest), NamedSharding(mesh, P()))
    sharded = jax.device_put(windows, NamedSharding(mesh, P("clips")))
    function = jax.jit(jax.grad(lambda params, rest, x: jnp.mean(forward(params, rest, x) ** 2)))
    compiled = function.lower(*placed, sharded).compile()
    leaves = jax.tree.leaves(compiled(*placed, sharded))
    before_main, _ = (compiled.as_text() or "").split("\nENTRY ")
    norm = float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in leaves)))
    return {"norm": norm, "nested": before_main.count(" all-reduce(")}


def main() -> None:
    model = SpectraAASIST3(SpectraConfig.from_dict(CONFIG), rngs=nnx.Rngs(params=0))
    windows = np.random.default_rng(0).standard_normal((8, 2000), np.float32) * np.float32(0.1)
    found: dict[str, Any] = {}
    for kind in (AxisType.Explicit, AxisType.Auto):
        for count in (1, 2, 4, 8):
            mesh = jax.make_mesh((count,), ("clips",), axis_types=(kind,), devices=jax.devices()[:count])
            found[f"{kind.name} {count} set_mesh"] = run(model, windows, mesh, set_mesh=True)
            found[f"{kind.name} {count} arrays"] = run(model, windows, mesh, set_mesh=False)
            found[f"{kind.name} {count} encoder"] = run(model.encoder, windows, mesh, set_mesh=True)
            if count in (1, 4):
                found[f"{kind.name} {count} gradient"] = gradient(model, windows, mesh)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
