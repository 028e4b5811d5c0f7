"""Verification against ONNX, PyTorch and published scores: the same network agrees, a wrong one is told where."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file, save_file

from spectra_jax import hub
from spectra_jax.data.score_files import Scores
from spectra_jax.data.sources import collect
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.inference.scorer import Scorer
from spectra_jax.verification import (
    OnnxReference,
    Reference,
    TorchReference,
    reference_file,
    sample,
    verify,
    verify_scores,
)
from tests.conftest import GOLDEN, spectra
from tests.golden import recipe
from tests.hub_stand_in import HubStandIn

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")

pytestmark = pytest.mark.parity

TINY = GOLDEN / "tiny"
ROOT = Path(__file__).parents[2]
# The oracle as a reference that somebody might publish.
CODE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.oracle.spectra_torch import SpectraAASIST3

def build(config):
    return SpectraAASIST3(config)
"""
# A weight of each part of the network, and the stage at which making it wrong first shows.
BUGS = {
    "bridge.mlp.3.weight": "bridge",
    "ssl_encoder.model.encoder.layers.1.feed_forward.output_dense.bias": "ssl.layer1",
    # Small at first: 2e-4 of the stage's rms.
    "aasist.branch3.HtrgGAT_layer_ST1.att_projM.base_weight": "branch3.st1.2",
}


def write_reference(folder: Path, wrong: str | None = None) -> Path:
    tensors = dict(load_file(TINY / "model.safetensors"))
    if wrong is not None:
        tensors[wrong] = tensors[wrong] * 1.5
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    shutil.copyfile(TINY / "config.json", folder / "config.json")
    (folder / "reference.py").write_text(CODE)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    """Twelve clips, among them one whose ranking nearly ties, and one that holds nothing."""
    folder = tmp_path_factory.mktemp("clips")
    for seed in range(1, 11):
        soundfile.write(folder / f"seed_{seed:02d}.wav", recipe.waveform(seed, 32300), 16000)
    (folder / "empty.wav").touch()
    rows = "".join(f"{p.name},{'bonafide' if i % 3 else 'spoof'}\n" for i, p in enumerate(sorted(folder.glob("*.wav"))))
    (folder / "trials.csv").write_text("path,label\n" + rows)
    return list(collect([folder / "trials.csv"]))


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reference(tmp_path_factory.mktemp("torch") / "reference")


def test_a_right_torch_module_agrees_in_float64(clips: list[Trial], right: Path) -> None:
    reference = TorchReference(right, run_code=True, float64=True)
    found = verify(TINY, reference, clips, precision="float64", tolerance=1e-9, gap_bound=0.0, resamples=50)
    assert found.comparison.agrees and found.divergence is None, found.comparison.verdict
    assert list(found.skipped) == ["empty"] and len(found.ours) == 10
    numbers = found.comparison.numbers
    assert numbers["max_difference"] < 1e-9 and numbers["eer_percent"][0] == numbers["eer_percent"][1]


@pytest.mark.slow
@pytest.mark.parametrize("weight", BUGS)
def test_a_wrong_weight_is_located_in_torch(clips: list[Trial], tmp_path: Path, weight: str) -> None:
    reference = TorchReference(write_reference(tmp_path / "wrong", weight), run_code=True)
    found = verify(TINY, reference, clips[:4], tolerance=1e-6, gap_bound=0.0, resamples=0)
    assert not found.comparison.agrees
    assert found.divergence is not None and found.divergence.first == BUGS[weight]
    before = [stage for stage in found.divergence.stages if not stage.departs]
    assert before and max(stage.error for stage in before) < 1e-4


def export(folder: Path, batch: int | None = None) -> Path:
    """The older exporter's model of a reference, in the form that exporters know."""
    import warnings

    from benchmarks.speed import oracle

    model = oracle.as_written(folder)
    for module in model.modules():
        if isinstance(module, oracle.spectra_torch.GraphPool):
            module.__class__ = oracle.TopKPool
        elif isinstance(module, oracle.spectra_torch.KANLinear):
            module.__class__ = oracle.ClosedFormKANLinear
            module.rows_at_a_time = None
            module.first_knot, module.spacing = (float(x) for x in (module.grid[0, 0], module.grid[0].diff()[0]))
    windows = torch.from_numpy(
        np.stack([recipe.preprocess(recipe.waveform(seed, 32300)) for seed in range(batch or 2)])
    )
    how = {} if batch else {"dynamic_axes": {"wav": {0: "batch"}}}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (windows,),
            str(folder / "model.onnx"),
            dynamo=False,
            opset_version=18,
            input_names=["wav"],
            output_names=["logits"],
            **how,
        )
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def exported(right: Path) -> Path:
    pytest.importorskip("onnxruntime", reason="needs the extra `verify` (onnx, onnxruntime)")
    return export(right)


