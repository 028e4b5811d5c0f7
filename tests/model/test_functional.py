"""A network as a pure function of its parameters and its other state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import spectra_jax
from spectra_jax.model.fold import fold_for_inference
from spectra_jax.model.norms import BatchNorm
from spectra_jax.model.spectra import SpectraAASIST3
from tests.programs.shard_over_a_mesh import CONFIG

pytestmark = pytest.mark.usefixtures("unoptimized")

ROOT = Path(__file__).parents[2]


def small_model() -> SpectraAASIST3:
    return SpectraAASIST3(spectra_jax.SpectraConfig.from_dict(CONFIG), rngs=nnx.Rngs(params=0))


class Offset(nnx.Module):
    """A layer of a user's own: a batch norm with a parameter and a counter of its own."""

    def __init__(self, norm: BatchNorm):
        self.norm = norm
        self.offset = nnx.Param(jnp.ones(1))
        self.index = nnx.Param(jnp.zeros(1, jnp.int32))
        self.use_running_average = True

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(x) + self.offset[...][self.index[...]]


def with_own_layer() -> SpectraAASIST3:
    model = small_model()
    model.aasist.gat_s.norm = Offset(model.aasist.gat_s.norm)  # type: ignore[assignment]
    return model


X = np.random.default_rng(0).standard_normal((2, 2000), np.float32) * np.float32(0.1)

MODELS: dict[str, Callable[[], nnx.Module]] = {
    "network": small_model,
    "folded": lambda: fold_for_inference(small_model()),
    "encoder": lambda: small_model().encoder,
    "own layer": with_own_layer,
}


def leaf_paths(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("name", MODELS)
def test_the_parts_are_nested_dictionaries_of_arrays(name: str) -> None:
    model = MODELS[name]()
    _, params, rest = spectra_jax.split(model)

    def check(tree: Any) -> None:
        if isinstance(tree, dict):
            assert all(type(key) is str for key in tree)
            for value in tree.values():
                check(value)
        else:
            assert isinstance(tree, jax.Array)

    check(params)
    check(rest)
    assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(params))
    assert len(jax.tree.leaves((params, rest))) == len(jax.tree.leaves(nnx.state(model)))
    assert not leaf_paths(params).keys() & leaf_paths(rest).keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == "encoder" else [pytest.mark.long]) for name in MODELS],
)
def test_gradients_and_an_optimizer_take_params_as_they_are(name: str) -> None:
    model = MODELS[name]()
    forward, params, rest = spectra_jax.split(model)

    @jax.jit
    def step(params: Any, state: Any) -> tuple[Any, Any, jax.Array]:
        loss, gradients = jax.value_and_grad(lambda p: jnp.mean(forward(p, rest, X) ** 2))(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    optimizer = optax.sgd(1e-3)
    state = optimizer.init(params)
    np.testing.assert_allclose(forward(params, rest, X), model(X), rtol=0, atol=1e-5)
    after, state, first = step(params, state)
    _, _, second = step(after, state)
    assert leaf_paths(after).keys() == leaf_paths(params).keys()
    assert second < first


@pytest.mark.long
def test_gradients_are_those_of_nnx() -> None:
    model = with_own_layer()
    forward, params, rest = spectra_jax.split(model)
    found = jax.jit(jax.grad(lambda p: forward(p, rest, X).sum()))(params)
    trained: Any = lambda path, leaf: isinstance(leaf, nnx.Param) and path[-1] != "index"  # noqa: E731
    parts: Any = nnx.split(model, trained, ...)
    graph, weights, others = parts
    expected = jax.jit(jax.grad(lambda weights: nnx.merge(graph, weights, others)(X).sum()))(weights)
    values = {"".join(f"['{part}']" for part in path): leaf.get_value() for path, leaf in nnx.to_flat_state(expected)}
    gradients = leaf_paths(found)
    assert gradients.keys() == values.keys()
    assert gradients["['aasist']['gat_s']['norm']['offset']"] != 0
    for path, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, values[path], err_msg=path)


