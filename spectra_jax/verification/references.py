"""Networks to verify against: an ONNX export through ONNX Runtime, a PyTorch module with its safetensors weights."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from spectra_jax import hub
from spectra_jax.errors import InputError
from spectra_jax.model.aasist import NUM_BRANCHES
from spectra_jax.model.precision import PrecisionName

CODE = "reference.py"

# Our stages, and the modules of the published networks that compute them. A module that returns a tuple is a stage in
# parts. Modules that a reference lacks are ignored.
MODULES: dict[str, str] = {
    "ssl.feature_extractor": "ssl_encoder.model.feature_extractor",
    "ssl.feature_projection": "ssl_encoder.model.feature_projection",
    "ssl.pos_conv_embed": "ssl_encoder.model.encoder.pos_conv_embed",
    # The largest XLS-R has 48.
    **{f"ssl.layer{index}": f"ssl_encoder.model.encoder.layers.{index}" for index in range(48)},
    "ssl.last_hidden_state": "ssl_encoder",
    "bridge": "bridge",
    "residual_encoder": "aasist.enc",
    "attention": "aasist.attention",
    "gat_s": "aasist.GAT_layer_S",
    "pool_s": "aasist.pool_S",
    "gat_t": "aasist.GAT_layer_T",
    "pool_t": "aasist.pool_T",
    **{
        stage: module
        for branch in (f"branch{index}" for index in range(1, NUM_BRANCHES + 1))
        for stage, module in (
            (f"{branch}.st1", f"aasist.{branch}.HtrgGAT_layer_ST1"),
            (f"{branch}.pool_s", f"aasist.{branch}.pool_hS"),
            (f"{branch}.pool_t", f"aasist.{branch}.pool_hT"),
            (branch, f"aasist.{branch}"),
        )
    },
    # The batch norm that ends the first convolution, and the layers, of which the last aggregates the others.
    "ecapa.first": "ecapa_tdnn.bn1",
    **{f"ecapa.layer{index}": f"ecapa_tdnn.layer{index}" for index in range(1, 10)},
    "ecapa.pooled": "ecapa_tdnn.bn5",
    "logits": "aasist.out_layer",
}
_IN_PARTS = frozenset(stage for stage in MODULES if stage.endswith(".st1") or stage.removeprefix("branch").isdecimal())
STAGES: tuple[str, ...] = tuple(
    itertools.chain.from_iterable(
        [f"{stage}.{part}" for part in range(3)] if stage in _IN_PARTS else [stage] for stage in MODULES
    )
)
"""The stages that a reference can have, in the order of the network."""


class Reference(ABC):
    """A network with the same input as ours.

    Attributes:
      name: its name in messages.
      precision: float32 or float64, in which it computes.
    """

    name: str
    precision: PrecisionName = "float32"

    @abstractmethod
    def logits(self, windows: Float32[np.ndarray, "batch samples"]) -> Float[np.ndarray, "batch 2"]:
        """Windows after pre-emphasis -> logits, spoof and bona fide."""

    @abstractmethod
    def stages(self, windows: Float32[np.ndarray, "batch samples"]) -> dict[str, np.ndarray]:
        """The named stages that it has, in the layout of `spectra_jax.stages`."""


class OnnxReference(Reference):
    """An ONNX export: windows (n, samples) float32 in, logits (n, 2) out.

    Exporters write modules into the names or the metadata of nodes. A stage is the tensor that its module passes to the
    rest of the graph. An export that names no modules has no stages.

    Raises:
      InputError: no such file, not an ONNX model, or one with another input or output.
    """

    def __init__(self, path: Path):
        self.name = path.name
        self._path = path
        self._session = _session(path)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
            found = ", ".join(f"{value.name} {value.type} {value.shape}" for value in inputs)
            raise InputError(f"{path}: takes {found}, but must take one float input of shape (batch, samples)")
        self._input = inputs[0]
        self._output = next((value.name for value in outputs if value.name == "logits"), outputs[0].name)

    def logits(self, windows: Float32[np.ndarray, "batch samples"]) -> Float[np.ndarray, "batch 2"]:
        batch, samples = self._input.shape
        if isinstance(samples, int) and samples != windows.shape[1]:
            raise InputError(f"{self._path}: takes windows of {samples:,} samples, and ours have {windows.shape[1]:,}")
        # An export may have a fixed batch size.
        size = batch if isinstance(batch, int) else len(windows)
        (found,) = self._run(self._session, windows, [self._output], size)
        if found.shape != (len(windows), 2):
            raise InputError(f"{self._path}: gives {found.shape} for {len(windows)} windows, not two logits each")
        return found

    def _run(self, session: Any, windows: np.ndarray, names: list[str], size: int) -> list[np.ndarray]:
        """The named outputs, computed for `size` windows at a time; the last batch is padded."""
        parts = []
        for start in range(0, len(windows), size):
            part = windows[start : start + size]
            padded = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            outputs = session.run(names, {self._input.name: padded})
            parts.append([output[: len(part)] if output.shape[:1] == (size,) else output for output in outputs])
        return [np.concatenate(values) for values in zip(*parts, strict=True)]

    def stages(self, windows: Float32[np.ndarray, "batch samples"]) -> dict[str, np.ndarray]:
        try:
            import onnx
        except ImportError as error:
            raise InputError("to locate a divergence in an ONNX model, install `spectra-jax[verify]`") from error
        model = onnx.load(str(self._path))
        tensors = _stage_tensors(model.graph)
        outputs = {value.name for value in model.graph.output}
        for name in tensors.values():
            if name not in outputs:
                model.graph.output.append(onnx.ValueInfoProto(name=name))
                outputs.add(name)
        batch = self._input.shape[0]
        session = _session(model.SerializeToString())
        size = batch if isinstance(batch, int) else len(windows)
        values = self._run(session, windows, list(tensors.values()), size) if tensors else []
        return dict(zip(tensors, values, strict=True)) | {"logits": self.logits(windows)}


def _session(model: Path | bytes) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("to run an ONNX model, install `spectra-jax[verify]`, which brings ONNX Runtime") from error
    if isinstance(model, Path) and not model.is_file():
        raise InputError(f"{model}: no such file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        source = str(model) if isinstance(model, Path) else model
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime has a dozen exceptions without a common base.
        name = model if isinstance(model, Path) else "the ONNX model"
        raise InputError(
            f"{name}: not an ONNX model that ONNX Runtime can load: {str(error).splitlines()[0]}"
        ) from error


def _stage_tensors(graph: Any) -> dict[str, str]:
    """The tensor that the module of each stage passes to the rest of the graph, if it passes exactly one."""
    scopes = [_scope(node) for node in graph.node]
    users: dict[str, list[str]] = {}
    for node, scope in zip(graph.node, scopes, strict=True):
        for name in node.input:
            users.setdefault(name, []).append(scope)
    tensors = {}
    for stage, module in MODULES.items():
        if stage in _IN_PARTS or stage == "logits":
            continue
        found = [
            output
            for node, scope in zip(graph.node, scopes, strict=True)
            if _within(scope, module)
            for output in node.output
            if any(not _within(user, module) for user in users.get(output, ()))
            # Shapes that other modules read are not a result.
            and node.op_type not in ("Shape", "Constant", "Identity")
        ]
        if len(found) == 1:
            tensors[stage] = found[0]
    return tensors


def _scope(node: Any) -> str:
    """The module that a node belongs to, such as `aasist.GAT_layer_S.proj`."""
    for entry in node.metadata_props:
        # The newer exporter: a list of modules, outermost first, followed by the operation.
        if entry.key == "pkg.torch.onnx.name_scopes":
            names = [name for name in entry.value.strip("[]").replace("'", "").split(", ") if name]
            return names[-2] if len(names) > 1 else ""
    # The older exporter: /aasist/GAT_layer_S/proj/MatMul.
    return ".".join(node.name.split("/")[1:-1])


def _within(scope: str, module: str) -> bool:
    return scope == module or scope.startswith(f"{module}.")


class TorchReference(Reference):
    """A PyTorch module: a directory with `reference.py`, `config.json` and `model.safetensors`.

    `reference.py` defines `build(config: dict) -> torch.nn.Module`, a module from windows to logits. The weights are
    loaded into it strictly. **Its code is run** with all permissions of your account.

    Args:
      folder: the directory with these files.
      run_code: confirms that you trust the code.
      float64: compute in float64 rather than float32.

    Raises:
      InputError: missing files, code that was not allowed or fails, weights of another network.
    """

    def __init__(self, folder: Path, *, run_code: bool, float64: bool = False):
        self.name = folder.name
        for file in (CODE, hub.CONFIG, hub.WEIGHTS):
            if not (folder / file).is_file():
                raise InputError(f"{folder}: no {file}; a PyTorch reference has {CODE}, {hub.CONFIG} and {hub.WEIGHTS}")
        if not run_code:
            raise InputError(
                f"{folder / CODE} is Python code, and verifying against it runs it with all permissions of your "
                "account. Read it, then add --run-reference-code."
            )
        try:
            import torch
            from safetensors.torch import load_file
        except ImportError as error:
            raise InputError(
                "to run a PyTorch reference, install `spectra-jax[parity]`, which brings PyTorch"
            ) from error
        module = _import_module(folder / CODE)
        try:
            config = json.loads((folder / hub.CONFIG).read_text(encoding="utf-8"))
            network = module.build(config)
            network.load_state_dict(load_file(folder / hub.WEIGHTS), strict=True)
        except Exception as error:
            # Code of others may raise any exception.
            raise InputError(f"{folder}: the reference cannot be built: {type(error).__name__}: {error}") from error
        self.precision = "float64" if float64 else "float32"
        self._dtype = torch.float64 if float64 else torch.float32
        self._network = network.eval().to(self._dtype)

    def logits(self, windows: Float32[np.ndarray, "batch samples"]) -> Float[np.ndarray, "batch 2"]:
        import torch

        try:
            with torch.inference_mode():
                found = self._network(torch.from_numpy(windows).to(self._dtype)).numpy()
        except Exception as error:
            raise InputError(f"{self.name}: the reference fails: {type(error).__name__}: {error}") from error
        if found.shape != (len(windows), 2):
            raise InputError(f"{self.name}: gives {found.shape} for {len(windows)} windows, not two logits each")
        return found

    def stages(self, windows: Float32[np.ndarray, "batch samples"]) -> dict[str, np.ndarray]:
        modules = dict(self._network.named_modules())
        found: dict[str, np.ndarray] = {}
        with _recording_outputs({stage: modules[name] for stage, name in MODULES.items() if name in modules}, found):
            logits = self.logits(windows)
        return found | {"logits": logits}


@contextmanager
def _recording_outputs(modules: Mapping[str, Any], recorded: dict[str, np.ndarray]) -> Iterator[None]:
    """Within the context, record the outputs of modules by the names of their stages."""
    handles = [module.register_forward_hook(_recording_hook(stage, recorded)) for stage, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _recording_hook(stage: str, recorded: dict[str, np.ndarray]) -> Any:
    def record(module: Any, arguments: Any, output: Any) -> None:
        del module, arguments
        if stage in _IN_PARTS:
            recorded.update({f"{stage}.{part}": value.numpy() for part, value in enumerate(output)})
        else:
            # Some modules of encoders return more than their result, in a tuple or an object with attributes.
            output = getattr(output, "last_hidden_state", output)
            recorded[stage] = (output[0] if isinstance(output, tuple) else output).numpy()

    return record


def _import_module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("spectra_jax_reference", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # It may import files beside it.
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{path}: fails when it is run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    if not callable(getattr(module, "build", None)):
        raise InputError(f"{path}: defines no `build(config)`")
    return module


def reference_file(name: str) -> Path:
    """The ONNX file at a path, or the export of a published detector in a Hub repository `org/name[@revision]`.

    In other repositories it has the name that Spectra-AASIST3's has.

    Raises:
      InputError: no such file, and not a Hub id.
      HubError: it cannot be downloaded, or differs from the published export.
    """
    if Path(name).exists():
        return Path(name)
    parsed = hub.parse(name)
    if parsed is None or name.endswith(".onnx"):
        raise InputError(f"{name}: no such file, nor the id of a Hub repository")
    repo, revision = parsed
    return hub.fetch_file(repo, revision or "main", hub.ONNX_EXPORTS.get(repo, hub.PUBLISHED_ONNX))
