"""Folding for inference: everything that depends on the weights only is computed once, not in every forward pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spectra_jax.model.aasist import KANAASIST, Branch
from spectra_jax.model.conv import Conv
from spectra_jax.model.kan import KANLinear
from spectra_jax.model.norms import BatchNorm
from spectra_jax.model.spectra import SpectraAASIST3

_OWN_MODULES = ("spectra_jax.model.", "flax.nnx.")


def fold_for_inference(model: SpectraAASIST3) -> SpectraAASIST3:
    """The same network for inference only, faster to trace and to compile. Its logits differ by rounding at most.

    In bfloat16 and int8 that is the rounding of the positional convolution's operands, too, on CPUs.

    It can be neither trained nor saved. The encoder's weights are shared with `model`, which may also be an abstract
    network. A model that has a layer of a class of the user's own, which may need the unfolded weights, is returned
    unchanged.

    Raises:
      ValueError: float64 without x64.
    """
    model.precision.require_mode()
    folded = nnx.merge(*nnx.split(model), copy=True)
    modules = [module for _, module in nnx.iter_modules(folded)]
    if not all(type(module).__module__.startswith(_OWN_MODULES) for module in modules):
        return model
    for module in modules:
        if isinstance(module, BatchNorm):
            _fold_variance(module)
        elif isinstance(module, KANLinear):
            _fold_spline_scaler(module)
        elif isinstance(module, Conv):
            _cut_kernel_by_groups(module)
    if isinstance(folded.back_end, KANAASIST):
        _stack_branches(folded.back_end)
    return folded


def precompute(compute: Callable[..., np.ndarray], *weights: Any) -> Any:
    """`compute` applied to weights as numpy arrays. For an abstract network, the shape and dtype of the result."""
    if not isinstance(weights[0], jax.ShapeDtypeStruct):
        # `jnp.asarray` would compile a copy for each shape.
        return jax.device_put(compute(*map(np.asarray, weights)))
    result = compute(*(np.ones(weight.shape, weight.dtype) for weight in weights))
    return jax.ShapeDtypeStruct(result.shape, result.dtype)


# The functions below assign new variables, since another layer may share the old ones.


def _fold_variance(norm: BatchNorm) -> None:
    """Put the stored variance of a batch norm into its scale."""
    assert norm.var is not None
    weights = norm.scale.get_value(), norm.var.get_value()
    norm.scale = nnx.Param(precompute(lambda scale, var: 1 / np.sqrt(var + norm.epsilon) * scale, *weights))
    norm.var = None


def _fold_spline_scaler(layer: KANLinear) -> None:
    """Put the scalers of the splines of a KAN layer into its spline weights."""
    assert layer.spline_scaler is not None
    weights = layer.spline_weight.get_value(), layer.spline_scaler.get_value()
    layer.spline_weight = nnx.Param(precompute(lambda weight, scaler: weight * scaler[:, None, :], *weights))
    layer.spline_scaler = None


def _cut_kernel_by_groups(conv: Conv) -> None:
    """Keep the kernel of a sliding convolution in bfloat16 as one matrix for each group, too."""
    if conv.is_sliding and conv.precision.operand_dtype == jnp.bfloat16:
        conv.group_kernels = nnx.Param(precompute(partial(_group_kernels, groups=conv.groups), conv.kernel.get_value()))


def _group_kernels(kernel: np.ndarray, *, groups: int) -> np.ndarray:
    size, width, out = kernel.shape
    by_group = kernel.astype(jnp.bfloat16).reshape(size * width, groups, out // groups)
    return np.ascontiguousarray(by_group.transpose(1, 0, 2))


def _stack_branches(aasist: KANAASIST) -> None:
    """Replace the four branches by one whose weights are stacked along a first axis."""
    assert not isinstance(aasist.branches, Branch)
    graphs, states = zip(*map(nnx.split, aasist.branches), strict=True)
    stacked = jax.tree.map(lambda *leaves: precompute(lambda *arrays: np.stack(arrays), *leaves), *states)
    aasist.branches = nnx.merge(graphs[0], stacked)
