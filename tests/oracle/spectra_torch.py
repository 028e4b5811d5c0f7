"""The complete network in plain PyTorch: the oracle for the JAX network.

It is written for reading and for exactness, not for speed. Parameter names are those of the published checkpoint, so
its file, or any file in that naming, loads strictly. The encoder is the one of `transformers`; everything behind it
is spelled out here. All of it works in float32 and in float64.

Axis letters used below: b windows, T frames, F bridge features, R spectral rows (F // 3), C time columns (T // 3),
n nodes, d features of a node, k nodes kept by a pool.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Wav2Vec2Config, Wav2Vec2Model

PUBLISHED_CONFIG = Path(__file__).parents[1] / "golden" / "full" / "config.json"

# The sizes of Spectra-0's back-end.
ECAPA = {
    "channels": 128,
    "kernel_size": 3,
    "dilations": [2, 3, 4, 5],
    "scale": 8,
    "squeeze_channels": 128,
    "aggregation_channels": 1536,
    "attention_channels": 256,
}

BRANCHES = ("branch1", "branch2", "branch3", "branch4")

# A KAN layer works through this many rows at a time: the bases of all pairs of nodes of a batch at once take a gigabyte
# and several times as long.
ROWS = 512

# The older names of the two parts of the weight-normed positional convolution, and what PyTorch calls them today.
WEIGHT_NORM_NAMES = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}


def complete_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with the published values of omitted fields, also inside `encoder`, `kan` and `ecapa`."""
    complete = {"back_end": "kan-aasist", "ecapa": ECAPA, **json.loads(PUBLISHED_CONFIG.read_text())}
    for key, value in config.items():
        complete[key] = {**complete[key], **value} if isinstance(value, Mapping) else value
    return complete


def cox_de_boor(x: Tensor, knots: Tensor, order: int) -> Tensor:
    """Values of all B-spline bases of degree `order`, by the Cox-de Boor recursion.

    x: (..., d). knots: (d, m), each row ascending without repeats. Returns (..., d, m - 1 - order). The intervals
    are half-open, so a value outside [first knot, last knot) gives zeros.
    """
    x = x.unsqueeze(-1)
    bases = ((x >= knots[:, :-1]) & (x < knots[:, 1:])).to(x.dtype)  # degree 0: (..., d, m - 1)
    for degree in range(1, order + 1):
        first, last = knots[:, : -(degree + 1)], knots[:, degree + 1 :]
        rising = (x - first) / (knots[:, degree:-1] - first)
        falling = (last - x) / (last - knots[:, 1:-degree])
        bases = rising * bases[..., :-1] + falling * bases[..., 1:]
    return bases


class KANLinear(nn.Module):
    """`base_weight @ PReLU(x)` plus one scaled spline for every pair of an input and an output feature.

    (..., inputs) -> (..., outputs). `kan` holds `grid_size`, `spline_order` and `grid_range`.
    """

    grid: Tensor

    def __init__(self, inputs: int, outputs: int, kan: Mapping[str, Any]) -> None:
        super().__init__()
        size, self.order = kan["grid_size"], kan["spline_order"]
        low, high = kan["grid_range"]
        # float32 throughout: these are the very knots that the checkpoint stores.
        knots = torch.arange(-self.order, size + self.order + 1, dtype=torch.float32) * ((high - low) / size) + low
        self.register_buffer("grid", knots.expand(inputs, -1).clone())
        self.base_weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.spline_weight = nn.Parameter(torch.randn(outputs, inputs, size + self.order) * 0.1)
        self.spline_scaler = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.base_activation = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        splines = (self.spline_weight * self.spline_scaler.unsqueeze(-1)).flatten(1)  # (outputs, inputs * bases)
        rows = []
        for row in x.flatten(0, -2).split(ROWS):
            bases = cox_de_boor(row, self.grid, self.order).flatten(-2)  # (rows, inputs * bases)
            base = functional.linear(self.base_activation(row), self.base_weight)
            rows.append(base + functional.linear(bases, splines))
        return torch.cat(rows).unflatten(0, x.shape[:-1])


def projection(inputs: int, outputs: int, kan: Mapping[str, Any] | None) -> nn.Module:
    """A layer of the graph back-end: a KAN layer; without `kan` a linear layer, as in Spectra-AASIST."""
    return nn.Linear(inputs, outputs) if kan is None else KANLinear(inputs, outputs, kan)


