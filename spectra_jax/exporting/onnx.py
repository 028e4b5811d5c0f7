"""The network as an ONNX file, written by jax2onnx."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
from jax import Array

from spectra_jax.errors import InputError
from spectra_jax.exporting.simplify import simplify
from spectra_jax.exporting.stablehlo import check_size
from spectra_jax.files.atomic import atomic_file, require_free
from spectra_jax.model.fold import fold_for_inference
from spectra_jax.model.platform import for_platform
from spectra_jax.model.spectra import SpectraAASIST3

OPSET = 18
"""The version of ONNX's operators: ONNX Runtime 1.14 and newer run it."""

# A protobuf message, such as an ONNX file, is smaller than 2 GiB. The graph itself needs some of them.
_LARGEST_FILE = 2**31 - 2**26
# Tensors in a file of their own start at multiples of this, so that they can be mapped into memory.
_ALIGNMENT = 4096
# Smaller tensors stay inside the ONNX file: they may be axes or shapes, which a checker reads.
_SMALLEST_EXTERNAL = 1024


def write_onnx(
    model: SpectraAASIST3,
    path: str | Path,
    batch: str | int = "b",
    *,
    metadata: Mapping[str, str] | None = None,
    external_data: bool | None = None,
) -> None:
    """Write a network as an ONNX file: `windows` (batch, samples) float32 in, `logits` (batch, 2) out.

    The windows are those of the network: `config.num_samples` at `config.sample_rate`, after pre-emphasis. The file
    states these three as metadata, and its weights are folded for inference. It appears when it is complete, or not at
    all.

    Args:
      model: a network in float32.
      path: a new file; missing parent directories are created.
      batch: the name of the free batch axis, or a fixed batch size.
      metadata: further metadata of the file, such as the origin of the weights.
      external_data: whether to write the weights to a second file, `PATH.data`, which has to stay beside the first; by
        default only where they need more than the 2 GiB of an ONNX file.

    Raises:
      FileExistsError: one of the files exists.
      InputError: the extra `onnx` is not installed, or the network is not in float32.
      ValueError: a batch size that is not valid.
    """
    require_onnx_extra()
    path = Path(path)
    data = path.with_name(path.name + ".data")
    require_free(path)
    check_size("batch", batch)
    if not isinstance(model, SpectraAASIST3):
        raise InputError(f"only a SpectraAASIST3 can be written as ONNX, found {type(model).__name__}")
    if model.precision.operand_dtype != jnp.float32:
        raise InputError(f"a network in {model.precision.name} cannot be written as ONNX; load it in float32")
    graph = _convert(model, batch)
    graph.metadata_props.update(_metadata(model) | dict(metadata or {}))
    if external_data is None:
        external_data = sum(value.const_value.nbytes for value in graph.graph.initializers.values()) > _LARGEST_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, replace=False) as file:
        if external_data:
            # Complete before the file that refers to it appears.
            with atomic_file(data, replace=False) as weights:
                _move_weights(graph, weights, data)
        file.write(_serialize(graph))


def require_onnx_extra() -> None:
    """Check that the extra `onnx` is installed.

    Raises:
      InputError: it is not.
    """
    if importlib.util.find_spec("jax2onnx") is None:
        raise InputError("to write ONNX files, install `spectra-jax[onnx]`, which brings jax2onnx")


def _convert(model: SpectraAASIST3, batch: str | int) -> Any:
    """The network as an `onnx_ir.Model`."""
    import jax2onnx

    folded = fold_for_inference(model)
    size = jax.export.symbolic_shape(batch)[0] if isinstance(batch, str) else batch
    windows = jax.ShapeDtypeStruct((size, model.config.num_samples), jnp.float32)

    # Traced for one window: loops inside the network, which depend on the number of rows, have a known length.
    @jax.vmap
    def forward(window: Array) -> Array:
        return folded(window[None])[0]

    # The code of a CPU cuts long arrays into parts that stay in its cache, which would only be more nodes here.
    with for_platform("cuda"), jax.numpy_dtype_promotion("standard"):
        # Traced before the converter is called, which replaces functions of JAX and Flax while it traces.
        traced = jax.make_jaxpr(simplify(forward))(windows)
        return jax2onnx.to_onnx(
            jax.extend.core.jaxpr_as_fun(traced),
            [windows],
            model_name="spectra-jax",
            opset=OPSET,
            return_mode="ir",
            input_names=["windows"],
            output_names=["logits"],
        )


def _metadata(model: SpectraAASIST3) -> dict[str, str]:
    config = model.config
    return {
        "sample_rate": str(config.sample_rate),
        "num_samples": str(config.num_samples),
        "preemphasis": str(config.preemphasis),
        "score": "logits[:, 1]; higher means more bona fide",
        "config": json.dumps(config.to_dict()),
    }


def _move_weights(graph: Any, file: BinaryIO, name: Path) -> None:
    """Write the weights of an `onnx_ir.Model` to `file`, and make the model refer to them by `name`."""
    import onnx_ir

    for value in graph.graph.initializers.values():
        tensor = value.const_value
        if tensor.nbytes < _SMALLEST_EXTERNAL:
            continue
        file.write(b"\0" * (-file.tell() % _ALIGNMENT))
        start = file.tell()
        file.write(tensor.tobytes())
        value.const_value = onnx_ir.ExternalTensor(
            name.name, start, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=tensor.name, base_dir=name.parent
        )


def _serialize(graph: Any) -> bytes:
    import onnx_ir

    # The converter gives some values a shape without a type, which ONNX cannot state.
    for node in graph.graph.all_nodes():
        for value in node.outputs:
            if value.type is None:
                value.shape = None
    return onnx_ir.to_proto(graph).SerializeToString()
