"""Datasets in the Arena's layout as inputs, local or of the Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spectra_jax.data.sources import Trials, collect
from spectra_jax.data.sources import arena as dataset
from spectra_jax.data.trial import Trial
from spectra_jax.errors import HubError, InputError
from spectra_jax.inference.scorer import Scorer
from tests.arena_datasets import COMMIT, NAME, flac, labels_file, row, shard
from tests.conftest import spectra
from tests.hub_stand_in import HubStandIn
from tests.tolerances import LOGITS


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
    monkeypatch.setattr(dataset, "ROWS_WITH_CLIPS", 2)
    (tmp_path / "test-0.parquet").write_bytes(shard([row(index) for index in range(9)]))
    trials = collect([tmp_path])
    assert isinstance(trials, Trials) and len(trials) == 9
    assert all(trial.content is None for trial in trials.without_content())
    held: list[int] = []
    real = pq.ParquetFile.iter_batches

    def counted(self: pq.ParquetFile, *given: object, **how: object) -> Iterator[pa.RecordBatch]:
        for batch in real(self, *given, **how):
            held.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    for index, trial in enumerate(trials):
        assert trial.utterance_id == f"trial_{index}" and trial.content == flac(index)
        assert max(held) <= 2 and sum(held) <= index + 2, "one small batch at a time, and none ahead"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(0, notes="{}")], "1 row without a valid trial:\n  row 0: notes '{}' without an utterance_id"),
        ([row(0, notes=None)], "notes None without"),
        ([row(0), row(1, label=7)], "row 1: label 7 of 'trial_1'"),
        ([row(0, label=None)], "label None"),
        ([row(0), row(0)], "1 utterance id shared by several trials"),
    ],
)
def test_says_what_is_wrong_with_rows(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    (tmp_path / "test-0.parquet").write_bytes(shard(rows))
    with pytest.raises(InputError) as caught:
        collect([tmp_path])
    assert message in str(caught.value)


def test_other_parquet_files(tmp_path: Path) -> None:
    (tmp_path / "test-0.parquet").write_bytes(shard([row(0)])[:-20])
    with pytest.raises(InputError, match="not a readable parquet file"):
        collect([tmp_path])
    (tmp_path / "test-0.parquet").write_bytes(labels_file(["a"], [0]))
    with pytest.raises(InputError, match="no column `path`; it has utterance_id, label"):
        collect([tmp_path / "test-0.parquet"])


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
    repo["labels"] = {"data/labels.parquet": labels_file(["trial_0"], [1])}
    with pytest.raises(InputError, match=r"a dataset with labels only.* evaluate the scores with --dataset"):
        collect([f"{NAME}@labels"])
