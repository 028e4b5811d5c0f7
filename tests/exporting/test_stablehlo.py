"""A network as a file that JAX runs without this package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import spectra_jax
from spectra_jax.checkpoints.load import load_model
from spectra_jax.errors import InputError
from spectra_jax.exporting.stablehlo import export_program
from spectra_jax.model.fold import fold_for_inference
from spectra_jax.model.spectra import SpectraAASIST3
from tests.conftest import golden_windows
from tests.published_detectors import random_checkpoint, small

ROOT = Path(__file__).parents[2]
ATOL = 1e-4

# Annotations such as "time//3" cannot be compared for symbolic sizes.
pytestmark = pytest.mark.usefixtures("annotations_unchecked", "unoptimized")


@pytest.fixture(scope="module")
def model() -> SpectraAASIST3:
    return spectra_jax.load("demo")


def windows(batch: int, num_samples: int = 40000) -> np.ndarray:
    return golden_windows([{"seed": seed, "samples": 20000} for seed in range(batch)])[:, :num_samples]


@pytest.mark.long
def test_files_run_without_this_package(model: SpectraAASIST3, tmp_path: Path) -> None:
    spectra_jax.export("demo", tmp_path / "detector")
    spectra_jax.export(model, tmp_path / "any-length", num_samples="t", platforms=("cpu",))
    spectra_jax.export(model.encoder, tmp_path / "encoder", batch=2)
    forward, params, rest = spectra_jax.split(fold_for_inference(model))
    network = jax.jit(forward)
    encode = jax.jit(lambda x: model.encoder(x))
    given = {f"detector/{batch}": windows(batch) for batch in (1, 3)}
    given |= {"any-length": windows(2, 4480), "encoder": windows(2, 1500)}
    np.savez(tmp_path / "windows.npz", **given)  # type: ignore[arg-type]
    # Most of the time is compiling.
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    program = ROOT / "tests" / "programs" / "run_exported.py"
    run = subprocess.run([sys.executable, program, tmp_path], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    with np.load(tmp_path / "outputs.npz") as outputs:
        assert set(outputs.files) == set(given)
        for key, x in given.items():
            expected = encode(x) if key.startswith("encoder") else network(params, rest, x)
            assert outputs[key].dtype == np.float32
            np.testing.assert_allclose(outputs[key], expected, rtol=0, atol=ATOL, err_msg=key)


def test_the_file_appears_complete_and_replaces_another(model: SpectraAASIST3, tmp_path: Path) -> None:
    path = tmp_path / "encoder"
    path.write_text("old")
    with pytest.raises(ValueError, match="nosuchplatform"):
        spectra_jax.export(model.encoder, path, platforms=("nosuchplatform",))
    assert path.read_text() == "old"
    written = spectra_jax.export(model.encoder, path, batch=1, platforms=("cpu",), num_samples=1000)
    assert [other.name for other in tmp_path.iterdir()] == ["encoder"]
    found = jax.export.deserialize(bytearray(path.read_bytes()))
    assert found.in_avals == written.in_avals
    assert found.in_avals[0].shape == (1, 1000)
    assert found.platforms == ("cpu",)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_platform_s_program_has_its_code_alone(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = spectra_jax.load("demo", precision).encoder
    # As on a machine with a GPU that has cuDNN's attention.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    texts = {
        platforms: export_program(encoder, "b", platforms, num_samples=2000).mlir_module()
        for platforms in [("cpu",), ("cuda",), ("cpu", "cuda", "tpu")]
    }
    assert {platforms: "stablehlo.case" in text for platforms, text in texts.items()} == {
        ("cpu",): False,
        ("cuda",): False,
        ("cpu", "cuda", "tpu"): True,
    }
    assert all("cudnn" not in text for text in texts.values())


def test_lengths_that_the_network_does_not_take(model: SpectraAASIST3) -> None:
    """Steps of three frames, 960 samples in the demo, from and to the lengths that the network takes."""
    exported = export_program(model, 1, ("cpu",), num_samples="steps")
    frames = model.config.encoder.num_frames
    lengths = [n for n in range(640, 43000, 960) if 3 <= frames(n) <= model.config.max_frames]
    assert 40000 in lengths and frames(lengths[0] - 960) < 3
    for length in (lengths[0], 40000, lengths[-1]):
        jax.eval_shape(exported.call, jax.ShapeDtypeStruct((1, length), np.float32))
    for length in (lengths[0] - 960, 40000 - 320, lengths[-1] + 960):
        with pytest.raises(ValueError, match="steps"):
            jax.eval_shape(exported.call, jax.ShapeDtypeStruct((1, length), np.float32))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(InputError, match=r"pip install 'spectra-jax\[export\]'"):
        spectra_jax.export("demo", tmp_path / "demo")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("annotations_unchecked")
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"batch": 0}, "batch = 0, but it must be a whole number of at least 1 or the name"),
        ({"batch": -1}, "batch = -1, but"),
        ({"batch": "b c"}, "batch = 'b c', but"),
        ({"batch": None}, "batch = None, but"),
        ({"batch": "t"}, "batch and num_samples are both 't'"),
        ({"num_samples": True}, "num_samples = True, but"),
        ({"platforms": "cpu"}, "platforms = 'cpu', but it must be a list of some of cpu, cuda, rocm, tpu"),
        ({"platforms": ()}, r"platforms = \(\), but"),
        ({"platforms": ("cpu", "gpu")}, "platforms = .*'gpu'.*, but"),
    ],
)
def test_sizes_and_platforms_that_are_not_valid(arguments: dict[str, Any], reason: str, model: SpectraAASIST3) -> None:
    with pytest.raises(ValueError, match=reason):
        export_program(model.encoder, **arguments)


@pytest.mark.usefixtures("annotations_unchecked")
def test_another_kind_of_model_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a SpectraAASIST3 or a SpeechEncoder, found int"):
        export_program(3)  # type: ignore[arg-type]


def test_ecapa_tdnn_is_exported_for_any_length(tmp_path: Path) -> None:
    model = load_model(random_checkpoint(small("ecapa-tdnn")))
    spectra_jax.export(model, tmp_path / "any-length", num_samples="t", platforms=("cpu",))
    program = jax.export.deserialize(bytearray((tmp_path / "any-length").read_bytes()))
    for batch, samples in ((1, 384 * 7 + 160), (3, 384 * 12 + 160)):  # the lengths are three frames apart
        x = np.random.default_rng(batch).standard_normal((batch, samples)).astype(np.float32)
        np.testing.assert_allclose(program.call(x), jax.jit(model)(x), rtol=0, atol=1e-5)
