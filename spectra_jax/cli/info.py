"""`spectra-jax info`: a model's architecture, size and provenance, and this machine's devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from spectra_jax.model.config import SpectraConfig

from spectra_jax.cli.options import Debug
from spectra_jax.cli.output import stdout


def info(
    model: Annotated[str, typer.Argument(metavar="M", help="Any model that `score --model` takes.")],
    debug: Debug = False,
) -> None:
    """Show what a model is, and the devices of this machine.

    Its architecture, size and provenance; no weights are read.
    """
    from spectra_jax.checkpoints.resolve import open_checkpoint
    from spectra_jax.devices import local_devices
    from spectra_jax.files.tensor_file import open_tensors
    from spectra_jax.messages import shortened
    from spectra_jax.model.precision import PRECISIONS
    from spectra_jax.model.spectra import count_parameters

    checkpoint = open_checkpoint(model)
    config, encoder = checkpoint.config, checkpoint.config.encoder
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    rows = {
        "model": f"{model} ({open_tensors(checkpoint.weights).size:,} bytes on disk)",
        "parameters": f"{count_parameters(config):,}",
        "window": f"{config.num_samples:,} samples, {config.num_samples / config.sample_rate:.2f} s at "
        f"{config.sample_rate:,} Hz; pre-emphasis {config.preemphasis}",
        "encoder": f"XLS-R: {len(encoder.conv_dim)} convolutions, {encoder.num_hidden_layers} layers, "
        f"{encoder.hidden_size} wide, {encoder.num_attention_heads} heads, feed-forward {encoder.intermediate_size}",
        "back-end": _describe_back_end(config),
        "input": f"3 to {config.max_frames} frames, up to {encoder.num_samples(config.max_frames + 1) - 1:,} samples",
        "precision": ", ".join(PRECISIONS),
        "devices": ", ".join(f"{device.platform}:{device.id} ({device.device_kind})" for device in local_devices()),
        **{key.replace("_", " "): value for key, value in sorted(checkpoint.provenance.items())},
    }
    for key, value in rows.items():
        table.add_row(Text(shortened(key)), Text(shortened(value)))
    stdout().print(table)


def _describe_back_end(config: SpectraConfig) -> str:
    """What follows the encoder: its kind and sizes."""
    head = "" if config.head == "logits" else ", scores are cosines"
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
