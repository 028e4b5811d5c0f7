"""The Arena: model interface, datasets as input, result files, and its reported figures, offline."""

from __future__ import annotations

import io
import json
import socket
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml

from spectra_jax import hub
from spectra_jax.arena import SpectraAASIST3, reported, result
from spectra_jax.data.labels import Labels
from spectra_jax.data.sources import Trials, collect
from spectra_jax.data.sources import arena as dataset
from spectra_jax.data.trial import Trial
from spectra_jax.errors import AudioError, HubError, InputError
from spectra_jax.evaluation import metrics
from spectra_jax.inference.scorer import Scorer
from tests.conftest import spectra
from tests.golden import recipe
from tests.hub_stand_in import HubStandIn
from tests.tolerances import LOGITS

NAME = f"{dataset.ORGANISATION}/InTheWild"
COMMIT = dataset.PINNED["InTheWild"]


def flac(seed: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, recipe.waveform(seed, 9000), 16000, format="FLAC")
    return file.getvalue()


def row(index: int, **changed: object) -> dict:
    audio = {"bytes": flac(index), "path": f"{index}.flac"}
    notes = json.dumps({"utterance_id": f"trial_{index}", "attack": "A01"})
    return {"path": f"{index}.flac", "audio": audio, "label": index % 2, "notes": notes} | changed


SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "audio": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "label": pa.int8(),
        "notes": pa.string(),
    }
)


def shard(rows: list[dict]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file, row_group_size=3)
    return file.getvalue()


def labels_file(ids: list[str], labels: list[int]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"utterance_id": ids, "label": pa.array(labels, pa.int8())}), file)
    return file.getvalue()


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """Seven trials in two shards; the fourth has no clip."""
    folder = tmp_path / "InTheWild"
    (folder / "data").mkdir(parents=True)
    rows = [row(index) for index in range(7)]
    rows[3]["audio"] = None
    (folder / "data" / "test-00000-of-00002.parquet").write_bytes(shard(rows[:4]))
    (folder / "data" / "test-00001-of-00002.parquet").write_bytes(shard(rows[4:]))
    (folder / "data" / "labels.parquet").write_bytes(labels_file([f"trial_{i}" for i in range(7)], [0, 1] * 3 + [0]))
    return folder


# The model interface


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> SpectraAASIST3:
    monkeypatch.setenv("SPECTRA_JAX_MODEL", "demo")
    monkeypatch.setenv("SPECTRA_JAX_BATCH_SIZE", "3")
    return SpectraAASIST3()


def test_the_model_interface(demo: SpectraAASIST3) -> None:
    assert (demo.expected_sample_rate, demo.batch_size, demo.name) == (16000, 3, "Spectra-AASIST3 (spectra-jax)")
    demo.load()
    clips = [recipe.waveform(seed, 9000 + seed).astype(np.float32) / 32768 for seed in range(3)]
    whole = demo.score_batch(clips, [16000] * 3)
    assert all(isinstance(score, float) for score in whole) and len(set(whole)) == 3
    for k in (1, 2):
        np.testing.assert_allclose(demo.score_batch(clips[:k], [16000] * k), whole[:k], atol=LOGITS["float32"])
    with pytest.raises(AudioError, match="clip 1 of the batch"):
        demo.score_batch([clips[0], np.full(900, np.nan, np.float32)], [16000] * 2)
    demo.unload()
    np.testing.assert_allclose(demo.score_batch(clips, [16000] * 3), whole, atol=LOGITS["float32"])


def test_configured_by_class_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(SpectraAASIST3):
        model = "mine"
        batch_size = 24
        certify = True

    assert (Mine().model, Mine().batch_size, Mine().certify, Mine().precision) == ("mine", 24, True, "float32")
    monkeypatch.setenv("SPECTRA_JAX_PRECISION", "bfloat16")
    monkeypatch.setenv("SPECTRA_JAX_CERTIFY", "0")
    assert (Mine().precision, Mine().certify) == ("bfloat16", False)
    monkeypatch.setenv("SPECTRA_JAX_BATCH_SIZE", "many")
    with pytest.raises(ValueError, match="SPECTRA_JAX_BATCH_SIZE='many'"):
        Mine()
    assert SpectraAASIST3.model == hub.PUBLISHED


