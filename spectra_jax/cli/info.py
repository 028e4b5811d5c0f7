"""`spectra-jax info`: a model's architecture, size and provenance, and this machine's devices."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

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
    spectral, temporal = config.num_spectral_nodes, encoder.num_frames(config.num_samples) // 3
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
        "back-end": f"KAN-AASIST: bridge {config.bridge_dim}, {spectral} spectral and {temporal} temporal nodes, "
        f"graph widths {config.gat_dims[0]} and {config.gat_dims[1]}, degree-{config.kan.spline_order} splines on "
        f"{config.kan.grid_size} intervals",
        "input": f"3 to {config.max_frames} frames, up to {encoder.num_samples(config.max_frames + 1) - 1:,} samples",
        "precision": ", ".join(PRECISIONS),
        "devices": ", ".join(f"{device.platform}:{device.id} ({device.device_kind})" for device in local_devices()),
        **{key.replace("_", " "): value for key, value in sorted(checkpoint.provenance.items())},
    }
    for key, value in rows.items():
        table.add_row(Text(shortened(key)), Text(shortened(value)))
    stdout().print(table)
