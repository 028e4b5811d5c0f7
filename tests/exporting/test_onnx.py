"""ONNX files: the logits of the network, its metadata, and what is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import soundfile

from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.load import load_model
from spectra_jax.checkpoints.resolve import load
from spectra_jax.convert import convert
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.exporting.onnx import write_onnx
from spectra_jax.verification import OnnxReference, verify
from tests.conftest import GOLDEN, expected, golden_windows, spectra
from tests.golden import recipe
from tests.tolerances import LOGITS

needs_converter = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("jax2onnx", "onnx", "onnxruntime")),
    reason="needs the extras `onnx` and `verify` (jax2onnx, onnxruntime)",
)
WAVEFORMS = expected("tiny")["waveforms"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network, converted by the command."""
    path = tmp_path_factory.mktemp("onnx") / "new" / "tiny.onnx"
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert spectra(monkeypatch, "convert", GOLDEN / "tiny", path) == 0
    return path


def model_proto(path: Path) -> Any:
    import onnx

    onnx.checker.check_model(str(path), full_check=True)
    return onnx.load(str(path))


@needs_converter
@pytest.mark.slow
def test_the_logits_are_those_of_the_network_in_any_batch_size(tiny: Path, tiny_checkpoint: Checkpoint) -> None:
    windows = golden_windows(WAVEFORMS)
    reference = np.array([row["logits_float64"] for row in WAVEFORMS])
    found = OnnxReference(tiny).logits(windows)
    np.testing.assert_allclose(found, reference, rtol=0, atol=LOGITS["float32"])
    one = np.concatenate([OnnxReference(tiny).logits(window[None]) for window in windows])
    np.testing.assert_allclose(one, reference, rtol=0, atol=LOGITS["float32"])
    ours = np.asarray(jax.jit(load_model(tiny_checkpoint))(windows))
    np.testing.assert_allclose(found, ours, rtol=0, atol=LOGITS["float32"])


@needs_converter
@pytest.mark.long
@pytest.mark.parity
def test_it_agrees_with_the_export_of_pytorch(tiny: Path, tmp_path: Path) -> None:
    """Both files, held against the network by `verify`, and against each other."""
    pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")
    from tests.verification.pytorch_reference import export, write_reference

    exported = export(write_reference(tmp_path / "reference"))
    trials = []
    for row in WAVEFORMS:
        clip = tmp_path / f"seed_{row['seed']}.wav"
        soundfile.write(clip, recipe.waveform(row["seed"], row["samples"]), recipe.SAMPLE_RATE)
        trials.append(Trial(clip.stem, clip))
    results = [
        verify(GOLDEN / "tiny", OnnxReference(path), trials, batch_size=3, tolerance=LOGITS["float32"], resamples=0)
        for path in (tiny, exported)
    ]
    for result in results:
        assert result.comparison.agrees, result.comparison.verdict
        assert len(result.theirs) == len(WAVEFORMS)
    windows = golden_windows(WAVEFORMS)
    ours, theirs = (OnnxReference(path).logits(windows) for path in (tiny, exported))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=LOGITS["float32"])


@needs_converter
@pytest.mark.slow
def test_the_file_states_its_input_and_its_origin(tiny: Path, tiny_checkpoint: Checkpoint) -> None:
    model = model_proto(tiny)
    (windows,), (logits,) = model.graph.input, model.graph.output
    assert [(value.name, [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]) for value in
            (windows, logits)] == [("windows", ["b", 64600]), ("logits", ["b", 2])]  # fmt: skip
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert (metadata["sample_rate"], metadata["num_samples"], metadata["preemphasis"]) == ("16000", "64600", "0.97")
    assert metadata["source_sha256"] == tiny_checkpoint.sha256()
    assert {"config", "converter_version", "score"} <= set(metadata)


@needs_converter
@pytest.mark.long
def test_a_fixed_batch_size_and_weights_in_a_second_file(tmp_path: Path) -> None:
    demo = load("demo")
    path = tmp_path / "demo.onnx"
    write_onnx(demo, path, 2, external_data=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["demo.onnx", "demo.onnx.data"]
    assert (tmp_path / "demo.onnx.data").stat().st_size > path.stat().st_size
    length = demo.config.num_samples
    windows = np.stack([recipe.preprocess(recipe.waveform(seed, length), length) for seed in range(3)])
    found = OnnxReference(path).logits(windows)
    np.testing.assert_allclose(found, jax.jit(demo)(windows), rtol=0, atol=1e-5)
    assert model_proto(path).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    path.unlink()
    with pytest.raises(FileExistsError, match=r"demo\.onnx\.data"):
        write_onnx(demo, path, 2, external_data=True)
    assert [file.name for file in tmp_path.iterdir()] == ["demo.onnx.data"]


@needs_converter
@pytest.mark.slow
def test_the_command_replaces_no_file(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tiny.stat()
    assert spectra(monkeypatch, "convert", "demo", tiny, "--to", "onnx") == 2
    assert "exists already" in capsys.readouterr().err
    assert tiny.stat() == before


@needs_converter
def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "used.onnx").touch()
    with pytest.raises(FileExistsError, match=r"used\.onnx exists already"):
        write_onnx(load("demo"), tmp_path / "used.onnx")
    for precision in ("bfloat16", "int8"):
        with pytest.raises(InputError, match=f"a network in {precision} cannot be written as ONNX; load it in float32"):
            write_onnx(load("demo", precision), tmp_path / "demo.onnx")
    with pytest.raises(ValueError, match=r"model: the onnx format is one file; choose a name that ends in \.onnx"):
        convert("demo", tmp_path / "model", "onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["used.onnx"]


def test_a_missing_extra_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"install `spectra-jax\[onnx\]`, which brings jax2onnx"):
        convert("demo", tmp_path / "demo.onnx")
    assert not any(tmp_path.iterdir())
