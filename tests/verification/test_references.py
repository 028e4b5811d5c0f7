"""References: PyTorch modules and ONNX exports that are refused, and exports from the Hub."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from spectra_jax import hub
from spectra_jax.errors import InputError
from spectra_jax.verification import (
    OnnxReference,
    TorchReference,
    reference_file,
)
from tests.hub_stand_in import HubStandIn
from tests.verification.pytorch_reference import CODE, write_reference

pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")

pytestmark = pytest.mark.parity


def test_a_pytorch_reference_is_refused_with_the_reason(correct_reference: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"reference.py is Python code.*--run-reference-code"):
        TorchReference(correct_reference, run_code=False)
    folder = write_reference(tmp_path / "broken")
    (folder / "reference.py").write_text("raise RuntimeError('no')")
    with pytest.raises(InputError, match="fails when it is run: RuntimeError: no"):
        TorchReference(folder, run_code=True)
    (folder / "reference.py").write_text("import beside\nbuild = beside.build")
    (folder / "beside.py").write_text(
        "import torch\nclass Wrong(torch.nn.Module):\n    def forward(self, x): return (x,)\n"
        "    def load_state_dict(self, *_, **__): pass\nbuild = lambda config: Wrong()"
    )
    with pytest.raises(InputError, match="the reference fails: AttributeError"):
        TorchReference(folder, run_code=True).logits(np.zeros((1, 64600), np.float32))
    (folder / "reference.py").write_text("build = 3")
    with pytest.raises(InputError, match=r"defines no `build\(config\)`"):
        TorchReference(folder, run_code=True)
    shutil.copyfile(CODE, folder / "reference.py")
    save_file({"one": np.ones(1, np.float32)}, folder / "model.safetensors")
    with pytest.raises(InputError, match="cannot be built: RuntimeError"):
        TorchReference(folder, run_code=True)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be built: JSONDecodeError"):
        TorchReference(folder, run_code=True)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"no config[.]json"):
        TorchReference(folder, run_code=True)


def test_an_onnx_reference_is_refused_with_the_reason(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra `verify` (onnx, onnxruntime)")
    onnx = pytest.importorskip("onnx", reason="needs the extra `verify` (onnx, onnxruntime)")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    with pytest.raises(InputError, match="no such file"):
        OnnxReference(tmp_path / "none.onnx")
    (tmp_path / "cut.onnx").write_bytes(b"\x08\x08\x12")
    with pytest.raises(InputError, match="not an ONNX model"):
        OnnxReference(tmp_path / "cut.onnx")

    def write(shape: list[int | str]) -> Path:
        values = [helper.make_tensor_value_info(name, kind, shape) for name in ("wav", "logits")]
        graph = helper.make_graph([helper.make_node("Relu", ["wav"], ["logits"])], "g", values[:1], values[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.save(model, tmp_path / "other.onnx")
        return tmp_path / "other.onnx"

    with pytest.raises(InputError, match="takes wav tensor"):
        OnnxReference(write([1, 1, 64600]))
    windows = np.zeros((1, 64600), np.float32)
    with pytest.raises(InputError, match="takes windows of 16,000 samples, and ours have 64,600"):
        OnnxReference(write([1, 16000])).logits(windows)
    with pytest.raises(InputError, match="not two logits each"):
        OnnxReference(write(["batch", 64600])).logits(windows)


def test_an_export_from_the_hub_is_checked(stand_in: HubStandIn, tmp_path: Path) -> None:
    assert reference_file("org/model").read_bytes() == b"onnx"
    stand_in.repos[hub.PUBLISHED] = {hub.PUBLISHED_REVISION: {hub.PUBLISHED_ONNX: b"another"}}
    with pytest.raises(hub.HubError, match=r"spectra-aasist3.onnx .* has sha256 .* where 5f05c29a"):
        reference_file(hub.PUBLISHED)
    stand_in.repos["lab260/spectra_0"] = {"main": {"model.onnx": b"another name"}}
    assert reference_file("lab260/spectra_0").read_bytes() == b"another name"
    with pytest.raises(hub.HubError, match=r"has no spectra-aasist3[.]onnx"):
        stand_in.repos["org/bare"] = {"main": {"config.json": b"{}"}}
        reference_file("org/bare")
    with pytest.raises(InputError, match="no such file, nor the id"):
        reference_file(str(tmp_path / "gone.onnx"))
