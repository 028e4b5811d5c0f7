"""What is measured of spectra-jax alone, each in a worker of its own: the machine's peak, stages, devices, scores."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.speed.flops import stage_flops
from benchmarks.speed.network import Network, windows


def _seconds(function: Callable[[], object], rounds: int) -> list[float]:
    """Of each call, after one that does not count."""
    function()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return seconds


def peak(network: Network, rounds: int = 30) -> dict[str, float]:
    """Operations a second of one large matrix product, the rate that everything else is a share of.

    The fastest of its runs: a peak is what the machine can do, and a neighbour that slowed the middle one would flatter
    every share.
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
        rates[name] = operations / min(_seconds(lambda x=x, product=product: product(x, x).block_until_ready(), rounds))
    return rates


def stages(network: Network, precision: str, batch: int, rounds: int) -> list[dict[str, Any]]:
    """Each stage compiled alone and timed on its true input, in turn with the others."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    import spectra_jax
    from spectra_jax.model.spectra import folded

    model = folded(spectra_jax.load(network.native, precision))
    samples = network.config.num_samples
    seen: dict[str, jax.Array] = {}

    def note(name: str, value: jax.Array) -> jax.Array:
        seen[name] = value
        return value

    heard = jnp.asarray(windows(batch, samples))
    graph, params = nnx.split(model)

    @jax.jit
    def taps(params: Any, windows: jax.Array) -> dict[str, jax.Array]:
        seen.clear()
        nnx.merge(graph, params)(windows, tap=note)
        return dict(seen)

    values = taps(params, heard)
    encoder, aasist = model.encoder, model.aasist

    def transformer(parts: Any, x: jax.Array) -> jax.Array:
        layers, norm = parts
        for layer in layers:
            x = layer(x)
        return norm(x)

    def residual(parts: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = parts[0](x)
        return x, parts[1](x)

    def graphs(aasist: Any, x: jax.Array, residual_encoder: jax.Array, attention: jax.Array) -> jax.Array:
        # What comes before is known, and costs nothing. Not through a tap: that writes out the branches, which the
        # whole network runs as one loop.
        aasist.residual_encoder = lambda _: residual_encoder
        aasist.attention_map = lambda _: attention
        return aasist(x)

    def call(module: Any, x: jax.Array) -> jax.Array:
        return module(x)

    projected = values["ssl.feature_projection"]
    bridged = values["bridge"]
    positioned = bridged + aasist.temporal_position[:, : bridged.shape[1]]
    parts: dict[str, tuple[Any, Callable[..., Any], tuple[jax.Array, ...]]] = {
        "feature extractor": (encoder.feature_extractor, call, (heard,)),
        "feature projection": (encoder.feature_projection, call, (values["ssl.feature_extractor"],)),
        "positional convolution": (encoder.positional_convolution, call, (projected,)),
        "transformer layers": (
            nnx.List([encoder.layers, encoder.norm]),
            transformer,
            (projected + values["ssl.pos_conv_embed"],),
        ),
        "bridge": (model.bridge, call, (values["ssl.last_hidden_state"],)),
        "residual encoder and attention map": (
            nnx.List([aasist.residual_encoder, aasist.attention_map]),
            residual,
            (positioned,),
        ),
        "graph back-end": (aasist, graphs, (bridged, values["residual_encoder"], values["attention"])),
        "whole network": (model, call, (heard,)),
    }
    ready: dict[str, Callable[[], Any]] = {}
    for name, (module, function, inputs) in parts.items():
        compiled, leaves = _compiled(module, function, inputs)
        ready[name] = functools.partial(compiled, leaves, *inputs)
        jax.block_until_ready(ready[name]())
    seconds: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(rounds):
        for name, run in ready.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - start)
    flops = stage_flops(network.config, samples)
    flops["whole network"] = sum(flops.values())
    return [{"stage": name, "seconds": seconds[name], "flops": batch * flops[name]} for name in parts]


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

    heard = windows(batch, network.config.num_samples)
    it = spectra_jax.Scorer(network.native, precision=precision, batch_size=batch)
    return {"devices": jax.local_device_count(), "seconds": _seconds(lambda: it.logits(heard), rounds)}


def devices(network: Network) -> dict[str, Any]:
    """What JAX computes on."""
    del network
    import jax

    local = jax.local_devices()
    return {"platform": jax.default_backend(), "count": len(local), "kind": local[0].device_kind}


def scores(network: Network, model: str, precision: str, clips: list[str]) -> list[float]:
    """The scores of audio files; `model` is `demo`, or `network` for the one that is measured."""
    from pathlib import Path

    import spectra_jax
    from spectra_jax.data.trial import Trial

    it = spectra_jax.Scorer(network.native if model == "network" else model, precision=precision, batch_size=4)
    return [result.score for result in it.score_trials([Trial(Path(clip).stem, Path(clip)) for clip in clips])]


PROBES: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (peak, stages, scorer, devices, scores)
}
