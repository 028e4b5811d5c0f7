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
    from spectra_jax.model.config import EncoderConfig


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
    spectral, temporal = config.num_spectral_nodes, encoder.num_frames(config.num_samples) // 3
    return {
        "model": f"{model} ({open_tensors(checkpoint.weights).size:,} bytes on disk)",
        "parameters": f"{count_parameters(config):,}",
        "window": f"{config.num_samples:,} samples, {config.num_samples / config.sample_rate:.2f} s at "
        f"{config.sample_rate:,} Hz; pre-emphasis {config.preemphasis}",
        "encoder": f"XLS-R: {_sizes(encoder)}",
        "back-end": f"KAN-AASIST: bridge {config.bridge_dim}, {spectral} spectral and {temporal} temporal nodes, "
        f"graph widths {config.gat_dims[0]} and {config.gat_dims[1]}, degree-{config.kan.spline_order} splines on "
        f"{config.kan.grid_size} intervals",
        "input": f"3 to {config.max_frames} frames, up to {encoder.num_samples(config.max_frames + 1) - 1:,} samples",
        **_machine(),
        **{key.replace("_", " "): value for key, value in sorted(checkpoint.provenance.items())},
    }


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