@pytest.mark.slow
def test_a_right_export_agrees_but_for_near_ties(clips: list[Trial], exported: Path) -> None:
    reference = OnnxReference(exported)
    found = verify(TINY, reference, clips, batch_size=3, resamples=0)
    assert found.comparison.agrees, found.comparison.verdict
    windows = np.stack([recipe.preprocess(recipe.waveform(1, 32300))])
    # A branch's two outputs and what it hands its pools have no names of their own in an export.
    located = set(reference.stages(windows))
    assert {"ssl.feature_projection", "ssl.layer0", "ssl.last_hidden_state", "bridge", "residual_encoder"} <= located
    assert {"attention", "gat_s", "pool_s", "gat_t", "pool_t", "branch1.pool_s", "branch4.pool_t"} <= located


@pytest.mark.long
@pytest.mark.slow
def test_a_wrong_weight_is_located_in_onnx(clips: list[Trial], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra `verify` (onnx, onnxruntime)")
    folder = write_reference(tmp_path / "wrong", "aasist.GAT_layer_T.att_proj.base_weight")
    # With a batch that the export has fixed, which three clips do not fill; ours in float64, the export's in float32.
    found = verify(
        TINY, OnnxReference(export(folder, batch=2)), clips[:4], precision="float64", gap_bound=0.0, resamples=0
    )
    assert found.divergence is not None and found.divergence.first == "gat_t"


class Jumping(Reference):
    """Our own network, with jumps at chosen clips."""

    name = "jumping"

    def __init__(self, jumps: dict[int, float]):
        self._scorer = Scorer(TINY, batch_size=8, diagnostics=True)
        self._jumps, self._seen = jumps, 0

    def logits(self, windows: np.ndarray) -> np.ndarray:
        logits = self._scorer.logits(windows).copy()
        for place in range(len(windows)):
            logits[place, 1] += self._jumps.get(self._seen + place, 0.0)
        self._seen += len(windows)
        return logits

    def stages(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        return {}


@pytest.mark.long
@pytest.mark.slow
def test_a_near_tie_is_no_bug(clips: list[Trial]) -> None:
    gaps = verify(TINY, Jumping({}), clips, resamples=0).ours.rank_gaps
    assert gaps is not None
    near, far = int(gaps.argmin()), int(gaps.argmax())
    bound = float(np.sort(gaps)[:2].mean())
    tie = verify(TINY, Jumping({near: 0.01}), clips, gap_bound=bound, resamples=0)
    assert tie.comparison.agrees and tie.comparison.numbers["n_explained"] == 1
    bug = verify(TINY, Jumping({far: 0.01}), clips, gap_bound=bound, resamples=0)
    assert not bug.comparison.agrees and bug.divergence is not None and bug.divergence.first is None


def test_published_scores(clips: list[Trial]) -> None:
    results = [result for result in Scorer(TINY).score_trials(clips) if result.score is not None]
    ids = np.array([result.trial.utterance_id for result in results], object)
    values = np.round([result.score for result in results], 6)
    published = Scores("scores.txt", ids, values)
    found = verify_scores(TINY, published, clips, resamples=0)
    assert found.comparison.agrees and found.skipped == {"empty": found.skipped["empty"]}
    values = values.copy()
    values[4] += 0.5
    fewer = Scores("scores.txt", ids[1:], values[1:])
    found = verify_scores(TINY, fewer, clips, gap_bound=0.0, resamples=0)
    assert list(found.comparison.utterance_ids[found.comparison.unexplained]) == [ids[4]]
    assert "no score in scores.txt" in found.skipped[ids[0]]


def test_a_sample_has_each_label_in_its_share() -> None:
    trials = [Trial(str(i), Path("x"), "spoof" if i % 10 else "bonafide") for i in range(1000)]
    drawn = sample(trials, 200, seed=0)
    assert len(drawn) == 200 and sum(int(name) % 10 == 0 for name in drawn) == 20
    assert drawn == sample(trials, 200, seed=0) != sample(trials, 200, seed=1)
    assert len(sample(trials, 5000, seed=0)) == 1000
    assert len(sample([*trials, Trial("rare", Path("x"))], 10, seed=0) & {"rare"}) == 1


def test_refuses(right: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"reference.py is Python code.*--run-reference-code"):
        TorchReference(right, run_code=False)
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
    (folder / "reference.py").write_text(CODE)
    save_file({"one": np.ones(1, np.float32)}, folder / "model.safetensors")
    with pytest.raises(InputError, match="cannot be built: RuntimeError"):
        TorchReference(folder, run_code=True)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be built: JSONDecodeError"):
        TorchReference(folder, run_code=True)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"no config[.]json"):
        TorchReference(folder, run_code=True)


def test_refuses_what_is_no_onnx_model_of_it(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra `verify` (onnx, onnxruntime)")
    onnx = pytest.importorskip("onnx", reason="needs the extra `verify` (onnx, onnxruntime)")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    with pytest.raises(InputError, match="no such file"):
        OnnxReference(tmp_path / "none.onnx")
    (tmp_path / "cut.onnx").write_bytes(b"\x08\x08\x12")
    with pytest.raises(InputError, match="no ONNX model"):
        OnnxReference(tmp_path / "cut.onnx")

    def write(shape: list) -> Path:
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


@pytest.fixture
def stand_in(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with HubStandIn({"org/model": {"main": {hub.PUBLISHED_ONNX: b"onnx"}}}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def test_an_export_of_the_hub(stand_in: HubStandIn, tmp_path: Path) -> None:
    assert reference_file("org/model").read_bytes() == b"onnx"
    stand_in.repos[hub.PUBLISHED] = {hub.PUBLISHED_REVISION: {hub.PUBLISHED_ONNX: b"another"}}
    with pytest.raises(hub.HubError, match=r"spectra-aasist3.onnx .* has sha256 .* where 5f05c29a"):
        reference_file(hub.PUBLISHED)
    with pytest.raises(hub.HubError, match=r"has no spectra-aasist3[.]onnx"):
        stand_in.repos["org/bare"] = {"main": {"config.json": b"{}"}}
        reference_file("org/bare")
    with pytest.raises(InputError, match="no such file, nor the id"):
        reference_file(str(tmp_path / "gone.onnx"))


def test_the_command(
    clips: list[Trial], right: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = clips[0].path.parent / "trials.csv"
    asked = ["verify", manifest, "--model", TINY, "--against", f"torch:{right}", "--resamples", 0, "--sample", 4]
    assert spectra(monkeypatch, *asked) == 2
    assert "--run-reference-code" in capsys.readouterr().err
    assert spectra(monkeypatch, *asked, "--run-reference-code", "--precision", "float64", "--json") == 0
    assert json.loads(capsys.readouterr().out)["agrees"] is True
    written = tmp_path / "trials.csv"
    asked = [*asked, "--run-reference-code", "--output", written]
    assert spectra(monkeypatch, *asked) == 0
    rows = list(csv.DictReader(written.read_text().splitlines()))
    assert len(rows) == 4 - ("empty" in capsys.readouterr().err)
    assert all(abs(float(row["difference"])) < 1e-4 and float(row["smallest_rank_gap"]) > 0 for row in rows)
    for wrong in (["--against", "pickle:x"], ["--reported", "--against", "scores:x"], []):
        assert spectra(monkeypatch, "verify", manifest, *wrong) == 2
    assert spectra(monkeypatch, "verify", "--reported", "Nothing") == 2
    assert "nothing is reported for Nothing" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_shows_where(
    clips: list[Trial], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = write_reference(tmp_path / "wrong", "bridge.mlp.3.weight")
    manifest = clips[0].path.parent / "trials.csv"
    asked = ["verify", manifest, "--model", TINY, "--against", f"torch:{wrong}", "--run-reference-code"]
    assert spectra(monkeypatch, *asked, "--gap-bound", 0) == 1
    shown = capsys.readouterr()
    assert (
        "The first stage that departs is bridge; everything compared before it, up to ssl.last_hidden_state"
        in shown.out
    )
    assert "skipped empty" in shown.err
