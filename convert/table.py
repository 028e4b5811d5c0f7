"""The name tables: the Flax weight of each PyTorch tensor, and the order of its axes, for each published detector.

A table has a row for each kind of module. `{...}` takes every index of a repeated part, and the resulting entry is
used if the configured network has such a weight, so that a table needs no conditions. Reading a file checks it from
both sides: every tensor of the file is used exactly once, and every weight of the network is set exactly once.

Where the names and shapes come from:

- `TABLE`, Spectra-AASIST3: the header of the published file.
- `AASIST_TABLE`, Spectra-AASIST: those of `TABLE` with linear layers in place of the KAN layers. The header of the
  published file was not available. A file with these names and shapes has the published number of bytes,
  1,264,151,840, and the network has the published number of parameters, 316,012,174.
- `ECAPA_TABLE`, Spectra-0: the code that is published with the weights, `model.py`. The header of the published file
  was not available. The network has the published number of parameters, 318,332,226.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from spectra_jax.convert import encoder
from spectra_jax.convert.encoder import ENCODER_TABLE
from spectra_jax.convert.entries import Entry, Parts, Row, entries_of_row, expand_rows
from spectra_jax.model.config import SpectraConfig

_W2V = "ssl_encoder.model"
_ST = "aasist.branch{branch_number}.HtrgGAT_layer_ST{st}"
_ST_FLAX = "aasist.branches.{branch}.st{st}"

# (PyTorch module, Flax module, kind)
_ENCODER_AND_BRIDGE: tuple[Row, ...] = (
    *((f"{_W2V}.{source}", f"encoder.{target}", kind) for source, target, kind in ENCODER_TABLE),
    ("bridge.mlp.0", "bridge.linear1", "linear"),
    ("bridge.mlp.3", "bridge.linear2", "linear"),
)


def _graph_rows(projection: str) -> tuple[Row, ...]:
    """The rows of the graph back-end, whose projections are layers of this kind."""
    return (
        ("aasist.pos_T", "aasist.temporal_position", "position"),
        ("aasist.pos_S", "aasist.spectral_position", "position"),
        ("aasist.enc.first_bn", "aasist.residual_encoder.input_norm", "batch_norm"),
        ("aasist.enc.enc.{block}.0.bn1", "aasist.residual_encoder.blocks.{block}.norm1", "batch_norm"),
        ("aasist.enc.enc.{block}.0.conv1", "aasist.residual_encoder.blocks.{block}.conv1", "conv2d"),
        ("aasist.enc.enc.{block}.0.bn2", "aasist.residual_encoder.blocks.{block}.norm2", "batch_norm"),
        ("aasist.enc.enc.{block}.0.conv2", "aasist.residual_encoder.blocks.{block}.conv2", "conv2d"),
        ("aasist.enc.enc.{block}.0.conv_downsample", "aasist.residual_encoder.blocks.{block}.downsample", "conv2d"),
        ("aasist.enc.first_bn1", "aasist.residual_encoder.output_norm", "batch_norm"),
        ("aasist.attention.0", "aasist.attention_map.conv1", "conv2d"),
        ("aasist.attention.2", "aasist.attention_map.norm", "batch_norm"),
        ("aasist.attention.3", "aasist.attention_map.conv2", "conv2d"),
        ("aasist.GAT_layer_{TYPE}.att_proj", "aasist.gat_{type}.pair_projection", projection),
        ("aasist.GAT_layer_{TYPE}.att_weight", "aasist.gat_{type}.pair_weight", "vector"),
        ("aasist.GAT_layer_{TYPE}.proj_with_att", "aasist.gat_{type}.attended_projection", projection),
        ("aasist.GAT_layer_{TYPE}.proj_without_att", "aasist.gat_{type}.node_projection", projection),
        ("aasist.GAT_layer_{TYPE}.bn", "aasist.gat_{type}.norm", "batch_norm"),
        ("aasist.pool_{TYPE}.proj", "aasist.pool_{type}.projection", projection),
        ("aasist.branch{branch_number}.master", "aasist.branches.{branch}.master", "position"),
        (f"{_ST}.proj_type1", f"{_ST_FLAX}.temporal_projection", projection),
        (f"{_ST}.proj_type2", f"{_ST_FLAX}.spectral_projection", projection),
        (f"{_ST}.att_proj", f"{_ST_FLAX}.pair_projection", projection),
        (f"{_ST}.att_projM", f"{_ST_FLAX}.master_pair_projection", projection),
        (f"{_ST}.att_weight11", f"{_ST_FLAX}.pair_weight_temporal", "vector"),
        (f"{_ST}.att_weight22", f"{_ST_FLAX}.pair_weight_spectral", "vector"),
        (f"{_ST}.att_weight12", f"{_ST_FLAX}.pair_weight_cross", "vector"),
        (f"{_ST}.att_weightM", f"{_ST_FLAX}.master_pair_weight", "vector"),
        (f"{_ST}.proj_with_att", f"{_ST_FLAX}.attended_projection", projection),
        (f"{_ST}.proj_without_att", f"{_ST_FLAX}.node_projection", projection),
        (f"{_ST}.proj_with_attM", f"{_ST_FLAX}.attended_master_projection", projection),
        (f"{_ST}.proj_without_attM", f"{_ST_FLAX}.master_projection", projection),
        (f"{_ST}.bn", f"{_ST_FLAX}.norm", "batch_norm"),
        (
            "aasist.branch{branch_number}.pool_h{TYPE}.proj",
            "aasist.branches.{branch}.pool_{type}.projection",
            projection,
        ),
        ("aasist.out_layer", "aasist.head", projection),
    )


TABLE: tuple[Row, ...] = (*_ENCODER_AND_BRIDGE, *_graph_rows("kan"))
AASIST_TABLE: tuple[Row, ...] = (*_ENCODER_AND_BRIDGE, *_graph_rows("linear"))

_BLOCK = "ecapa_tdnn.layer{block_number}"
_BLOCK_FLAX = "ecapa_tdnn.blocks.{ecapa_block}"

ECAPA_TABLE: tuple[Row, ...] = (
    *_ENCODER_AND_BRIDGE,
    ("ecapa_tdnn.conv1", "ecapa_tdnn.first.conv", "conv1d"),
    ("ecapa_tdnn.bn1", "ecapa_tdnn.first.norm", "batch_norm"),
    (f"{_BLOCK}.conv1", f"{_BLOCK_FLAX}.first.conv", "conv1d"),
    (f"{_BLOCK}.bn1", f"{_BLOCK_FLAX}.first.norm", "batch_norm"),
    (f"{_BLOCK}.convs.{{group}}", f"{_BLOCK_FLAX}.groups.{{group}}.conv", "conv1d"),
    (f"{_BLOCK}.bns.{{group}}", f"{_BLOCK_FLAX}.groups.{{group}}.norm", "batch_norm"),
    (f"{_BLOCK}.conv3", f"{_BLOCK_FLAX}.last.conv", "conv1d"),
    (f"{_BLOCK}.bn3", f"{_BLOCK_FLAX}.last.norm", "batch_norm"),
    (f"{_BLOCK}.se.se.1", f"{_BLOCK_FLAX}.squeeze_excitation.squeeze", "conv1d"),
    (f"{_BLOCK}.se.se.3", f"{_BLOCK_FLAX}.squeeze_excitation.excite", "conv1d"),
    ("ecapa_tdnn.layer{after_blocks}", "ecapa_tdnn.aggregation", "conv1d"),
    ("ecapa_tdnn.attention.0", "ecapa_tdnn.pooling.attention_in.conv", "conv1d"),
    ("ecapa_tdnn.attention.2", "ecapa_tdnn.pooling.attention_in.norm", "batch_norm"),
    ("ecapa_tdnn.attention.4", "ecapa_tdnn.pooling.attention_out", "conv1d"),
    ("ecapa_tdnn.bn5", "ecapa_tdnn.norm", "batch_norm"),
    ("ecapa_tdnn.fc6", "ecapa_tdnn.head", "linear"),
)

TABLES: Mapping[str, tuple[Row, ...]] = {"kan-aasist": TABLE, "aasist": AASIST_TABLE, "ecapa-tdnn": ECAPA_TABLE}
"""The table of each back-end that a published detector has."""

POSITIONAL = f"{_W2V}.{encoder.POSITIONAL}"
WEIGHT_NORM = (f"{_W2V}.{encoder.WEIGHT_NORM[0]}", f"{_W2V}.{encoder.WEIGHT_NORM[1]}")
WEIGHT_NORM_OLD = (f"{_W2V}.{encoder.WEIGHT_NORM_OLD[0]}", f"{_W2V}.{encoder.WEIGHT_NORM_OLD[1]}")
"""As in `spectra_jax.convert.encoder`, with the prefix of the detector."""


def expand(config: SpectraConfig, weights: Iterable[str]) -> list[Entry]:
    """The entries of the network's table: one for every tensor that sets one of `weights`.

    Raises:
      KeyError: no published detector has the configuration's back-end.
    """
    return expand_rows(TABLES[config.back_end], _parts(config), weights)


def expand_row(row: Row, config: SpectraConfig) -> Iterator[Entry]:
    """Every entry that a row of the table can have, whether or not the network has such a weight."""
    return entries_of_row(row, _parts(config))


def _parts(config: SpectraConfig) -> Parts:
    return {
        **encoder.encoder_parts(config.encoder),
        "{block}": [{"block": i} for i in range(len(config.residual_channels))],
        "{TYPE}": [{"type": name.lower(), "TYPE": name} for name in "ST"],
        "{branch_number}": [{"branch": i, "branch_number": i + 1} for i in range(4)],
        "{st}": [{"st": i} for i in (1, 2)],
        "{block_number}": [{"ecapa_block": i, "block_number": i + 1} for i in range(len(config.ecapa.dilations))],
        "{group}": [{"group": i} for i in range(config.ecapa.scale - 1)],
        "{after_blocks}": [{"after_blocks": len(config.ecapa.dilations) + 1}],
    }