def test_subclasses_the_real_base_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    package, module = types.ModuleType("speech_spoof_bench"), types.ModuleType("speech_spoof_bench.model")

    class AntiSpoofingModel:
        pass

    module.AntiSpoofingModel = AntiSpoofingModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "speech_spoof_bench", package)
    monkeypatch.setitem(sys.modules, "speech_spoof_bench.model", module)
    for name in [name for name in sys.modules if name == "spectra_jax.arena"]:
        monkeypatch.delitem(sys.modules, name)
    import importlib

    again = importlib.import_module("spectra_jax.arena")
    assert issubclass(again.SpectraAASIST3, AntiSpoofingModel)
    assert not issubclass(SpectraAASIST3, AntiSpoofingModel)


# Datasets


def test_a_local_dataset_is_an_input(local: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert spectra(monkeypatch, "score", "--model", "demo", local, "--output", tmp_path / "s.jsonl") == 1
    rows = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [r["utterance_id"] for r in rows] == [f"trial_{i}" for i in range(7)]
    assert [r["label"] for r in rows] == ["bonafide", "spoof"] * 3 + ["bonafide"]
    assert [i for i, r in enumerate(rows) if r["error"]] == [3] and "neither bytes nor a path" in rows[3]["error"]
    (tmp_path / "5.flac").write_bytes(flac(5))
    (alone,) = Scorer("demo").score_trials([Trial("x", tmp_path / "5.flac")])
    assert rows[5]["score"] == pytest.approx(alone.score, abs=LOGITS["float32"])


def test_clips_are_read_as_they_are_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "_ROWS", 2)
    (tmp_path / "test-0.parquet").write_bytes(shard([row(index) for index in range(9)]))
    trials = collect([tmp_path])
    assert isinstance(trials, Trials) and len(trials) == 9
    assert all(trial.content is None for trial in trials.listed())
    held: list[int] = []
    real = pq.ParquetFile.iter_batches

    def counted(self: pq.ParquetFile, *given: object, **how: object) -> Iterator[pa.RecordBatch]:
        for batch in real(self, *given, **how):
            held.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    for place, trial in enumerate(trials):
        assert trial.utterance_id == f"trial_{place}" and trial.content == flac(place)
        assert max(held) <= 2 and sum(held) <= place + 2, "one small batch at a time, and none ahead"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(0, notes="{}")], "1 row that are no trials:\n  row 0: notes '{}' without an utterance_id"),
        ([row(0, notes=None)], "notes None without"),
        ([row(0), row(1, label=7)], "row 1: label 7 of 'trial_1'"),
        ([row(0, label=None)], "label None"),
        ([row(0), row(0)], "1 utterance id shared by several trials"),
    ],
)
def test_says_what_is_wrong_with_rows(tmp_path: Path, rows: list[dict], message: str) -> None:
    (tmp_path / "test-0.parquet").write_bytes(shard(rows))
    with pytest.raises(InputError) as caught:
        collect([tmp_path])
    assert message in str(caught.value)


def test_other_parquet_files(tmp_path: Path) -> None:
    (tmp_path / "test-0.parquet").write_bytes(shard([row(0)])[:-20])
    with pytest.raises(InputError, match="not a readable parquet file"):
        collect([tmp_path])
    (tmp_path / "test-0.parquet").write_bytes(labels_file(["a"], [0]))
    with pytest.raises(InputError, match="no column `path`; it has: utterance_id, label"):
        collect([tmp_path / "test-0.parquet"])


# The Hub


