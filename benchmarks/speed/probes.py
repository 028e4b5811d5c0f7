"""Measurements of spectra-jax alone, each in a worker of its own: stages, operations, devices, scores."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.speed.flops import stage_flops
from benchmarks.speed.network import Network, windows
from benchmarks.speed.peak import peak

if TYPE_CHECKING:
    import jax

    from spectra_jax.model.spectra import SpectraAASIST3


def _seconds(function: Callable[[], object], rounds: int) -> list[float]:
    """Seconds of each call until its arrays are computed, after one call that does not count."""
    import jax

    jax.block_until_ready(function())
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - start)
    return seconds


def stages(network: Network, precision: str, batch: int, rounds: int) -> list[dict[str, Any]]:
    """Each stage compiled alone and timed on its true input, in turn with the others."""
    import jax

    inputs = windows(batch, network.config.num_samples)
    runs = compile_stages(network, precision, inputs)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - start)
    flops = stage_flops(network.config, network.config.num_samples)
    flops["whole network"] = sum(flops.values())
    return [{"stage": name, "seconds": seconds[name], "flops": batch * flops[name]} for name in runs]


def compile_stages(network: Network, precision: str, inputs: np.ndarray) -> dict[str, Callable[[], Any]]:
    """A function for each stage, and for the complete network, that runs it on its true input; called once each.

    The stages are traced one after the other and compiled at the same time.
    """
    import jax
    import jax.numpy as jnp

    import spectra_jax
    from spectra_jax.model.fold import fold_for_inference

    model = fold_for_inference(spectra_jax.load(network.native, precision))
    on_device = jnp.asarray(inputs)
    with ThreadPoolExecutor() as pool:
        taps, params = _lower_taps(model, on_device)
        compiling_taps = pool.submit(taps.compile)
        # The shapes of the stages' inputs are known before their values are.
        shapes = jax.eval_shape(functools.partial(_stage_inputs, model), on_device, taps.out_info)
        compiling = {}
        for name, (module, function) in _stage_modules(model).items():
            lowered, leaves = _lower(module, function, shapes[name])
            compiling[name] = pool.submit(lowered.compile), leaves
    values = compiling_taps.result()(params, on_device)
    runs: dict[str, Callable[[], Any]] = {}
    for name, arguments in _stage_inputs(model, on_device, values).items():
        compiled, leaves = compiling[name]
        runs[name] = functools.partial(compiled.result(), leaves, *arguments)
        jax.block_until_ready(runs[name]())
    return runs


def operations(network: Network, precision: str, batch: int, rounds: int) -> list[dict[str, Any]]:
    """The time of the complete network by the kind of its operations."""
    import jax
    import jax.numpy as jnp

    import spectra_jax
    from benchmarks.speed.operations import profile
    from spectra_jax.model.fold import fold_for_inference

    forward, params, rest = spectra_jax.split(fold_for_inference(spectra_jax.load(network.native, precision)))
    inputs = jnp.asarray(windows(batch, network.config.num_samples))
    compiled = jax.jit(forward).lower(params, rest, inputs).compile()

    def run() -> None:
        jax.block_until_ready(compiled(params, rest, inputs))

    run()
    return profile(run, compiled.as_text() or "", rounds)


_TAPS = (
    *("ssl.feature_extractor", "ssl.feature_projection", "ssl.pos_conv_embed", "ssl.last_hidden_state"),
    *("bridge", "residual_encoder", "attention"),
)
"""The values between the stages."""


def _lower_taps(model: SpectraAASIST3, inputs: jax.Array) -> tuple[Any, Any]:
    """The program (parameters, windows) -> the value of each tap, and the parameters."""
    import jax
    from flax import nnx

    graph, params = nnx.split(model)

    def taps(params: Any, windows: jax.Array) -> dict[str, jax.Array]:
        seen: dict[str, jax.Array] = {}

        def record(name: str, value: jax.Array) -> jax.Array:
            seen[name] = value
            return value

        nnx.merge(graph, params)(windows, hook=record)
        return {name: seen[name] for name in _TAPS}

    return jax.jit(taps).lower(params, inputs), params


def _stage_modules(model: SpectraAASIST3) -> dict[str, tuple[Any, Callable[..., Any]]]:
    """Module of each stage and how to call it, by the names of `stage_flops`, and the network."""
    from flax import nnx

    encoder, aasist = model.encoder, model.aasist
    layers = nnx.List([encoder.layers, encoder.norm])
    residual = nnx.List([aasist.residual_encoder, aasist.attention_map])
    return {
        "feature extractor": (encoder.feature_extractor, _call),
        "feature projection": (encoder.feature_projection, _call),
        "positional convolution": (encoder.positional_convolution, _call),
        "transformer layers": (layers, _call_transformer),
        "bridge": (model.bridge, _call),
        "residual encoder and attention map": (residual, _call_residual),
        "graph back-end": (aasist, _call_graphs),
        "whole network": (model, _call),
    }


def _stage_inputs(
    model: SpectraAASIST3, inputs: jax.Array, values: dict[str, jax.Array]
) -> dict[str, tuple[jax.Array, ...]]:
    """What each stage is called with, from the values of the taps."""
    projected, bridged = values["ssl.feature_projection"], values["bridge"]
    return {
        "feature extractor": (inputs,),
        "feature projection": (values["ssl.feature_extractor"],),
        "positional convolution": (projected,),
        "transformer layers": (projected + values["ssl.pos_conv_embed"],),
        "bridge": (values["ssl.last_hidden_state"],),
        "residual encoder and attention map": (bridged + model.aasist.temporal_position[:, : bridged.shape[1]],),
        "graph back-end": (bridged, values["residual_encoder"], values["attention"]),
        "whole network": (inputs,),
    }


def _call(module: Any, x: jax.Array) -> jax.Array:
    return module(x)


def _call_transformer(parts: Any, x: jax.Array) -> jax.Array:
    layers, norm = parts
    for layer in layers:
        x = layer(x)
    return norm(x)


def _call_residual(parts: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    x = parts[0](x)
    return x, parts[1](x)


def _call_graphs(aasist: Any, x: jax.Array, residual_encoder: jax.Array, attention: jax.Array) -> jax.Array:
    # The values before the graphs are given, and cost nothing. They are not given through a tap, which would unroll the
    # branches that the network runs as one loop.
    aasist.residual_encoder = lambda _: residual_encoder
    aasist.attention_map = lambda _: attention
    return aasist(x)


def _lower(module: Any, function: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[Any, Any]:
    """The program (leaves, *inputs) -> output of a module, and its leaves."""
    import jax
    from flax import nnx

    graph, leaves = nnx.split(module)
    run = jax.jit(lambda leaves, *inputs: function(nnx.merge(graph, leaves), *inputs))
    return run.lower(leaves, *inputs), leaves


def scorer(network: Network, precision: str, batch: int, rounds: int) -> dict[str, Any]:
    """`Scorer.logits` over all local devices: seconds of each call, and how many devices there were."""
    import jax

    import spectra_jax

    inputs = windows(batch, network.config.num_samples)
    measured = spectra_jax.Scorer(network.native, precision=precision, batch_size=batch)
    return {"devices": jax.local_device_count(), "seconds": _seconds(lambda: measured.logits(inputs), rounds)}


def devices(network: Network) -> dict[str, Any]:
    """What JAX computes on."""
    del network
    import jax

    local = jax.local_devices()
    return {"platform": jax.default_backend(), "count": len(local), "kind": local[0].device_kind}


def scores(network: Network, model: str, precision: str, clips: list[str]) -> list[float | None]:
    """The scores of audio files; `model` is `demo`, or `network` for the measured one."""
    from pathlib import Path

    import spectra_jax
    from spectra_jax.data.trial import Trial

    source = network.native if model == "network" else model
    results = spectra_jax.Scorer(source, precision=precision, batch_size=4).score_trials(
        Trial(Path(clip).stem, Path(clip)) for clip in clips
    )
    return [result.score for result in results]


PROBES: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (peak, stages, operations, scorer, devices, scores)
}
