"""The PyTorch network in the forms that suit PyTorch and its exporters best.

The oracle is written for exactness. So that no peer is timed at a disadvantage, its encoder attends through PyTorch's
fused attention, its pools rank by `topk`, and where a compiler or exporter would unroll the loop over rows of its KAN
layers, that loop is gone. None of it changes a result beyond rounding.
"""

from __future__ import annotations

import torch
from safetensors.numpy import load_file
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.speed.network import Network
from tests.oracle import spectra_torch


class TopKPool(spectra_torch.GraphPool):
    """The graph pool by `topk`: without the oracle's stable order of exact ties, and exportable."""

    def forward(self, h: Tensor) -> Tensor:
        scores = torch.sigmoid(self.proj(h))
        best, order = scores.topk(self.kept(h.shape[1]), dim=1)
        return h.gather(1, order.expand(-1, -1, h.shape[2])) * best


class WholeKANLinear(spectra_torch.KANLinear):
    """The KAN layer over all rows at once, for compilers and exporters. Eager PyTorch is faster in chunks of rows."""

    def forward(self, x: Tensor) -> Tensor:
        splines = (self.spline_weight * self.spline_scaler.unsqueeze(-1)).flatten(1)
        bases = spectra_torch.cox_de_boor(x, self.grid, self.order).flatten(-2)
        return functional.linear(self.base_activation(x), self.base_weight) + functional.linear(bases, splines)


def load(network: Network, *, whole: bool) -> nn.Module:
    """The network in float32 on the CPU; `whole` takes the loop over rows out."""
    path = network.pytorch
    model = spectra_torch.load_oracle(path / "config.json", load_file(path / "model.safetensors"), torch.float32)
    model.ssl_encoder.model.set_attn_implementation("sdpa")
    for module in model.modules():
        # The two forms differ in `forward` alone, so the weights stay where they are.
        if isinstance(module, spectra_torch.GraphPool):
            module.__class__ = TopKPool
        elif whole and isinstance(module, spectra_torch.KANLinear):
            module.__class__ = WholeKANLinear
    return model
