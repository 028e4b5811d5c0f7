"""The ways to run the network: one class each, one name each.

To add one: subclass `Contender`, give it a `name` and a `label`, and list it in `CONTENDERS`. A contender lives in a
worker process of its own, needs only the methods of the base class, and may raise any exception: the message becomes
its row. Import its package inside its methods, so that the others run where the package is missing.
"""

from __future__ import annotations

import functools
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from benchmarks.speed.network import Network


class UnavailableError(Exception):
    """This contender cannot run on this machine; the message states why."""


def cores() -> int:
    """The threads that every contender may use: the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Contender(ABC):
    """One way to run one network."""

    name: ClassVar[str]
    label: ClassVar[str]
    encoder_only: ClassVar[bool] = False
    platforms: ClassVar[tuple[str, ...]] = ("cpu", "gpu")
    # Whether what was compiled for one shape remains after compiling for another.
    keeps_shapes: ClassVar[bool] = True

    def __init__(self, network: Network):
        self.network = network

    def prepare(self) -> None:  # noqa: B027 - most contenders have nothing to prepare
        """Write files to the work directory. Called once, in a process of its own."""

    @abstractmethod
    def load(self) -> None:
        """Read the weights."""

    def compile(self, batch: int, samples: int) -> None:  # noqa: B027 - most contenders have nothing to compile
        """Get ready for windows of one shape, as far as that can be done apart from the first call."""

    @abstractmethod
    def run(self, windows: np.ndarray) -> np.ndarray:
        """Windows (b, samples) float32 -> logits (b, 2), or the last hidden state of an encoder; waits for them."""


class Ours(Contender):
    """The `Scorer`, and for windows that are not of the network's own length the pure function."""

    precision: ClassVar[str]

    def load(self) -> None:

        import spectra_jax

        self.model = spectra_jax.load(self.network.native, self.precision)
        self._split(self.model)

    def _split(self, module: Any) -> None:
        import jax

        import spectra_jax

        forward, *variables = spectra_jax.split(module)
        self._variables = jax.block_until_ready(variables)
        self._forward = jax.jit(forward)
        self._compiled: dict[tuple[int, ...], Callable[[np.ndarray], Any]] = {}

    def compile(self, batch: int, samples: int) -> None:
        import jax

        import spectra_jax

        if samples == self.network.config.num_samples:
            scorer = spectra_jax.Scorer(self.model, batch_size=batch, devices=jax.local_devices()[:1])
            scorer.load()
            self._compiled[batch, samples] = scorer.logits
        else:
            self._compile_forward(batch, samples)

    def _compile_forward(self, batch: int, samples: int) -> None:
        import jax

        shape = jax.ShapeDtypeStruct((batch, samples), np.float32)
        compiled = self._forward.lower(*self._variables, shape).compile()
        self._compiled[batch, samples] = functools.partial(compiled, *self._variables)

    def run(self, windows: np.ndarray) -> np.ndarray:
        return np.asarray(self._compiled[windows.shape](windows))


class OursFloat32(Ours):
    name, label, precision = "ours-float32", "spectra-jax float32", "float32"


class OursTF32(Ours):
    name, label, precision = "ours-tf32", "spectra-jax tf32", "tf32"
    platforms = ("gpu",)


class OursBFloat16(Ours):
    name, label, precision = "ours-bfloat16", "spectra-jax bfloat16", "bfloat16"


class OursInt8(Ours):
    name, label, precision = "ours-int8", "spectra-jax int8", "int8"


class OursEncoder(Ours):
    name, label, precision = "ours-encoder", "spectra-jax encoder, float32", "float32"
    encoder_only = True

    def load(self) -> None:
        import spectra_jax

        self._split(spectra_jax.load(self.network.native, self.precision).encoder)

    def compile(self, batch: int, samples: int) -> None:
        self._compile_forward(batch, samples)


