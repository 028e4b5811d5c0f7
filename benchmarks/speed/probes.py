"""Measurements of spectra-jax alone, each in a worker of its own: the machine's peak, stages, devices, scores."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.speed.flops import stage_flops
from benchmarks.speed.network import Network, windows

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


def peak(network: Network, rounds: int = 30) -> dict[str, float]:
    """Operations a second of one large matrix product, of which all other rates are given as a share.

    The fastest of its runs counts: with a median that another program slowed down, every share would be too high.
    """
    del network
    import jax
    import jax.numpy as jnp

    gpu = jax.default_backend() == "gpu"
    size = 8192 if gpu else 2048
    operations = 2 * size**3
    random = np.random.default_rng(0).standard_normal((size, size), np.float32)
    rates = {}
    if not gpu:
        rates["numpy float32"] = operations / min(_seconds(lambda: random @ random, rounds))
    kinds = {"float32": (jnp.float32, "highest"), "bfloat16": (jnp.bfloat16, "default")}
    if gpu:
        kinds["tf32"] = (jnp.float32, "high")
    for name, (dtype, precision) in kinds.items():
        x = jnp.asarray(random, dtype)
        product = jax.jit(functools.partial(jnp.matmul, precision=precision, preferred_element_type=jnp.float32))
        rates[name] = operations / min(_seconds(functools.partial(product, x, x), rounds))
    return rates


# A module, how to call it, and its inputs.
Stage = tuple[Any, Callable[..., Any], tuple["jax.Array", ...]]


def stages(network: Network, precision: str, batch: int, rounds: int) -> list[dict[str, Any]]:
    """Each stage compiled alone and timed on its true input, in turn with the others."""
    import jax
    import jax.numpy as jnp

    import spectra_jax
    from spectra_jax.model.fold import fold_for_inference

    model = fold_for_inference(spectra_jax.load(network.native, precision))
    samples = network.config.num_samples
    inputs = jnp.asarray(windows(batch, samples))
    runs: dict[str, Callable[[], Any]] = {}
    for name, (module, function, arguments) in _stages_of(model, inputs, _intermediate_values(model, inputs)).items():
        compiled, leaves = _compiled(module, function, arguments)
        runs[name] = functools.partial(compiled, leaves, *arguments)
        jax.block_until_ready(runs[name]())
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - start)
    flops = stage_flops(network.config, samples)
    flops["whole network"] = sum(flops.values())
    return [{"stage": name, "seconds": seconds[name], "flops": batch * flops[name]} for name in runs]


def _intermediate_values(model: SpectraAASIST3, inputs: jax.Array) -> dict[str, jax.Array]:
    """What each tap of the network sees for these windows."""
    import jax
    from flax import nnx

    seen: dict[str, jax.Array] = {}

    def record(name: str, value: jax.Array) -> jax.Array:
        seen[name] = value
        return value

    graph, params = nnx.split(model)

    @jax.jit
    def taps(params: Any, windows: jax.Array) -> dict[str, jax.Array]:
        seen.clear()
        nnx.merge(graph, params)(windows, hook=record)
        return dict(seen)

    return taps(params, inputs)


def _stages_of(model: SpectraAASIST3, inputs: jax.Array, values: dict[str, jax.Array]) -> dict[str, Stage]:
    """The stages of the network, and the network, by the names of `stage_flops`."""
    from flax import nnx

    encoder, aasist = model.encoder, model.aasist
    projected, bridged = values["ssl.feature_projection"], values["bridge"]
    positioned = bridged + aasist.temporal_position[:, : bridged.shape[1]]
    layers = nnx.List([encoder.layers, encoder.norm])
    residual = nnx.List([aasist.residual_encoder, aasist.attention_map])
    return {
        "feature extractor": (encoder.feature_extractor, _call, (inputs,)),
        "feature projection": (encoder.feature_projection, _call, (values["ssl.feature_extractor"],)),
        "positional convolution": (encoder.positional_convolution, _call, (projected,)),
        "transformer layers": (layers, _call_transformer, (projected + values["ssl.pos_conv_embed"],)),
        "bridge": (model.bridge, _call, (values["ssl.last_hidden_state"],)),
        "residual encoder and attention map": (residual, _call_residual, (positioned,)),
        "graph back-end": (aasist, _call_graphs, (bridged, values["residual_encoder"], values["attention"])),
        "whole network": (model, _call, (inputs,)),
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


def _compiled(module: Any, function: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[Any, Any]:
    import jax
    from flax import nnx

    graph, leaves = nnx.split(module)
    run = jax.jit(lambda leaves, *inputs: function(nnx.merge(graph, leaves), *inputs))
    return run.lower(leaves, *inputs).compile(), leaves


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
    function.__name__: function for function in (peak, stages, scorer, devices, scores)
}
