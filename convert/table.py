"""The name table: which PyTorch tensor is which Flax leaf, and how its axes turn.

One row a module. `{...}` runs over the network's repeated parts, and a row is kept where the configured network has
such a leaf, so the table needs no conditions of its own. What it claims is checked from both ends when a file is read:
every tensor of the file is used exactly once, and every leaf of the network is filled exactly once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from spectra_jax.model.config import SpectraConfig

# kind -> (PyTorch tensor, Flax leaf, axes of the PyTorch tensor in Flax's order)
KINDS: dict[str, tuple[tuple[str, str, tuple[int, ...]], ...]] = {
    "linear": (("weight", "kernel", (1, 0)), ("bias", "bias", (0,))),
    "conv1d": (("weight", "kernel", (2, 1, 0)), ("bias", "bias", (0,))),
    "conv2d": (("weight", "kernel", (2, 3, 1, 0)), ("bias", "bias", (0,))),
    "layer_norm": (("weight", "scale", (0,)), ("bias", "bias", (0,))),
    "batch_norm": (
        ("weight", "scale", (0,)),
        ("bias", "bias", (0,)),
        ("running_mean", "mean", (0,)),
        ("running_var", "var", (0,)),
        ("num_batches_tracked", "num_batches", ()),
    ),
    "kan": (
        ("base_activation.weight", "slope", (0,)),
        ("base_weight", "base_weight", (1, 0)),
        ("spline_weight", "spline_weight", (1, 2, 0)),
        ("spline_scaler", "spline_scaler", (1, 0)),
    ),
    "vector": (("", "", (0, 1)),),
    "position": (("", "", (0, 1, 2)),),
}

_W2V = "ssl_encoder.model"
_ST = "aasist.branch{branch_number}.HtrgGAT_layer_ST{st}"
_ST_FLAX = "aasist.branches.{branch}.st{st}"

# (PyTorch module, Flax module, kind)
TABLE: tuple[tuple[str, str, str], ...] = (
    (f"{_W2V}.feature_extractor.conv_layers.{{conv}}.conv", "encoder.feature_extractor.layers.{conv}.conv", "conv1d"),
    (
        f"{_W2V}.feature_extractor.conv_layers.{{conv}}.layer_norm",
        "encoder.feature_extractor.layers.{conv}.norm",
        "layer_norm",
    ),
    (f"{_W2V}.feature_projection.layer_norm", "encoder.feature_projection.norm", "layer_norm"),
    (f"{_W2V}.feature_projection.projection", "encoder.feature_projection.linear", "linear"),
    # Its weight is the product of a weight-normed pair: see WEIGHT_NORM.
    (f"{_W2V}.encoder.pos_conv_embed.conv", "encoder.positional_convolution.conv", "conv1d"),
    (f"{_W2V}.encoder.layers.{{layer}}.layer_norm", "encoder.layers.{layer}.attention_norm", "layer_norm"),
    (f"{_W2V}.encoder.layers.{{layer}}.attention.q_proj", "encoder.layers.{layer}.attention.query", "linear"),
    (f"{_W2V}.encoder.layers.{{layer}}.attention.k_proj", "encoder.layers.{layer}.attention.key", "linear"),
    (f"{_W2V}.encoder.layers.{{layer}}.attention.v_proj", "encoder.layers.{layer}.attention.value", "linear"),
    (f"{_W2V}.encoder.layers.{{layer}}.attention.out_proj", "encoder.layers.{layer}.attention.out", "linear"),
    (f"{_W2V}.encoder.layers.{{layer}}.final_layer_norm", "encoder.layers.{layer}.feed_forward_norm", "layer_norm"),
    (
        f"{_W2V}.encoder.layers.{{layer}}.feed_forward.intermediate_dense",
        "encoder.layers.{layer}.feed_forward_in",
        "linear",
    ),
    (f"{_W2V}.encoder.layers.{{layer}}.feed_forward.output_dense", "encoder.layers.{layer}.feed_forward_out", "linear"),
    (f"{_W2V}.encoder.layer_norm", "encoder.norm", "layer_norm"),
    ("bridge.mlp.0", "bridge.linear1", "linear"),
    ("bridge.mlp.3", "bridge.linear2", "linear"),
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
    ("aasist.GAT_layer_{TYPE}.att_proj", "aasist.gat_{type}.pair_projection", "kan"),
    ("aasist.GAT_layer_{TYPE}.att_weight", "aasist.gat_{type}.pair_weight", "vector"),
    ("aasist.GAT_layer_{TYPE}.proj_with_att", "aasist.gat_{type}.attended_projection", "kan"),
    ("aasist.GAT_layer_{TYPE}.proj_without_att", "aasist.gat_{type}.node_projection", "kan"),
    ("aasist.GAT_layer_{TYPE}.bn", "aasist.gat_{type}.norm", "batch_norm"),
    ("aasist.pool_{TYPE}.proj", "aasist.pool_{type}.projection", "kan"),
    ("aasist.branch{branch_number}.master", "aasist.branches.{branch}.master", "position"),
    (f"{_ST}.proj_type1", f"{_ST_FLAX}.temporal_projection", "kan"),
    (f"{_ST}.proj_type2", f"{_ST_FLAX}.spectral_projection", "kan"),
    (f"{_ST}.att_proj", f"{_ST_FLAX}.pair_projection", "kan"),
    (f"{_ST}.att_projM", f"{_ST_FLAX}.master_pair_projection", "kan"),
    (f"{_ST}.att_weight11", f"{_ST_FLAX}.pair_weight_temporal", "vector"),
    (f"{_ST}.att_weight22", f"{_ST_FLAX}.pair_weight_spectral", "vector"),
    (f"{_ST}.att_weight12", f"{_ST_FLAX}.pair_weight_cross", "vector"),
    (f"{_ST}.att_weightM", f"{_ST_FLAX}.master_pair_weight", "vector"),
    (f"{_ST}.proj_with_att", f"{_ST_FLAX}.attended_projection", "kan"),
    (f"{_ST}.proj_without_att", f"{_ST_FLAX}.node_projection", "kan"),
    (f"{_ST}.proj_with_attM", f"{_ST_FLAX}.attended_master_projection", "kan"),
    (f"{_ST}.proj_without_attM", f"{_ST_FLAX}.master_projection", "kan"),
    (f"{_ST}.bn", f"{_ST_FLAX}.norm", "batch_norm"),
    (
        "aasist.branch{branch_number}.pool_h{TYPE}.proj",
        "aasist.branches.{branch}.pool_{type}.projection",
        "kan",
    ),
    ("aasist.out_layer", "aasist.head", "kan"),
)

POSITIONAL = f"{_W2V}.encoder.pos_conv_embed.conv"
WEIGHT_NORM = (f"{POSITIONAL}.parametrizations.weight.original0", f"{POSITIONAL}.parametrizations.weight.original1")
"""Magnitude g (1, 1, taps) and direction v (out, in / groups, taps), whose product is the kernel `w = g v / ||v||`."""
WEIGHT_NORM_OLD = (f"{POSITIONAL}.weight_g", f"{POSITIONAL}.weight_v")
"""The same pair as `torch.nn.utils.weight_norm` names it."""


@dataclass(frozen=True)
class Entry:
    """One PyTorch tensor, the Flax leaf it fills, and the order in which its axes get there."""

    source: str
    target: str
    axes: tuple[int, ...]

    @property
    def back(self) -> tuple[int, ...]:
        """The axes of the Flax leaf in PyTorch's order."""
        return tuple(self.axes.index(axis) for axis in range(len(self.axes)))