class ResidualBlock(nn.Module):
    """Pre-activation residual block, (b, inputs, R, C) -> (b, outputs, R, C)."""

    def __init__(self, inputs: int, outputs: int, first: bool) -> None:
        super().__init__()
        if not first:  # the first block's input has just been normalised and activated
            self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, (2, 3), padding=(1, 1))  # R -> R + 1 rows ...
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, (2, 3), padding=(0, 1))  # ... and back to R
        if inputs != outputs:
            self.conv_downsample = nn.Conv2d(inputs, outputs, (1, 3), padding=(0, 1))
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.first else functional.selu(self.bn1(x))
        y = self.conv2(functional.selu(self.bn2(self.conv1(y))))
        return y + (self.conv_downsample(x) if hasattr(self, "conv_downsample") else x)


class ResidualEncoder(nn.Module):
    """The bridge's features seen as an image: (b, 1, F, T) -> (b, channels, R, C)."""

    def __init__(self, channels: list[list[int]]) -> None:
        super().__init__()
        self.first_bn = nn.BatchNorm2d(channels[0][0])
        blocks = [ResidualBlock(i, o, first=k == 0) for k, (i, o) in enumerate(channels)]
        self.enc = nn.Sequential(*(nn.Sequential(block) for block in blocks))
        self.first_bn1 = nn.BatchNorm2d(channels[-1][1])

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(x.abs(), kernel_size=3)  # (b, 1, R, C)
        x = functional.selu(self.first_bn(x))
        return functional.selu(self.first_bn1(self.enc(x)))


def pairwise_products(x: Tensor) -> Tensor:
    """x_i * x_j of every pair of nodes, (b, n, d) -> (b, n, n, d)."""
    return x.unsqueeze(2) * x.unsqueeze(1)


