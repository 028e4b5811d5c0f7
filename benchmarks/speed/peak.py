"""The machine's peak: large square matrix products by every library at hand, in each number format."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.speed.contenders import cores
from benchmarks.speed.network import Network

Product = Callable[[], object]

SIZES = (1024, 2048, 4096)
GPU_SIZES = (8192,)
_SECONDS = 0.3  # of each size, and three products at least
_SLOW = 1.0
# OpenVINO quantises what a product reads: a chain of them amortises the first and the last conversion.
_CHAIN = 4


def peak(network: Network, library: str) -> dict[str, float]:
    """Operations a second of a library's fastest product, by number format; of those that it has.

    The fastest counts: with a median that another program slowed down, every share of the peak would be too high.
    """
    make, formats = LIBRARIES[library]
    if network.device == "gpu":
        formats = (*formats, "tf32")
    rates = {}
    for kind in formats:
        found: list[float] = []
        for size in GPU_SIZES if network.device == "gpu" else SIZES:
            try:
                product, count = make(kind, size)
                seconds = _fastest(product)
            except (RuntimeError, NotImplementedError):
                break  # no product in this format on this machine
            found.append(count * 2 * size**3 / seconds)
            if seconds > _SLOW:
                break  # without instructions for the format, a larger product would take minutes
        if found:
            rates[kind] = max(found)
    return rates


def _fastest(product: Product) -> float:
    product()
    seconds: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(seconds) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _operands(kind: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    if kind == "int8":
        a, b = random.integers(-127, 128, (2, size, size), np.int8)
    else:
        a, b = random.standard_normal((2, size, size), np.float32)
    return a, b


def _xla(kind: str, size: int) -> tuple[Product, int]:
    import jax
    import jax.numpy as jnp

    dtype = {"bfloat16": jnp.bfloat16, "int8": jnp.int8}.get(kind, jnp.float32)
    output = jnp.int32 if kind == "int8" else jnp.float32
    precision = {"float32": "highest", "tf32": "high"}.get(kind, "default")
    a, b = (jnp.asarray(operand, dtype) for operand in _operands(kind, size))
    product = jax.jit(functools.partial(jnp.matmul, precision=precision, preferred_element_type=output))
    return lambda: jax.block_until_ready(product(a, b)), 1


def _torch(kind: str, size: int) -> tuple[Product, int]:
    import torch

    torch.set_num_threads(cores())
    a, b = map(torch.from_numpy, _operands(kind, size))
    if kind == "int8":
        return lambda: torch._int_mm(a, b), 1
    a, b = (operand.to(getattr(torch, kind)) for operand in (a, b))
    return lambda: a @ b, 1


def _onnxruntime(kind: str, size: int) -> tuple[Product, int]:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    a, b = _operands(kind, size)
    operator, inputs, outputs = "MatMul", TensorProto.FLOAT, TensorProto.FLOAT
    if kind == "int8":
        # Unsigned by signed, as quantised activations are.
        operator, inputs, outputs, a = "MatMulInteger", TensorProto.UINT8, TensorProto.INT32, a.view(np.uint8)
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", inputs, (size, size))],
        [helper.make_tensor_value_info("c", outputs, (size, size))],
        [numpy_helper.from_array(b, "b")],
    )
    # The oldest format that has both operators, since ONNX may be newer than ONNX Runtime.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": a}), 1


def _openvino(kind: str, size: int) -> tuple[Product, int]:
    import openvino
    from openvino import opset13

    core = openvino.Core()
    if kind == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise NotImplementedError("this CPU has no instructions for bfloat16")
    a, b = _operands(kind, size)
    x = parameter = opset13.parameter((size, size), np.float32)
    bound = np.float32(127)
    for _ in range(_CHAIN):
        weight: Any = opset13.constant(b)
        if kind == "int8":
            x = opset13.fake_quantize(x, -bound - 1, bound, -bound - 1, bound, 256)
            weight = opset13.multiply(opset13.convert(weight, np.float32), np.float32(1 / size))
        x = opset13.matmul(x, weight, transpose_a=False, transpose_b=False)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if kind == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": cores(),
    }
    request = core.compile_model(openvino.Model([x], [parameter]), "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(a.astype(np.float32)))
    return request.infer, _CHAIN


LIBRARIES: dict[str, tuple[Callable[[str, int], tuple[Product, int]], tuple[str, ...]]] = {
    "XLA": (_xla, ("float32", "bfloat16", "int8")),
    "PyTorch": (_torch, ("float32", "bfloat16", "int8")),
    "ONNX Runtime": (_onnxruntime, ("float32", "int8")),
    "OpenVINO": (_openvino, ("float32", "bfloat16", "int8")),
}
"""For each library, a function of a number format and a size that returns a call and how many products it computes, and
the number formats that it has."""