class Torch(Contender):
    """Eager PyTorch in the fast form of `benchmarks/speed/oracle.py`."""

    tf32: ClassVar[bool] = False

    def load(self) -> None:
        import torch

        torch.set_num_threads(cores())
        gpu = self.network.device == "gpu"
        if gpu and not torch.cuda.is_available():
            raise UnavailableError("this PyTorch has no CUDA")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
        self._device = "cuda" if gpu else "cpu"
        self._model: Any = self.form(self.read().to(self._device))

    def read(self) -> Any:
        """The network as PyTorch has it, on the CPU."""
        from benchmarks.speed import oracle

        return oracle.load(self.network, rows_at_a_time=None if self.network.device == "gpu" else oracle.CACHED_ROWS)

    def form(self, model: Any) -> Any:
        """The callable that is timed, from the loaded network."""
        return model

    def run(self, windows: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            # Copying to the host waits for the device.
            return self._model(torch.from_numpy(windows).to(self._device)).float().cpu().numpy()


class TorchFloat32(Torch):
    name, label = "torch-float32", "PyTorch eager float32"


class TorchAsWritten(Torch):
    """The oracle of the tests: the reference's formulas one by one."""

    name, label = "torch-as-written", "PyTorch oracle as written, float32"

    def read(self) -> Any:
        from benchmarks.speed import oracle

        return oracle.as_written(self.network.pytorch)


class TorchTF32(Torch):
    name, label, tf32 = "torch-tf32", "PyTorch eager tf32", True
    platforms = ("gpu",)


class TorchBFloat16(Torch):
    """The encoder under autocast, what follows in float32: the same split as ours."""

    name, label = "torch-bfloat16", "PyTorch eager bfloat16 (autocast)"

    def form(self, model: Any) -> Any:
        import torch

        def forward(windows: Any) -> Any:
            with torch.autocast(self._device, dtype=torch.bfloat16):
                hidden = model.ssl_encoder(windows)
            return model.aasist(model.bridge(hidden.float()))

        return forward


class TorchCompiled(Torch):
    name, label = "torch-compile", "PyTorch torch.compile float32"

    def read(self) -> Any:
        from benchmarks.speed import oracle

        return oracle.load(self.network, rows_at_a_time=None)

    def form(self, model: Any) -> Any:
        import torch

        return torch.compile(model, dynamic=False)

    def compile(self, batch: int, samples: int) -> None:
        self.run(np.zeros((batch, samples), np.float32))


class TransformersEncoder(Torch):
    name, label = "transformers-encoder", "transformers Wav2Vec2Model, float32"
    encoder_only = True

    def form(self, model: Any) -> Any:
        return model.ssl_encoder


class ONNXRuntime(Contender):
    """The oracle's export with a free batch axis, written once by the TorchScript-based exporter.

    The newer exporter took longer over this graph, and its model ran no faster.
    """

    name, label = "onnxruntime-float32", "ONNX Runtime float32"
    platforms = ("cpu",)

    @property
    def float32_file(self) -> Any:
        return self.network.folder / "exports" / "model.onnx"

    @property
    def file(self) -> Any:
        return self.float32_file

    def prepare(self) -> None:
        if self.float32_file.exists():
            return
        import torch

        from benchmarks.speed import oracle
        from benchmarks.speed.network import windows

        model = oracle.load(self.network, rows_at_a_time=None)
        part = self.float32_file.with_suffix(".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        # Two windows, since a traced batch of one would be taken for a constant.
        example = torch.from_numpy(windows(2, self.network.config.num_samples))
        with torch.inference_mode():
            torch.onnx.export(
                model,
                (example,),
                str(part),
                dynamo=False,
                opset_version=18,
                input_names=["windows"],
                output_names=["logits"],
                dynamic_axes={"windows": {0: "batch"}},
            )
        part.rename(self.float32_file)

    def load(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores()
        # Threads that wait for the next call would take the cores from the contender whose turn it is.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = onnxruntime.InferenceSession(str(self.file), options, providers=["CPUExecutionProvider"])

    def run(self, windows: np.ndarray) -> np.ndarray:
        return self._session.run(None, {"windows": windows})[0]


class ONNXRuntimeInt8(ONNXRuntime):
    """Weights of the matrix products in int8, activations quantised dynamically; convolutions in float32."""

    name, label = "onnxruntime-int8", "ONNX Runtime int8 (dynamic)"

    @property
    def file(self) -> Any:
        return self.float32_file.with_name("model-int8.onnx")

    def prepare(self) -> None:
        super().prepare()
        if self.file.exists():
            return
        from onnxruntime.quantization import QuantType, quantize_dynamic

        part = self.file.with_suffix(".part")
        quantize_dynamic(
            self.float32_file, part, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul"]
        )
        part.rename(self.file)


class OpenVINO(ONNXRuntime):
    """The same export as OpenVINO's own file, with a static shape for each batch size."""

    name, label = "openvino-float32", "OpenVINO float32"
    keeps_shapes = False

    @property
    def file(self) -> Any:
        return self.float32_file.with_name("model.xml")

    def prepare(self) -> None:
        super().prepare()
        if self.file.exists():
            return
        import openvino

        self.save(openvino.Core().read_model(self.float32_file))

    def save(self, model: Any) -> None:
        import openvino

        # The description last: where it exists, both files are complete.
        part = self.file.with_name(f"{self.file.stem}-part.xml")
        openvino.save_model(model, part, compress_to_fp16=False)
        part.with_suffix(".bin").rename(self.file.with_suffix(".bin"))
        part.rename(self.file)

    def load(self) -> None:
        import openvino

        self._core = openvino.Core()
        has_bfloat16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._precision = self.precision(has_bfloat16)
        self._source = self._core.read_model(self.file)

    def precision(self, has_bfloat16: bool) -> str:
        """OpenVINO's name of the precision of what is not quantized, given whether this CPU computes in bfloat16."""
        return "f32"

    def compile(self, batch: int, samples: int) -> None:
        self._compiled: Any = None  # one shape's copy of the weights at a time
        self._source.reshape([batch, samples])
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": self._precision,
            "INFERENCE_NUM_THREADS": cores(),
        }
        self._compiled = self._core.compile_model(self._source, "CPU", settings)

    def run(self, windows: np.ndarray) -> np.ndarray:
        return np.array(self._compiled(windows)[0])


class OpenVINOBFloat16(OpenVINO):
    name, label = "openvino-bfloat16", "OpenVINO bfloat16"

    def precision(self, has_bfloat16: bool) -> str:
        if not has_bfloat16:
            raise UnavailableError("this CPU has no bfloat16 instructions, so OpenVINO would compute in float32")
        return "bf16"


class OpenVINOInt8(OpenVINO):
    """The encoder and the bridge in int8, convolutions included, by NNCF's post-training quantization.

    The back-end is excluded, because NNCF 3.4 fails at its splines. Its SmoothQuant fails there as well, and takes no
    exclusions, so it is off. What is not quantized is in bfloat16 where the CPU has it, which was faster than float32.
    """

    name, label = "openvino-int8", "OpenVINO int8 (NNCF)"

    def precision(self, has_bfloat16: bool) -> str:
        return "bf16" if has_bfloat16 else "f32"

    @property
    def file(self) -> Any:
        return self.float32_file.with_name("model-int8.xml")

    def prepare(self) -> None:
        if self.file.exists():
            return
        # A missing NNCF is reported before minutes are spent on the export.
        import nncf
        import openvino

        from benchmarks.speed.network import calibration_windows

        ONNXRuntime.prepare(self)
        model = openvino.Core().read_model(self.float32_file)
        model.reshape([1, self.network.config.num_samples])
        calibration = calibration_windows(self.network.config.num_samples)
        quantized = nncf.quantize(
            model,
            nncf.Dataset([window[None] for window in calibration]),
            subset_size=len(calibration),
            model_type=nncf.ModelType.TRANSFORMER,
            target_device=nncf.TargetDevice.CPU,
            ignored_scope=nncf.IgnoredScope(patterns=[".*/aasist/.*"]),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1)
            ),
        )
        self.save(quantized)


CONTENDERS: dict[str, type[Contender]] = {
    contender.name: contender
    for contender in (
        OursFloat32,
        OursTF32,
        OursBFloat16,
        OursInt8,
        TorchFloat32,
        TorchAsWritten,
        TorchTF32,
        TorchBFloat16,
        TorchCompiled,
        ONNXRuntime,
        ONNXRuntimeInt8,
        OpenVINO,
        OpenVINOBFloat16,
        OpenVINOInt8,
        OursEncoder,
        TransformersEncoder,
    )
}