def normalise_features(bn: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """Batch norm of every feature over windows and nodes together, (b, n, d) -> (b, n, d)."""
    return bn(x.flatten(0, 1)).view_as(x)


class GraphAttention(nn.Module):
    """Attention among the nodes of one type, (b, n, inputs) -> (b, n, outputs)."""

    def __init__(self, inputs: int, outputs: int, temperature: float, kan: Mapping[str, Any] | None) -> None:
        super().__init__()
        self.att_proj = projection(inputs, outputs, kan)
        self.att_weight = nn.Parameter(torch.randn(outputs, 1) / outputs**0.5)
        self.proj_with_att = projection(inputs, outputs, kan)
        self.proj_without_att = projection(inputs, outputs, kan)
        self.bn = nn.BatchNorm1d(outputs)
        self.input_drop = nn.Dropout(0.2)
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        x = self.input_drop(x)
        logits = torch.tanh(self.att_proj(pairwise_products(x))) @ self.att_weight  # (b, n, n, 1)
        att = torch.softmax(logits / self.temperature, dim=2).squeeze(-1)  # rows sum to one
        y = self.proj_with_att(att @ x) + self.proj_without_att(x)
        return functional.selu(normalise_features(self.bn, y))


class HeterogeneousAttention(nn.Module):
    """Attention among temporal and spectral nodes together, and an update of the master token.

    ((b, n_t, inputs), (b, n_s, inputs), (b or 1, 1, inputs)) -> the same three with `outputs` features.
    """

    def __init__(self, inputs: int, outputs: int, temperature: float, kan: Mapping[str, Any] | None) -> None:
        super().__init__()
        self.proj_type1 = projection(inputs, inputs, kan)  # temporal
        self.proj_type2 = projection(inputs, inputs, kan)  # spectral
        self.att_proj = projection(inputs, outputs, kan)
        self.att_projM = projection(inputs, outputs, kan)
        self.att_weight11 = nn.Parameter(torch.randn(outputs, 1) / outputs**0.5)  # T-T
        self.att_weight22 = nn.Parameter(torch.randn(outputs, 1) / outputs**0.5)  # S-S
        self.att_weight12 = nn.Parameter(torch.randn(outputs, 1) / outputs**0.5)  # both cross blocks
        self.att_weightM = nn.Parameter(torch.randn(outputs, 1) / outputs**0.5)  # master
        self.proj_with_att = projection(inputs, outputs, kan)
        self.proj_without_att = projection(inputs, outputs, kan)
        self.proj_with_attM = projection(inputs, outputs, kan)
        self.proj_without_attM = projection(inputs, outputs, kan)
        self.bn = nn.BatchNorm1d(outputs)
        self.input_drop = nn.Dropout(0.2)
        self.temperature = temperature

    def attention(self, x: Tensor, temporal: int) -> Tensor:
        """(b, n, inputs), of which the first `temporal` nodes are temporal -> (b, n, n), rows sum to one."""
        pairs = torch.tanh(self.att_proj(pairwise_products(x)))  # (b, n, n, outputs)
        to_t, to_s = pairs[:, :, :temporal], pairs[:, :, temporal:]
        t_rows = torch.cat([to_t[:, :temporal] @ self.att_weight11, to_s[:, :temporal] @ self.att_weight12], dim=2)
        s_rows = torch.cat([to_t[:, temporal:] @ self.att_weight12, to_s[:, temporal:] @ self.att_weight22], dim=2)
        logits = torch.cat([t_rows, s_rows], dim=1)  # (b, n, n, 1)
        return torch.softmax(logits / self.temperature, dim=2).squeeze(-1)

    def update_master(self, x: Tensor, master: Tensor) -> Tensor:
        """(b, n, inputs) and (b or 1, 1, inputs) -> (b, 1, outputs)."""
        logits = torch.tanh(self.att_projM(x * master)) @ self.att_weightM  # (b, n, 1)
        att = torch.softmax(logits / self.temperature, dim=1).transpose(1, 2)
        return self.proj_with_attM(att @ x) + self.proj_without_attM(master)

    def forward(self, t: Tensor, s: Tensor, master: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        temporal = t.shape[1]
        x = self.input_drop(torch.cat([self.proj_type1(t), self.proj_type2(s)], dim=1))
        master = self.update_master(x, master)  # from the nodes before their own projection
        y = self.proj_with_att(self.attention(x, temporal) @ x) + self.proj_without_att(x)
        y = normalise_features(self.bn, y)
        return y[:, :temporal], y[:, temporal:], master


class GraphPool(nn.Module):
    """Keep the share `ratio` of the nodes with the highest scores, (b, n, d) -> (b, k, d), best first."""

    def __init__(self, features: int, ratio: float, kan: Mapping[str, Any] | None) -> None:
        super().__init__()
        self.proj = projection(features, 1, kan)
        self.drop = nn.Dropout(0.3)
        self.ratio = ratio

    def kept(self, nodes: int) -> int:
        """How many of `nodes` nodes stay."""
        return max(int(nodes * self.ratio), 1)

    def forward(self, h: Tensor) -> Tensor:
        scores = torch.sigmoid(self.proj(self.drop(h)))  # (b, n, 1)
        # A stable sort, unlike topk, puts the lower node first when two scores are equal.
        order = scores.argsort(dim=1, descending=True, stable=True)[:, : self.kept(h.shape[1])]
        return (h * scores).gather(1, order.expand(-1, -1, h.shape[2]))


class Branch(nn.Module):
    """Two heterogeneous layers with pools between them, and a learned master token.

    (b, n_t, wide) and (b, n_s, wide) -> (b, k_t, narrow), (b, k_s, narrow), (b, 1, narrow).
    """

    def __init__(self, wide: int, narrow: int, ratio: float, temperature: float, kan: Mapping[str, Any] | None) -> None:
        super().__init__()
        self.master = nn.Parameter(torch.randn(1, 1, wide))
        self.HtrgGAT_layer_ST1 = HeterogeneousAttention(wide, narrow, temperature, kan)
        self.HtrgGAT_layer_ST2 = HeterogeneousAttention(narrow, narrow, temperature, kan)
        self.pool_hS = GraphPool(narrow, ratio, kan)
        self.pool_hT = GraphPool(narrow, ratio, kan)
        self.drop_way = nn.Dropout(0.2)

    def forward(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        t, s, master = self.HtrgGAT_layer_ST1(t, s, self.master)
        t, s = self.pool_hT(t), self.pool_hS(s)
        more_t, more_s, more_master = self.HtrgGAT_layer_ST2(t, s, master)
        return self.drop_way(t + more_t), self.drop_way(s + more_s), self.drop_way(master + more_master)


class AASIST(nn.Module):
    """The graph back-end, (b, T, F) -> (b, classes)."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        kan = config["kan"] if config.get("back_end", "kan-aasist") == "kan-aasist" else None
        features, channels = config["bridge_dim"], config["residual_channels"]
        (wide, narrow), ratios, temperatures = config["gat_dims"], config["pool_ratios"], config["temperatures"]
        width = channels[-1][1]
        self.pos_T = nn.Parameter(torch.randn(1, config["max_frames"], features))
        self.pos_S = nn.Parameter(torch.randn(1, features // 3, width))
        self.enc = ResidualEncoder(channels)
        self.attention = nn.Sequential(
            nn.Conv2d(width, 128, 1), nn.SELU(), nn.BatchNorm2d(128), nn.Conv2d(128, width, 1)
        )
        self.GAT_layer_S = GraphAttention(width, wide, temperatures[0], kan)
        self.GAT_layer_T = GraphAttention(width, wide, temperatures[1], kan)
        self.pool_S = GraphPool(wide, ratios[0], kan)
        self.pool_T = GraphPool(wide, ratios[1], kan)
        for name in BRANCHES:
            self.add_module(name, Branch(wide, narrow, ratios[2], temperatures[2], kan))
        self.drop = nn.Dropout(0.5)
        self.out_layer = projection(5 * narrow, config["num_classes"], kan)

    def forward(self, x: Tensor) -> Tensor:
        frames, longest = x.shape[1], self.pos_T.shape[1]
        if frames > longest:
            raise ValueError(f"{frames} frames, but the temporal positions end at {longest}")
        x = x + self.pos_T[:, :frames]
        x = self.enc(x.transpose(1, 2).unsqueeze(1))  # (b, width, R, C)
        w = self.attention(x)

        spectral = (x * torch.softmax(w, dim=3)).sum(3).transpose(1, 2) + self.pos_S  # (b, R, width)
        temporal = (x * torch.softmax(w, dim=2)).sum(2).transpose(1, 2)  # (b, C, width)
        s = self.pool_S(self.GAT_layer_S(spectral))
        t = self.pool_T(self.GAT_layer_T(temporal))

        branches = [getattr(self, name)(t, s) for name in BRANCHES]
        # Element-wise maximum of the four branches, position by position, of each of the three kinds.
        t, s, master = (torch.stack(kind).amax(0) for kind in zip(*branches, strict=True))
        pooled = torch.cat([t.abs().amax(1), t.mean(1), s.abs().amax(1), s.mean(1), master.squeeze(1)], dim=1)
        return self.out_layer(self.drop(pooled))  # (b, 5 * narrow) -> (b, classes)


class Gate(nn.Module):
    """Squeeze and excitation, (b, c, T) -> (b, c, T). Index 0 of `se` is the mean over time, which has no weights."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        mean, squeeze = nn.AdaptiveAvgPool1d(1), nn.Conv1d(channels, squeezed, 1)
        self.se = nn.Sequential(mean, squeeze, nn.ReLU(), nn.Conv1d(squeezed, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.se(x)


class Res2Block(nn.Module):
    """An SE-Res2Block, (b, c, T) -> (b, c, T)."""

    def __init__(self, sizes: Mapping[str, Any], dilation: int) -> None:
        super().__init__()
        channels, taps, self.scale = sizes["channels"], sizes["kernel_size"], sizes["scale"]
        width, padding = channels // self.scale, taps // 2 * dilation
        groups = range(self.scale - 1)
        self.conv1, self.bn1 = nn.Conv1d(channels, channels, 1), nn.BatchNorm1d(channels)
        self.convs = nn.ModuleList(nn.Conv1d(width, width, taps, dilation=dilation, padding=padding) for _ in groups)
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in groups)
        self.conv3, self.bn3 = nn.Conv1d(channels, channels, 1), nn.BatchNorm1d(channels)
        self.se = Gate(channels, sizes["squeeze_channels"])

    def forward(self, x: Tensor) -> Tensor:
        *groups, untouched = self.bn1(self.conv1(x).relu()).chunk(self.scale, dim=1)
        done: list[Tensor] = []
        for conv, bn, group in zip(self.convs, self.bns, groups, strict=True):
            done.append(bn(conv(group + done[-1] if done else group).relu()))
        return self.se(self.bn3(self.conv3(torch.cat([*done, untouched], dim=1)).relu())) + x


class ECAPATDNN(nn.Module):
    """The back-end of Spectra-0, (b, T, F) -> (b, classes)."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        sizes = config["ecapa"]
        channels, wide, inner = sizes["channels"], sizes["aggregation_channels"], sizes["attention_channels"]
        taps, dilations = sizes["kernel_size"] + 2, sizes["dilations"]
        self.conv1 = nn.Conv1d(config["bridge_dim"], channels, taps, padding=taps // 2)
        self.bn1 = nn.BatchNorm1d(channels)
        for number, dilation in enumerate(dilations, start=1):
            self.add_module(f"layer{number}", Res2Block(sizes, dilation))
        self.blocks = len(dilations)
        self.add_module(f"layer{self.blocks + 1}", nn.Conv1d(self.blocks * channels, wide, 1))
        first, last = nn.Conv1d(3 * wide, inner, 1), nn.Conv1d(inner, wide, 1)
        self.attention = nn.Sequential(first, nn.ReLU(), nn.BatchNorm1d(inner), nn.Tanh(), last, nn.Softmax(dim=2))
        self.bn5 = nn.BatchNorm1d(2 * wide)
        self.fc6 = nn.Linear(2 * wide, config["num_classes"])

    def forward(self, x: Tensor) -> Tensor:
        total = self.bn1(self.conv1(x.transpose(1, 2)).relu())  # (b, channels, T)
        outputs = []
        for number in range(1, self.blocks + 1):
            outputs.append(getattr(self, f"layer{number}")(total))
            total = total + outputs[-1]
        x = getattr(self, f"layer{self.blocks + 1}")(torch.cat(outputs, dim=1)).relu()
        mean, deviation = x.mean(2, keepdim=True), x.var(2, keepdim=True).clamp(min=1e-4).sqrt()
        weights = self.attention(torch.cat([x, mean.expand_as(x), deviation.expand_as(x)], dim=1))
        mean = (weights * x).sum(2)
        deviation = ((weights * x.square()).sum(2) - mean.square()).clamp(min=1e-4).sqrt()
        return self.fc6(self.bn5(torch.cat([mean, deviation], dim=1)))


class Encoder(nn.Module):
    """XLS-R in its stable layer norm form, (b, samples) -> (b, T, hidden)."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        # Neither dropout nor masking belongs to this network. Without masking probabilities the model has no
        # `masked_spec_embed` parameter, which the checkpoint does not have either.
        quiet = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop")
        masking = ("mask_time_prob", "mask_feature_prob")
        settings: dict[str, Any] = {**dict.fromkeys((*quiet, *masking), 0.0), "apply_spec_augment": False, **config}
        settings |= {"num_feat_extract_layers": len(config["conv_dim"]), "attn_implementation": "eager"}
        self.model = Wav2Vec2Model(Wav2Vec2Config(**settings))

    def forward(self, windows: Tensor) -> Tensor:
        return self.model(windows).last_hidden_state


class Bridge(nn.Module):
    """(b, T, hidden) -> (b, T, F)."""

    def __init__(self, hidden: int, features: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(hidden, features), nn.SELU(), nn.Dropout(0.1), nn.Linear(features, features), nn.Dropout(0.1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


@contextlib.contextmanager
def recorded(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, tuple[tuple[Any, ...], Any]]]:
    """While open, note the last arguments and output of every module under its name."""
    calls: dict[str, tuple[tuple[Any, ...], Any]] = {}

    def recorder(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def note(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            calls[name] = (arguments, output)

        return note

    handles = [module.register_forward_hook(recorder(name)) for name, module in modules.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


class SpectraAASIST3(nn.Module):
    """The complete network: pre-emphasised windows (b, samples) -> logits (b, classes); logit 1 is the bona fide score.

    `config` has the schema of the golden `config.json` files; keys left out take the published values. Built like
    this its weights are random; `load_oracle` builds it from a checkpoint.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = complete_config(config)
        self.ssl_encoder = Encoder(self.config["encoder"])
        self.bridge = Bridge(self.config["encoder"]["hidden_size"], self.config["bridge_dim"])
        # The names that the checkpoints give them.
        if self.config["back_end"] == "ecapa-tdnn":
            self.ecapa_tdnn = ECAPATDNN(self.config)
        else:
            self.aasist = AASIST(self.config)

    def forward(self, windows: Tensor) -> Tensor:
        back_end = self.ecapa_tdnn if self.config["back_end"] == "ecapa-tdnn" else self.aasist
        return back_end(self.bridge(self.ssl_encoder(windows)))

    def stages(self, windows: Tensor) -> dict[str, Tensor]:
        """Every named intermediate result, in the layouts of the golden data, ending with `pooled` and `logits`."""
        ssl, aasist = self.ssl_encoder.model, self.aasist
        modules = {
            "ssl.feature_extractor": ssl.feature_extractor,  # (b, channel, frame)
            "ssl.feature_projection": ssl.feature_projection,
            "ssl.pos_conv_embed": ssl.encoder.pos_conv_embed,
            "ssl.layer0": ssl.encoder.layers[0],
            "ssl.last_hidden_state": self.ssl_encoder,
            "bridge": self.bridge,
            "residual_encoder": aasist.enc,  # (b, channel, spectral, time)
            "attention": aasist.attention,
            "gat_s": aasist.GAT_layer_S,
            "pool_s": aasist.pool_S,
            "gat_t": aasist.GAT_layer_T,
            "pool_t": aasist.pool_T,
        }
        for name in BRANCHES:
            branch = getattr(aasist, name)
            modules[f"{name}.st1"] = branch.HtrgGAT_layer_ST1
            modules[f"{name}.pool_s"] = branch.pool_hS
            modules[f"{name}.pool_t"] = branch.pool_hT
            modules[name] = branch
        modules["logits"] = aasist.out_layer

        with recorded(modules) as calls:
            self(windows)

        stages: dict[str, Tensor] = {}
        for name in modules:
            arguments, output = calls[name]
            if name == "logits":
                stages["pooled"] = arguments[0]
            if name.startswith("branch") and isinstance(output, tuple):  # T nodes, S nodes, master
                stages.update({f"{name}.{part}": tensor for part, tensor in enumerate(output)})
            else:  # some encoder modules return extras beside their result
                stages[name] = output[0] if isinstance(output, tuple) else output
        return stages

    @torch.no_grad()
    def rank_gaps(self, windows: Tensor) -> tuple[Tensor, list[str]]:
        """Each window's smallest rank gap, (b,), and the pool where it occurs.

        A gap is the difference of two pool scores that follow each other in descending order, down to the last kept
        against the first dropped. It is infinite where no pool has two nodes to rank.
        """
        pools = {name: module for name, module in self.aasist.named_modules() if isinstance(module, GraphPool)}
        with recorded({name: pool.proj for name, pool in pools.items()}) as calls:
            self(windows)

        smallest = []
        for name, pool in pools.items():
            ranked = torch.sigmoid(calls[name][1].squeeze(-1)).sort(dim=1, descending=True).values  # (b, n)
            gaps = (ranked[:, :-1] - ranked[:, 1:])[:, : pool.kept(ranked.shape[1])]
            smallest.append(gaps.amin(1) if gaps.shape[1] else ranked.new_full(ranked.shape[:1], torch.inf))
        gap, where = torch.stack(smallest).min(0)
        names = list(pools)
        return gap, [names[i] for i in where.tolist()]


def checkpoint_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a checkpoint for `config`. Allocates no weights."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in SpectraAASIST3(config).state_dict().items()}


def load_oracle(
    config: str | Path | Mapping[str, Any], tensors: Mapping[str, np.ndarray], dtype: torch.dtype = torch.float64
) -> SpectraAASIST3:
    """The network in evaluation mode, with copies of `tensors` cast to `dtype` (integers stay what they are).

    config: a configuration, or the path of its JSON file. tensors: all tensors of the checkpoint by name; either
    naming of the weight-normed convolution will do. Raises RuntimeError, naming the tensors, when one is missing,
    unexpected or of another shape.
    """
    settings: Mapping[str, Any] = config if isinstance(config, Mapping) else json.loads(Path(config).read_text())
    # On the meta device no initial weights are allocated or drawn, since they are replaced.
    with torch.device("meta"):
        model = SpectraAASIST3(settings)
    state = {}
    for name, array in tensors.items():
        stem, _, last = name.rpartition(".")
        current = f"{stem}.{WEIGHT_NORM_NAMES[last]}" if last in WEIGHT_NORM_NAMES else name
        state[current] = torch.tensor(array, dtype=dtype if np.issubdtype(array.dtype, np.floating) else None)
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()
