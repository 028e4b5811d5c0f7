"""An ONNX export as the reference, through ONNX Runtime on the CPU.

Its input is the window after pre-emphasis, float32 (batch, samples); its output the logits (batch, 2). Official:
`spectra-aasist3.onnx` of the published model.

Intermediate tensors of a graph have no names that mean anything. What exporters do keep is which module a node came
from: PyTorch's older exporter in the node's name (`/bridge/mlp/mlp.0/MatMul`), the newer one in the node's metadata. A
stage is then what leaves its module's nodes, and has the stage's shape. In a graph without either, a few stages are
found by the names of biases, as far as those kept theirs. Nothing is matched by value.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spectra_jax import hub
from spectra_jax.trials import InputError
from spectra_jax.verification.stages import Stage

_SCOPES = "pkg.torch.onnx.name_scopes"
# Where no node says what module it is of: biases that are the last thing added in a stage's module.
_LAST_PARAMETERS = {
    "ssl.feature_projection": "ssl_encoder.model.feature_projection.projection.bias",
    "ssl.last_hidden_state": "ssl_encoder.model.encoder.layer_norm.bias",
    "bridge": "bridge.mlp.3.bias",
    "attention": "aasist.attention.3.bias",
}


class ONNXReference:
    """An ONNX export.

    Args:
      source: a file, or a Hub repository `org/name[@revision]` with a `spectra-aasist3.onnx`; the published one stands
        at its pinned revision, and its sha256 is checked.

    Raises:
      InputError: no such file, or ONNX Runtime missing or unable to read it, or other inputs or outputs.
      HubError: the Hub cannot give it.
    """

    precision = "float32"

    def __init__(self, source: str):
        self.name = f"onnx:{source}"
        self._file = _find(source)
        self._session = self._open(self._file)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        described = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
            raise InputError(
                f"{self._file}: one input was expected, windows tensor(float) (batch, samples), and there "
                f"{'is' if len(inputs) == 1 else 'are'} {described or 'none'}"
            )
        self._input = inputs[0].name
        # What is no number is a free axis.
        self._batch, self._samples = (n if isinstance(n, int) else None for n in inputs[0].shape)
        names = [output.name for output in outputs]
        if len(names) > 1 and "logits" not in names:
            raise InputError(f"{self._file}: several outputs, and none is called `logits`: {', '.join(names)}")
        self._output = "logits" if "logits" in names else names[0]

    def logits(self, windows: np.ndarray) -> np.ndarray:
        """Logits (n, 2) of windows (n, samples).

        Raises:
          InputError: windows or answer of another shape, or ONNX Runtime fails.
        """
        (answer,) = self._run(self._session, [self._output], windows)
        if answer.shape != (len(windows), 2):
            raise InputError(
                f"{self._file}: logits ({len(windows)}, 2) were expected, and its output {self._output} is {answer.shape}"
            )
        return answer

    def stages(
        self, windows: np.ndarray, table: Sequence[Stage], shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """The stages that can be told from the graph's names, and why the others are missing.

        Args:
          windows: (n, samples).
          table: the stages to look for.
          shapes: of those stages for these windows, which tell a module's result from what else leaves its nodes.
        """
        graph, problem = self._read_graph()
        if graph is None:
            return {}, {stage.name: problem for stage in table}
        candidates = {stage.name: _candidates(graph, stage) for stage in table}
        wanted = list(dict.fromkeys(name for found in candidates.values() for name in found))
        known = {output.name for output in self._session.get_outputs()}
        try:
            session = self._open(self._file, [name for name in wanted if name not in known])
            values = dict(zip(wanted, self._run(session, wanted, windows), strict=True)) if wanted else {}
        except InputError as error:
            return {}, {stage.name: f"its graph cannot be run with more outputs: {error}" for stage in table}
        seen, missing = {}, {}
        for stage in table:
            # Parts of one module that have one shape come in the order in which they are computed.
            alike = [part.name for part in table if part.module == stage.module and part.is_input == stage.is_input]
            alike = [name for name in alike if shapes[name] == shapes[stage.name]]
            fitting = [
                name
                for name in candidates[stage.name]
                if values[name].shape == shapes[stage.name] and values[name].dtype.kind == "f"
            ]
            if len(fitting) == len(alike):
                seen[stage.name] = values[fitting[alike.index(stage.name)]]
            elif fitting:
                missing[stage.name] = f"{len(fitting)} tensors of the graph could be it"
            else:
                missing[stage.name] = f"no node of the graph can be told to be the last one of {stage.module}"
        return seen, missing

    def _run(self, session: Any, outputs: Sequence[str], windows: np.ndarray) -> list[np.ndarray]:
        if self._samples is not None and windows.shape[1] != self._samples:
            raise InputError(
                f"{self._file}: takes windows of {self._samples:,} samples, and the model's have {windows.shape[1]:,}"
            )
        size = self._batch or len(windows)
        parts = []
        for start in range(0, len(windows), size):
            batch = windows[start : start + size]
            padded = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
            try:
                answers = session.run(list(outputs), {self._input: np.ascontiguousarray(padded, np.float32)})
            except Exception as error:
                raise InputError(f"{self._file}: ONNX Runtime fails: {_first_line(error)}") from error
            # An output without a batch axis is none of ours, and is left out by its shape.
            parts.append([value[: len(batch)] if np.ndim(value) else value for value in answers])
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(same) if np.ndim(same[0]) else same[0] for same in zip(*parts, strict=True)]

    def _open(self, file: Path, outputs: Sequence[str] = ()) -> Any:
        """A session; with `outputs`, one that shows these tensors of the graph as well."""
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(
                "an ONNX reference needs ONNX Runtime: pip install 'spectra-jax[verify]' (onnxruntime is not installed)"
            ) from error
        options = onnxruntime.SessionOptions()
        # Only what is fatal: the rest goes to standard error and says nothing to whoever verifies scores.
        options.log_severity_level = 4
        source: str | bytes = str(file)
        if outputs:
            import onnx

            more = onnx.ModelProto()
            more.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
            # Protocol buffers that follow each other are merged, so that a gigabyte need not be written anew.
            source = file.read_bytes() + more.SerializeToString()
            folder = str(file.resolve().parent)
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        try:
            return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InputError(f"{file}: ONNX Runtime cannot read it: {_first_line(error)}") from error

    def _read_graph(self) -> tuple[Any, str]:
        try:
            import onnx
        except ImportError:
            return None, "naming its stages needs pip install 'spectra-jax[verify]' (onnx is not installed)"
        try:
            # Weights in files of their own are not looked at.
            return _Graph(onnx.load(str(self._file), load_external_data=False).graph), ""
        except Exception as error:
            return None, f"its graph cannot be read: {_first_line(error)}"


class _Graph:
    """Nodes, the modules they came from, and who reads what."""

    def __init__(self, graph: Any):
        self.nodes = list(graph.node)
        self.modules = [_module_scopes(node) for node in self.nodes]
        self.constants = {value.name for value in graph.initializer}
        self.outputs = {value.name for value in graph.output}
        self.readers: dict[str, list[int]] = defaultdict(list)
        self.writer: dict[str, int] = {}
        for index, node in enumerate(self.nodes):
            for name in node.input:
                self.readers[name].append(index)
            for name in node.output:
                self.writer[name] = index

    def leaving(self, module: str) -> list[str]:
        """Tensors that a module's nodes compute and others read, in the order in which they are computed."""
        found = []
        for node, scopes in zip(self.nodes, self.modules, strict=True):
            if module in scopes:
                found += [name for name in node.output if name and self._read_outside(name, module)]
        return found

    def entering(self, module: str) -> list[str]:
        """Tensors that others compute and a module's nodes read."""
        found: dict[str, None] = {}
        for node, scopes in zip(self.nodes, self.modules, strict=True):
            if module in scopes:
                outside = (name for name in node.input if name in self.writer)
                found |= dict.fromkeys(name for name in outside if module not in self.modules[self.writer[name]])
        return list(found)

    def _read_outside(self, name: str, module: str) -> bool:
        return name in self.outputs or any(module not in self.modules[reader] for reader in self.readers[name])


