"""`spectra-jax info`: a model's architecture, size and provenance, and this machine's devices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from spectra_jax.cli.options import Debug
from spectra_jax.cli.output import stdout
from spectra_jax.messages import shortened

if TYPE_CHECKING:
    from spectra_jax.checkpoints.encoder_alone import EncoderSummary
    from spectra_jax.model.config import EncoderConfig, SpectraConfig


def info(
    model: Annotated[str, typer.Argument(metavar="M", help="Any model of `score --model`, or an encoder.")],
    debug: Debug = False,
) -> None:
    """Show what a model is, and the devices of this machine.

    Its architecture, size and provenance; no weights are read.
    """
    from spectra_jax.checkpoints.encoder_alone import find_encoder
    from spectra_jax.checkpoints.resolve import DEMO
    from spectra_jax.hub import PUBLISHED

    encoder = None if model in (DEMO, PUBLISHED) else find_encoder(model)
    rows = _detector(model) if encoder is None else _encoder(encoder)
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    for key, value in rows.items():
        table.add_row(Text(shortened(key)), Text(shortened(value)))
    stdout().print(table)


def _detector(model: str) -> dict[str, str]:
    """The facts about a complete detector."""
    from spectra_jax.checkpoints.resolve import open_checkpoint
    from spectra_jax.files.tensor_file import open_tensors
    from spectra_jax.model.spectra import count_parameters

    checkpoint = open_checkpoint(model)
    config, encoder = checkpoint.config, checkpoint.config.encoder
    return {
        "model": f"{model} ({open_tensors(checkpoint.weights).size:,} bytes on disk)",
        "detector": _describe_detector(config),
        "parameters": f"{count_parameters(config):,}",
        "window": f"{config.num_samples:,} samples, {config.num_samples / config.sample_rate:.2f} s at "
        f"{config.sample_rate:,} Hz; pre-emphasis {config.preemphasis}",
        "encoder": f"{_name(encoder)}: {_sizes(encoder)}",
        "back-end": _describe_back_end(config),
        "input": f"3 to {config.max_frames} frames, up to {encoder.num_samples(config.max_frames + 1) - 1:,} samples",
        **_machine(),
        **{key.replace("_", " "): value for key, value in sorted(checkpoint.provenance.items())},
    }


def _describe_detector(config: SpectraConfig) -> str:
    """The published detector that a configuration describes."""
    from spectra_jax.checkpoints.family import find_detector

    detector = find_detector(config)
    if detector is None:
        return "none of the published ones"
    return f"{detector.name}, in {'the published' if config == detector.config else 'other'} sizes"


def _describe_back_end(config: SpectraConfig) -> str:
    """What follows the encoder: its kind and sizes."""
    head = "" if config.head == "logits" else ", scores are cosines"
    if config.back_end == "ecapa-tdnn":
        sizes = config.ecapa
        return (
            f"ECAPA-TDNN: bridge {config.bridge_dim}, {len(sizes.dilations)} SE-Res2Blocks of {sizes.channels} "
            f"channels in {sizes.scale} groups, {sizes.aggregation_channels:,} aggregated{head}"
        )
    if config.back_end == "pool+linear":
        return f"mean and standard deviation over frames, linear layer: bridge {config.bridge_dim}{head}"
    spectral, temporal = config.num_spectral_nodes, config.encoder.num_frames(config.num_samples) // 3
    graph = (
        f"bridge {config.bridge_dim}, {spectral} spectral and {temporal} temporal nodes, graph widths "
        f"{config.gat_dims[0]} and {config.gat_dims[1]}"
    )
    if config.back_end == "aasist":
        return f"AASIST: {graph}{head}"
    splines = f"degree-{config.kan.spline_order} splines on {config.kan.grid_size} intervals"
    return f"KAN-AASIST: {graph}, {splines}{head}"


def _encoder(summary: EncoderSummary) -> dict[str, str]:
    """The facts about a speech encoder alone, from its configuration."""
    from spectra_jax.checkpoints.encoder_alone import SAMPLE_RATE

    facts = {"model": f"{summary.name} (a speech encoder alone)", "architecture": summary.kind}
    if (config := summary.config) is None:
        return {**facts, "cannot be loaded": str(summary.problem), **_machine()}
    hop = math.prod(config.conv_stride)
    norm = "before" if config.do_stable_layer_norm else "after"
    return {
        **facts,
        "parameters": f"{summary.num_parameters:,}",
        "dtype": summary.dtype or "not stated by the configuration",
        "encoder": f"{_sizes(config)}; layer norm {norm} attention and feed-forward, {config.feat_extract_norm} norm "
        "in the convolutions",
        "frames": f"{SAMPLE_RATE / hop:g} per second at {SAMPLE_RATE:,} Hz; the first needs "
        f"{config.num_samples(1):,} samples",
        "use": f"spectra_jax.encoders.from_pretrained({summary.name!r}) in Python, or spectra-jax train --encoder "
        f"{summary.name}",
        **_machine(),
    }


def _name(encoder: EncoderConfig) -> str:
    """The name of an encoder's architecture. XLS-R is wav2vec 2.0 with layer norms before attention."""
    if encoder.model_type == "wav2vec2":
        return "XLS-R" if encoder.do_stable_layer_norm else "wav2vec 2.0"
    return {"hubert": "HuBERT", "wavlm": "WavLM"}[encoder.model_type]


def _sizes(encoder: EncoderConfig) -> str:
    return (
        f"{len(encoder.conv_dim)} convolutions, {encoder.num_hidden_layers} layers, {encoder.hidden_size} wide, "
        f"{encoder.num_attention_heads} heads, feed-forward {encoder.intermediate_size}"
    )


def _machine() -> dict[str, str]:
    """The precisions and the devices of this machine."""
    from spectra_jax.devices import local_devices
    from spectra_jax.model.precision import PRECISIONS

    devices = ", ".join(f"{device.platform}:{device.id} ({device.device_kind})" for device in local_devices())
    return {"precision": ", ".join(PRECISIONS), "devices": devices}