@pytest.fixture
def stand_in(local: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    files = {f"data/{path.name}": path.read_bytes() for path in (local / "data").iterdir()}
    newer = {"README.md": b"moved", **files}
    repos = {f"datasets/{NAME}": {COMMIT: {"README.md": b"# data", **files}, "main": newer}}
    with HubStandIn(repos) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def test_a_dataset_of_the_hub(stand_in: HubStandIn) -> None:
    trials = collect([NAME])
    asked = [request.path for request in stand_in.requests if "test-0" in request.path]
    assert len(trials) == 7 and asked == [], "listed by labels.parquet alone, at the pinned revision"
    found = list(trials)
    assert [trial.content for trial in found][5] == flac(5) and found[3].problem is not None
    assert all(f"/resolve/{COMMIT}/" in request.path for request in stand_in.requests if "/resolve/" in request.path)
    assert len(collect([f"hf://datasets/{NAME}@main"])) == 7
    stand_in.repos.clear()
    assert len(list(collect([NAME]))) == 7, "a commit in the cache needs no Hub"


def test_dropped_garbled_and_missing(stand_in: HubStandIn) -> None:
    stand_in.drop("data/test-00001-of-00002.parquet", after=100)
    assert len(list(collect([NAME]))) == 7, "the client goes on where it was cut off"
    stand_in.repos[f"datasets/{NAME}"]["main"]["data/labels.parquet"] = labels_file(["other"], [0])
    stand_in.garble("data/labels.parquet")
    with pytest.raises(HubError, match=r"data/labels.parquet .* has sha256"):
        collect([f"{NAME}@main"])
    with pytest.raises(HubError, match="shows no repository"):
        collect([f"{dataset.ORGANISATION}/Nothing"])
    stand_in.status = 503
    with pytest.raises(HubError, match="503"):
        collect([f"{NAME}@main"])


def test_a_shard_that_is_not_as_listed(stand_in: HubStandIn) -> None:
    repo = stand_in.repos[f"datasets/{NAME}"]
    repo["main"]["data/labels.parquet"] = labels_file(["trial_0"], [0])
    with pytest.raises(InputError, match="not listed before, or twice: trial_1"):
        list(collect([f"{NAME}@main"]))
    repo["other"] = {"data/train.parquet": b""}
    with pytest.raises(InputError, match=r"no data/test-[*].parquet in it, but 1 other files"):
        collect([f"{NAME}@other"])


# Results


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Path, Labels]:
    random = np.random.default_rng(0)
    bonafide = np.arange(50) < 20
    ids = np.array([f"t{i}" for i in range(50)], object)
    values = random.normal(bonafide * 1.5)
    path = tmp_path / "scores.txt"
    # The last one was skipped.
    path.write_text("".join(f"{i} {v:.6f}\n" for i, v in zip(ids[:49], values[:49], strict=True)))
    return path, Labels("labels.parquet", ids, bonafide)


SYSTEM = {"name": "Mine", "slug": "mine-1", "code": "https://example.org/mine"}


def test_result_yaml(scored: tuple[Path, Labels], tmp_path: Path) -> None:
    scores, labels = scored
    content = result.result(scores, labels, NAME, system=SYSTEM, notes="über")
    result.write(content, tmp_path / "result.yaml")
    again = yaml.safe_load((tmp_path / "result.yaml").read_text())
    assert again == content and list(again) == list(content)
    assert (again["schema_version"], again["dataset"]["revision"]) == (4, COMMIT)
    assert (again["scores"]["n_trials"], again["scores"]["n_skipped"]) == (50, 1)
    assert again["system"]["paper"] is None and again["artifact"]["scores_url"] is None
    values = {line.split()[0]: float(line.split()[1]) for line in scores.read_text().splitlines()}
    people, machines = ([values[f"t{i}"] for i in part] for part in (range(20), range(20, 49)))
    assert again["scores"]["eer_percent"] == 100 * metrics.eer(people, machines).rate
    assert result.check(again, scores, labels) == []
    scores.write_text(scores.read_text() + "\n")
    again["scores"] |= {"n_skipped": 0, "eer_percent": again["scores"]["eer_percent"] + 2e-6}
    assert len(result.check(again, scores, labels)) == 3


def test_results_that_cannot_be(scored: tuple[Path, Labels], tmp_path: Path) -> None:
    scores, labels = scored
    with pytest.raises(InputError, match="slug 'Mine!'"):
        result.result(scores, labels, NAME, system={"slug": "Mine!"})
    with pytest.raises(InputError, match="its own format"):
        result.result(tmp_path / "s.csv", labels, NAME, system=SYSTEM)
    fewer = Labels("fewer", labels.utterance_ids[:40], labels.bonafide[:40])
    with pytest.raises(InputError, match="9 trials that fewer does not have:\n  t40"):
        result.result(scores, fewer, NAME, system=SYSTEM)