def _candidates(graph: _Graph, stage: Stage) -> list[str]:
    found = graph.entering(stage.module) if stage.is_input else graph.leaving(stage.module)
    if not found and not any(graph.modules) and stage.name in _LAST_PARAMETERS:
        readers = graph.readers[_LAST_PARAMETERS[stage.name]]
        found = [name for reader in readers for name in graph.nodes[reader].output[:1]]
    return found


def _module_scopes(node: Any) -> frozenset[str]:
    """The modules that a node is inside of, by their names in the checkpoint."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            try:
                # The last is the node itself, and the first the whole network.
                return frozenset(ast.literal_eval(entry.value)[1:-1])
            except (ValueError, SyntaxError, TypeError):
                return frozenset()
    if not node.name.startswith("/"):
        return frozenset()
    return frozenset(_paths(node.name.split("/")[1:-1]))


def _paths(scopes: Iterable[str]) -> Iterable[str]:
    """`["bridge", "mlp", "mlp.0"]` -> `bridge`, `bridge.mlp`, `bridge.mlp.0`."""
    parts: list[str] = []
    for scope in scopes:
        member = re.fullmatch(r"(.+)\.(\d+)", scope)
        # A member of a sequence is named with the sequence's own name, also right after that.
        if member and parts and parts[-1] == member[1]:
            parts.append(member[2])
        else:
            parts += scope.split(".")
        yield ".".join(parts)


def _find(source: str) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    parsed = None if source.endswith(".onnx") or source.startswith((".", "/", "~")) else hub.parse(source)
    if parsed is None:
        raise InputError(f"{source}: no such file; an ONNX reference is a file, or a Hub id such as {hub.PUBLISHED}")
    repo, revision = parsed
    return hub.fetch_file(repo, revision or "main", hub.PUBLISHED_ONNX)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]
