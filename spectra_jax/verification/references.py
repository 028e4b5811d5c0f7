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

from spectra_jax import hub
from spectra_jax.errors import InputError
from spectra_jax.model.aasist import NUM_BRANCHES
from spectra_jax.model.precision import PrecisionName

CODE = "reference.py"

# Our stages, and the modules of the published network that compute them. A stage in parts is a module's tuple.
MODULES: dict[str, str] = {
    "ssl.feature_extractor": "ssl_encoder.model.feature_extractor",
    "ssl.feature_projection": "ssl_encoder.model.feature_projection",
    "ssl.pos_conv_embed": "ssl_encoder.model.encoder.pos_conv_embed",
    # As many as the largest XLS-R has; a reference has those that it has.
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
    "logits": "aasist.out_layer",
}
_IN_PARTS = frozenset(stage for stage in MODULES if stage.endswith(".st1") or stage.removeprefix("branch").isdecimal())
STAGES: tuple[str, ...] = tuple(
    itertools.chain.from_iterable(
        [f"{stage}.{part}" for part in range(3)] if stage in _IN_PARTS else [stage] for stage in MODULES
    )
)
"""The stages that a reference can have, in the network's order."""


class Reference(ABC):
    """A network that takes our windows.

    Attributes:
      name: what messages call it.
      precision: float32 or float64: what it computes in.
    """

    name: str
    precision: PrecisionName = "float32"

    @abstractmethod
    def logits(self, windows: np.ndarray) -> np.ndarray:
        """Windows (n, samples) float32, after pre-emphasis -> logits (n, 2), spoof and bona fide."""

    @abstractmethod
    def stages(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        """Those of the named stages that can be found in it, as `spectra_jax.stages` has them."""


class OnnxReference(Reference):
    """An ONNX export: windows (n, samples) float32 in, logits (n, 2) out.

    Stages are found by the modules that exporters write into the names or the metadata of nodes: a stage is what a
    module hands to the rest of the graph. Where an export names none, no stage is found.

    Raises:
      InputError: no such file, no ONNX model, or one that takes or gives something else.
    """

    def __init__(self, path: Path):
        self.name = path.name
        self._path = path
        self._session = _session(path)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
            found = ", ".join(f"{value.name} {value.type} {value.shape}" for value in inputs)
            raise InputError(f"{path}: takes {found}, where windows are one float input of (batch, samples)")
        self._input = inputs[0]
        self._output = next((value.name for value in outputs if value.name == "logits"), outputs[0].name)

    def logits(self, windows: np.ndarray) -> np.ndarray:
        batch, samples = self._input.shape
        if isinstance(samples, int) and samples != windows.shape[1]:
            raise InputError(f"{self._path}: takes windows of {samples:,} samples, and ours have {windows.shape[1]:,}")
        # A batch that the export has fixed.
        size = batch if isinstance(batch, int) else len(windows)
        (found,) = self._run(self._session, windows, [self._output], size)
        if found.shape != (len(windows), 2):
            raise InputError(f"{self._path}: gives {found.shape} for {len(windows)} windows, not two logits each")
        return found

    def _run(self, session: Any, windows: np.ndarray, wanted: list[str], size: int) -> list[np.ndarray]:
        parts = []
        for start in range(0, len(windows), size):
            part = windows[start : start + size]
            padded = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            answers = session.run(wanted, {self._input.name: padded})
            parts.append([answer[: len(part)] if answer.shape[:1] == (size,) else answer for answer in answers])
        return [np.concatenate(values) for values in zip(*parts, strict=True)]

    def stages(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        try:
            import onnx
        except ImportError as error:
            raise InputError("to locate a divergence in an ONNX model, install `spectra-jax[verify]`") from error
        model = onnx.load(str(self._path))
        leaving = _leaving(model.graph)
        known = {value.name for value in model.graph.output}
        for name in leaving.values():
            if name not in known:
                model.graph.output.append(onnx.ValueInfoProto(name=name))
                known.add(name)
        batch = self._input.shape[0]
        session = _session(model.SerializeToString())
        size = batch if isinstance(batch, int) else len(windows)
        found = self._run(session, windows, list(leaving.values()), size) if leaving else []
        return dict(zip(leaving, found, strict=True)) | {"logits": self.logits(windows)}


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
        given = str(model) if isinstance(model, Path) else model
        return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime has an exception of its own for each of a dozen statuses, and no common base.
        name = model if isinstance(model, Path) else "the ONNX model"
        raise InputError(f"{name}: no ONNX model that ONNX Runtime takes: {str(error).splitlines()[0]}") from error


def _leaving(graph: Any) -> dict[str, str]:
    """The tensor by which each stage's module leaves its scope; a stage with several of them, or none, is left out."""
    scopes = [_scope(node) for node in graph.node]
    users: dict[str, list[str]] = {}
    for node, scope in zip(graph.node, scopes, strict=True):
        for name in node.input:
            users.setdefault(name, []).append(scope)
    leaving = {}
    for stage, module in MODULES.items():
        if stage in _IN_PARTS or stage == "logits":
            continue
        found = [
            output
            for node, scope in zip(graph.node, scopes, strict=True)
            if _within(scope, module)
            for output in node.output
            if any(not _within(user, module) for user in users.get(output, ()))
            # Shapes that others ask for are no result.
            and node.op_type not in ("Shape", "Constant", "Identity")
        ]
        if len(found) == 1:
            leaving[stage] = found[0]
    return leaving


def _scope(node: Any) -> str:
    """The module that a node belongs to, such as `aasist.GAT_layer_S.proj`."""
    for entry in node.metadata_props:
        # The newer exporter: a list of modules, outermost first, then the operation.
        if entry.key == "pkg.torch.onnx.name_scopes":
            names = [name for name in entry.value.strip("[]").replace("'", "").split(", ") if name]
            return names[-2] if len(names) > 1 else ""
    # The older one: /aasist/GAT_layer_S/proj/MatMul.
    return ".".join(node.name.split("/")[1:-1])


def _within(scope: str, module: str) -> bool:
    return scope == module or scope.startswith(f"{module}.")


class TorchReference(Reference):
    """A PyTorch module: a directory with `reference.py`, `config.json` and `model.safetensors`.

    `reference.py` defines `build(config: dict) -> torch.nn.Module`, which takes windows and gives logits. The weights
    are loaded into it strictly. **Its code is run**, with all that your account may do.

    Args:
      folder: see above.
      run_code: say that you trust the code.
      float64: compute in float64 rather than float32.

    Raises:
      InputError: files that are missing, code that was not allowed or fails, weights that do not fit.
    """

    def __init__(self, folder: Path, *, run_code: bool, float64: bool = False):
        self.name = folder.name
        for file in (CODE, hub.CONFIG, hub.WEIGHTS):
            if not (folder / file).is_file():
                raise InputError(f"{folder}: no {file}; a PyTorch reference has {CODE}, {hub.CONFIG} and {hub.WEIGHTS}")
        if not run_code:
            raise InputError(
                f"{folder / CODE} is Python code, and verifying against it runs it with all that your account may do. "
                "Read it, then say --run-reference-code."
            )
        try:
            import torch
            from safetensors.torch import load_file
        except ImportError as error:
            raise InputError(
                "to run a PyTorch reference, install `spectra-jax[parity]`, which brings PyTorch"
            ) from error
        module = _imported(folder / CODE)
        try:
            config = json.loads((folder / hub.CONFIG).read_text(encoding="utf-8"))
            network = module.build(config)
            network.load_state_dict(load_file(folder / hub.WEIGHTS), strict=True)
        except Exception as error:
            # Anybody's code: whatever it raises is its failure and not ours.
            raise InputError(f"{folder}: the reference cannot be built: {type(error).__name__}: {error}") from error
        self.precision = "float64" if float64 else "float32"
        self._dtype = torch.float64 if float64 else torch.float32
        self._network = network.eval().to(self._dtype)

    def logits(self, windows: np.ndarray) -> np.ndarray:
        import torch

        try:
            with torch.inference_mode():
                found = self._network(torch.from_numpy(windows).to(self._dtype)).numpy()
        except Exception as error:
            raise InputError(f"{self.name}: the reference fails: {type(error).__name__}: {error}") from error
        if found.shape != (len(windows), 2):
            raise InputError(f"{self.name}: gives {found.shape} for {len(windows)} windows, not two logits each")
        return found

    def stages(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        modules = dict(self._network.named_modules())
        found: dict[str, np.ndarray] = {}
        with _listening({stage: modules[name] for stage, name in MODULES.items() if name in modules}, found):
            logits = self.logits(windows)
        return found | {"logits": logits}


@contextmanager
def _listening(modules: Mapping[str, Any], found: dict[str, np.ndarray]) -> Iterator[None]:
    """While open, note what modules put out."""
    handles = [module.register_forward_hook(_note(stage, found)) for stage, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _note(stage: str, found: dict[str, np.ndarray]) -> Any:
    def note(module: Any, arguments: Any, output: Any) -> None:
        del module, arguments
        if stage in _IN_PARTS:
            found.update({f"{stage}.{part}": value.numpy() for part, value in enumerate(output)})
        else:
            # Some modules of encoders return extras beside their result, in a tuple or under names.
            output = getattr(output, "last_hidden_state", output)
            found[stage] = (output[0] if isinstance(output, tuple) else output).numpy()

    return note


def _imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("spectra_jax_reference", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Files beside it are its own.
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


def reference_file(given: str) -> Path:
    """The ONNX file that is meant: a path, or a Hub id `org/name[@revision]` with the published export's file name.

    Raises:
      InputError: neither there nor a Hub id.
      HubError: it cannot be fetched, or is not the published one byte for byte.
    """
    if Path(given).exists():
        return Path(given)
    parsed = hub.parse(given)
    if parsed is None or given.endswith(".onnx"):
        raise InputError(f"{given}: no such file, nor the id of a Hub repository")
    repo, revision = parsed
    return hub.fetch_file(repo, revision or "main", hub.PUBLISHED_ONNX)
