"""A traced network in fewer kinds of operations: those that a converter to another format knows, in any batch size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import Literal

Parameters = dict[str, Any]


def simplify(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The same function of one array, traced without calls, loops and operations that are hard to convert.

    Calls of other functions are put in their place. A loop whose steps do not depend on each other becomes one batched
    computation. Paddings, powers and poolings become concatenations, products and maxima. Each value is the same but
    for rounding.
    """

    def simplified(x: Array) -> Array:
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        (result,) = _evaluate(jax.make_jaxpr(function)(shape), [x])
        return result

    return simplified


def _evaluate(program: Any, arguments: Sequence[Any]) -> list[Any]:
    """The results of a jaxpr, with or without constants of its own, under the rules of `_RULES`."""
    jaxpr = getattr(program, "jaxpr", program)
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, getattr(program, "consts", ()), strict=True))
    values |= zip(jaxpr.invars, arguments, strict=True)

    def value_of(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        operands = [value_of(variable) for variable in equation.invars]
        rule = _RULES.get(equation.primitive.name)
        results = None if rule is None else rule(operands, {**equation.params, "outvars": equation.outvars})
        if results is None:
            bound = equation.primitive.bind(*operands, **equation.params)
            results = bound if equation.primitive.multiple_results else [bound]
        values |= zip(equation.outvars, results, strict=True)
    return [value_of(variable) for variable in jaxpr.outvars]


# Each rule below takes the operands of an operation and its parameters (with the variables of its results, `outvars`),
# and returns its results, or None to keep it.


def _call(operands: list[Any], params: Parameters) -> list[Any]:
    return _evaluate(params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"], operands)


def _identity(operands: list[Any], params: Parameters) -> list[Any]:
    return operands


def _loop(operands: list[Any], params: Parameters) -> list[Any] | None:
    """A loop that passes nothing from one step to the next, as one computation over all steps."""
    step: Any = getattr(params["jaxpr"], "jaxpr", params["jaxpr"])
    # Versions of JAX name their numbers of constants and of carried values differently. Arrays that a loop cuts into
    # slices, or stacks from them, have one axis more outside it.
    results = zip(params["outvars"], step.outvars, strict=True)
    if any(outside.aval.ndim == inside.aval.ndim for outside, inside in results):
        return None
    first = next(i for i, inside in enumerate(step.invars) if jnp.ndim(operands[i]) > inside.aval.ndim)
    constants, sliced = operands[:first], operands[first:]
    return jax.vmap(lambda slices: _evaluate(params["jaxpr"], [*constants, *slices]))(sliced)


def _pad(operands: list[Any], params: Parameters) -> list[Any] | None:
    """Padding as concatenation, since jax2onnx 0.17 cannot pad an array whose batch size is a symbol."""
    x, fill = operands
    if any(interior for *_, interior in params["padding_config"]):
        return None
    for axis, (before, after, _) in enumerate(params["padding_config"]):
        # A negative padding removes values.
        x = lax.slice_in_dim(x, max(-before, 0), x.shape[axis] - max(-after, 0), axis=axis)
        shape = [*x.shape]
        parts = []
        for length in (before, after):
            shape[axis] = max(length, 0)
            parts.append(lax.broadcast(fill, shape) if length > 0 else None)
        x = lax.concatenate([part for part in (parts[0], x, parts[1]) if part is not None], axis)
    return [x]


def _power(operands: list[Any], params: Parameters) -> list[Any] | None:
    """A positive power by repeated squaring: ONNX Runtime spent 40 % of the tiny network's time in its `Pow`."""
    exponent = params["y"]
    if exponent < 1:
        return None
    square, result = operands[0], None
    while True:
        if exponent % 2:
            result = square if result is None else result * square
        exponent //= 2
        if not exponent:
            return [result]
        square = square * square


def _pool(operands: list[Any], params: Parameters) -> list[Any] | None:
    """A maximum over windows that do not overlap: the converter would pool over more axes than ONNX Runtime can."""
    (x,) = operands
    window = params["window_dimensions"]
    dilations = (*params["base_dilation"], *params["window_dilation"])
    if window != params["window_strides"] or any(map(any, params["padding"])) or math.prod(dilations) != 1:
        return None
    for axis, size in enumerate(window):
        if size > 1:
            count = x.shape[axis] // size
            x = lax.slice_in_dim(x, 0, count * size, axis=axis)
            x = jnp.max(x.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :]), axis=axis + 1)
    return [x]


_RULES: dict[str, Callable[[list[Any], Parameters], list[Any] | None]] = {
    "jit": _call,
    "pjit": _call,
    "closed_call": _call,
    "custom_jvp_call": _call,
    "checkpoint": _call,
    "remat2": _call,
    "optimization_barrier": _identity,
    "stop_gradient": _identity,
    "scan": _loop,
    "pad": _pad,
    "integer_pow": _power,
    "reduce_window_max": _pool,
}