def expand(config: SpectraConfig, leaves: Iterable[str]) -> list[Entry]:
    """The table written out for one network: an entry for every tensor that fills one of `leaves`."""
    leaves = set(leaves)
    return [entry for row in TABLE for entry in _expand_row(row, config) if entry.target in leaves]


def _expand_row(row: tuple[str, str, str], config: SpectraConfig) -> Iterator[Entry]:
    source, target, kind = row
    parts: dict[str, list[dict[str, object]]] = {
        "{conv}": [{"conv": i} for i in range(len(config.encoder.conv_dim))],
        "{layer}": [{"layer": i} for i in range(config.encoder.num_hidden_layers)],
        "{block}": [{"block": i} for i in range(len(config.residual_channels))],
        "{type}": [{"type": name.lower(), "TYPE": name} for name in "ST"],
        "{branch}": [{"branch": i, "branch_number": i + 1} for i in range(4)],
        "{st}": [{"st": i} for i in (1, 2)],
    }
    for chosen in product(*(values for part, values in parts.items() if part in target)):
        names = {key: value for values in chosen for key, value in values.items()}
        for tensor, leaf, axes in KINDS[kind]:
            yield Entry(
                ".".join(filter(None, [source.format(**names), tensor])),
                ".".join(filter(None, [target.format(**names), leaf])),
                axes,
            )