@pytest.mark.parametrize(
    "split", [spectra_jax.split, pytest.param(spectra_jax.split_with_rank_gaps, marks=pytest.mark.long)]
)
@pytest.mark.slow
def test_two_parts_work_with_a_warning(split: Callable[[SpectraAASIST3], Any]) -> None:
    model = small_model()
    forward, params, rest = split(model)
    with pytest.warns(DeprecationWarning, match=r"forward, params, rest = split\(model\)") as caught:
        old_forward, old_params = split(model)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(jax.jit(old_forward)(old_params, X), jax.jit(forward)(params, rest, X))
    assert len(jax.tree.leaves(old_params)) == len(jax.tree.leaves((params, rest)))


def test_other_uses_have_three_parts_and_no_warning() -> None:
    result = spectra_jax.split(small_model())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forward, *others = result
        assert len(others) == 2
        assert len(list(result)) == len(tuple(result)) == len(result) == 3
        _, params, rest = result
        assert result.params is params is others[0] and result.rest is rest
        assert result.forward is forward


def test_a_missing_parameter_is_named() -> None:
    forward, params, rest = spectra_jax.split(small_model())
    with pytest.raises(ValueError, match=r"params has no 'encoder\.feature_projection\.linear\.bias'"):
        forward(params | {"encoder": params["encoder"] | {"feature_projection": {"linear": {}}}}, rest, X)
    # Without `rest`, the windows are in its position.
    with pytest.raises(ValueError, match=r"rest has no '.*': forward takes the parameters and the rest"):
        forward(params, X)


@pytest.mark.slow
@pytest.mark.usefixtures("annotations_unchecked")
@pytest.mark.parametrize(
    "shape", ["b, 2000", *(pytest.param(shape, marks=pytest.mark.long) for shape in ("2, {time}", "b, {time}"))]
)
def test_symbolic_sizes(shape: str) -> None:
    """Without constraints on the sizes. A detector's lengths are in steps of three frames, 120 samples here."""
    model = small_model()
    for network, time in ((model, "120*t + 80"), (model.encoder, "t")):
        forward, params, rest = spectra_jax.split(network)
        windows = jax.ShapeDtypeStruct(jax.export.symbolic_shape(shape.format(time=time)), np.float32)
        exported = jax.export.export(jax.jit(forward))(params, rest, windows)
        for batch, samples in ((1, 2000), (2, 2000), (2, 680), (5, 1160)):
            if (batch != 2 and shape.startswith("2")) or (samples != 2000 and "2000" in shape):
                continue
            x = np.resize(X, (batch, samples))
            found = jax.jit(exported.call)(params, rest, x)
            np.testing.assert_allclose(found, jax.jit(forward)(params, rest, x), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def sharded() -> dict[str, Any]:
    """What the small network computed on meshes of 1, 2, 4 and 8 devices."""
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.programs.shard_over_a_mesh"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


@pytest.mark.long
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
@pytest.mark.parametrize("how", ["set_mesh", "arrays", "encoder"])
@pytest.mark.parametrize("kind", ["Explicit", "Auto"])
def test_windows_are_sharded_over_a_mesh(kind: str, how: str, devices: int, sharded: dict[str, Any]) -> None:
    found, alone = sharded[f"{kind} {devices} {how}"], sharded[f"Explicit 1 {how}"]
    np.testing.assert_allclose(found["output"], alone["output"], rtol=0, atol=1e-5)
    # Outside `jax.set_mesh`, tracing knows nothing of automatic axes.
    if devices > 1 and (kind, how) != ("Auto", "arrays"):
        assert (found["spec"], found["clips on"]) == (["clips"], [8 // devices])


@pytest.mark.long
@pytest.mark.parametrize("kind", ["Explicit", "Auto"])
def test_gradients_do_not_depend_on_the_mesh(kind: str, sharded: dict[str, Any]) -> None:
    found, alone = sharded[f"{kind} 4 gradient"], sharded["Explicit 1 gradient"]
    np.testing.assert_allclose(found["norm"], alone["norm"], rtol=1e-4)
    # Collectives of a `shard_map` have one identifier: XLA:CPU mixes up one in a branch and one beside it.
    assert kind == "Auto" or found["nested"] == 0
