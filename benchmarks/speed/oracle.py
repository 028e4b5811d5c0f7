"""The PyTorch network in the forms in which PyTorch and its exporters are fastest.

The oracle is written for exactness. To time no peer at a disadvantage:

- its encoder attends through PyTorch's fused attention,
- its pools rank by `topk`, which exporters know,
- its splines are evaluated in closed form, as spectra-jax does it: in the tiny network ONNX Runtime and OpenVINO ran
  two to five times as fast with it as with the recursion, whose many small steps neither fuses,
- its KAN layers take a few rows at a time where nothing fuses their steps, so that these stay in the cache; a compiler,
  an exporter (both would unroll that loop) and a GPU get all rows at once.

None of this changes a result beyond rounding. The peers still compute all ordered pairs of nodes, as the reference
does; spectra-jax computes each pair once.
"""

from __future__ import annotations

import functools
import math
import operator
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load_file
from torch import Tensor
from torch.nn import functional

from benchmarks.speed.network import Network
from tests.oracle import spectra_torch

# 128 rows of 64 features by 20 bases are 640 KiB: of 128, 512 and 2,048 the fastest in eager PyTorch on a CPU.
CACHED_ROWS = 128


class TopKPool(spectra_torch.GraphPool):
    """The graph pool by `topk`: without the oracle's stable order of exact ties."""

    def forward(self, h: Tensor) -> Tensor:
        scores = torch.sigmoid(self.proj(h))
        best, order = scores.topk(self.kept(h.shape[1]), dim=1)
        return h.gather(1, order.expand(-1, -1, h.shape[2])) * best


class ClosedFormKANLinear(spectra_torch.KANLinear):
    """The KAN layer with its splines in closed form; the knots of both golden networks are exactly even."""

    rows_at_a_time: int | None = None
    first_knot: float
    spacing: float

    def forward(self, x: Any) -> Any:
        splines = (self.spline_weight * self.spline_scaler.unsqueeze(-1)).flatten(1)
        if self.rows_at_a_time is None:
            return self._layer(x, splines)
        rows = x.flatten(0, -2).split(self.rows_at_a_time)
        outputs: Any = torch.cat([self._layer(row, splines) for row in rows])
        return outputs.unflatten(0, x.shape[:-1])

    def _layer(self, x: Any, splines: Tensor) -> Tensor:
        base = functional.linear(self.base_activation(x), self.base_weight)
        return base + functional.linear(self._bases(x).flatten(-2), splines)

    def _bases(self, x: Tensor) -> Any:
        grid: Any = self.grid
        order, first, spacing = self.order, self.first_knot, self.spacing
        centres = torch.arange(grid.shape[1] - 1 - order, dtype=x.dtype, device=x.device) + (order + 1) / 2
        distance = (((x - first) / spacing).unsqueeze(-1) - centres).abs()
        total = torch.zeros_like(distance)
        for i in range(order // 2 + 1):
            power = functools.reduce(operator.mul, [((order + 1) / 2 - i - distance).relu()] * order)
            total = total + (-1) ** i * math.comb(order + 1, i) / math.factorial(order) * power
        return total


def load(network: Network, *, rows_at_a_time: int | None) -> Any:
    """The network in float32 on the CPU, in its fast form; `rows_at_a_time` is that of the KAN layers, None for all."""
    model = as_written(network.pytorch)
    model.ssl_encoder.model.set_attn_implementation("sdpa")
    for module in model.modules():
        # The forms differ only in how they compute, so the weights stay as they are.
        if isinstance(module, spectra_torch.GraphPool):
            module.__class__ = TopKPool
        elif isinstance(module, spectra_torch.KANLinear):
            _evaluate_in_closed_form(module, rows_at_a_time)
    return model


def _evaluate_in_closed_form(layer: Any, rows_at_a_time: int | None) -> None:
    layer.__class__ = ClosedFormKANLinear
    layer.rows_at_a_time = rows_at_a_time
    # Numbers rather than tensors: constants to a compiler, and no copy from a GPU at each call.
    layer.first_knot, layer.spacing = float(layer.grid[0, 0]), float(layer.grid[0].diff()[0])


def as_written(folder: Path) -> Any:
    """The oracle itself, in float32 on the CPU, from `config.json` and `model.safetensors`."""
    return spectra_torch.load_oracle(folder / "config.json", load_file(folder / "model.safetensors"), torch.float32)