# Reported figures


def test_reported_figures(scored: tuple[Path, Labels], hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = scored
    eer = result.result(scores, labels, NAME, system=SYSTEM)["scores"]["eer_percent"]
    listed = labels_file(list(labels.utterance_ids), [int(not b) for b in labels.bonafide])
    data = {"data/labels.parquet": listed}
    published = {
        f".eval_results/{dataset.ORGANISATION}/{name}/scores.txt": scores.read_bytes()
        for name in ("InTheWild", "SONAR")
    }
    repos = {
        f"datasets/{NAME}": {COMMIT: data},
        f"datasets/{dataset.ORGANISATION}/SONAR": {"main": data},
        hub.PUBLISHED: {hub.PUBLISHED_REVISION: {"config.json": b"{}", **published}},
    }
    table = {"InTheWild": (repr(eer), 50), "SONAR": (f"{eer + 0.01:.2f}", 49), "CFAD": ("0.71", 62_999)}
    monkeypatch.setattr(reported, "REPORTED", table)
    with HubStandIn(repos) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        right, wrong, absent = reported.verify_reported()
    assert (right.problem, right.difference, right.revision, right.trials) == (None, 0.0, COMMIT, 49)
    assert (right.missing, right.unknown) == (1, 0), "a skipped trial is one of those reported, and no problem"
    assert wrong.problem is not None and "the EER comes to" in wrong.problem and wrong.revision == "main"
    assert "50 trials, 1 without a score, where 49 are reported" in wrong.problem
    assert absent.recomputed is None and absent.problem is not None and "shows no repository" in absent.problem
    with pytest.raises(InputError, match="nothing is reported for X"):
        reported.verify_reported(["X"])


def test_reported_figures_out_of_reach_are_one_line(
    scored: tuple[Path, Labels], hub_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert spectra(monkeypatch, "verify", "--reported") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"not verified: {', '.join(reported.REPORTED)}: the Hub client is offline (HF_HUB_OFFLINE is set), and the "
        f"cache ({hub_cache}) does not have their files. Unset HF_HUB_OFFLINE to fetch them.\n"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert spectra(monkeypatch, "verify", "--reported", "SONAR", "CFAD") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("not verified: SONAR, CFAD: http://127.0.0.1:") and "Connection refused" in line


def test_a_reported_figure_that_differs_is_a_sentence_below_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = {"revision": "main", "reported": "0.44", "tolerance": 5e-3}
    sentence = "a sentence of many words that would be folded into a column of a word or two " * 3
    rows = [
        reported.Recomputed("SONAR", recomputed=0.44, trials=9, problem=None, **facts),
        reported.Recomputed("CFAD", recomputed=None, trials=None, problem=sentence, **facts),
        reported.Recomputed("CD-ADD", recomputed=None, trials=None, problem="x", unreachable="why", **facts),
    ]
    monkeypatch.setattr(reported, "verify_reported", lambda names: rows)
    monkeypatch.setenv("COLUMNS", "80")
    assert spectra(monkeypatch, "verify", "--reported") == 1
    printed = capsys.readouterr()
    assert f"CFAD: {sentence.strip()}" in " ".join(printed.out.split())
    assert printed.err == "not verified: CD-ADD: why.\n"


def test_the_command_writes_a_result(
    scored: tuple[Path, Labels], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, labels = scored
    (tmp_path / "labels.parquet").write_bytes(
        labels_file(list(labels.utterance_ids), [int(not bonafide) for bonafide in labels.bonafide])
    )
    asked = ["evaluate", scores, "--labels", tmp_path / "labels.parquet", "--common", "--resamples", 0]
    wanted = ["--result", tmp_path / "result.yaml", "--dataset", NAME, "--system", "Mine"]
    assert spectra(monkeypatch, *asked, *wanted) == 2
    assert "--result needs" in capsys.readouterr().err
    assert spectra(monkeypatch, *asked, *wanted, "--slug", "mine-1") == 0
    content = yaml.safe_load((tmp_path / "result.yaml").read_text())
    assert result.check(content, scores, labels) == [] and content["system"]["name"] == "Mine"
