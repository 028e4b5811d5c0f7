"""Trials shard by shard, with a limit on the bytes in the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spectra_jax import hub
from spectra_jax.data.labels import Labels, read_labels
from spectra_jax.data.sources import Trials
from spectra_jax.data.sources.arena import ORGANISATION
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from spectra_jax.reproduction.prepare import Prepared, check_disk_limit
from spectra_jax.reproduction.record import DatasetRecord, Sample, Shard
from spectra_jax.reproduction.sampling import FEWEST_SHARDS, draw_sample
from spectra_jax.reproduction.shards import ShardCache
from spectra_jax.reproduction.source import StreamedDataset
from tests.arena_datasets import labels_file
from tests.hub_stand_in import HubStandIn
from tests.reproduction.conftest import ROWS, files_of, repository

COMMIT = "2" * 40
NUM_SHARDS = 6
NUM_TRIALS = NUM_SHARDS * ROWS


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, hub_cache: Path, clips: list[bytes]) -> dict[str, bytes]:
    return files_of("SONAR", (clips * 2)[:NUM_TRIALS], [index % 3 % 2 for index in range(NUM_TRIALS)])


@pytest.fixture
def record(files: dict[str, bytes], tmp_path: Path) -> DatasetRecord:
    shards = tuple(Shard(name, len(content)) for name, content in sorted(files.items()) if "/test-" in name)
    return DatasetRecord(tmp_path / "SONAR.json", f"{ORGANISATION}/SONAR", "main", COMMIT, shards)


@pytest.fixture
def labels(files: dict[str, bytes], tmp_path: Path) -> Labels:
    (tmp_path / "labels.parquet").write_bytes(files["data/labels.parquet"])
    return read_labels(tmp_path / "labels.parquet")


@pytest.fixture
def server(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> HubStandIn:
    server = HubStandIn({repository("SONAR"): {COMMIT: files}})
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    return server


def cached(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("test-*"))


def test_a_scored_shard_is_deleted_and_not_fetched_to_skip_it(
    server: HubStandIn, record: DatasetRecord, labels: Labels, hub_cache: Path
) -> None:
    size = max(shard.num_bytes for shard in record.shards)
    source = StreamedDataset(record, labels, ShardCache(2 * size))
    with server:
        trials = source.read_trials(0)
        read = [next(trials).utterance_id for _ in range(ROWS + 1)]
        assert read == [f"SONAR_{index}" for index in range(ROWS + 1)]
        source.delete_scored(ROWS - 1)
        assert len(cached(hub_cache)) == 2, "a shard with a trial whose score is not written stays"
        source.delete_scored(ROWS)
        assert cached(hub_cache) == ["test-00001-of-00006.parquet"]
        for _ in range(ROWS):
            next(trials)
        # The second and third are there; their scores are not written, so the fourth does not fit.
        with pytest.raises(InputError, match=r"a shard of 0\.\d+ MB is needed beside shards of 0\.\d+ MB"):
            list(trials)

        server.requests.clear()
        again = StreamedDataset(_read(record), labels, ShardCache(2 * size))
        again.cache.add_record(again.record)
        assert next(iter(again.read_trials(2 * ROWS + 1))).utterance_id == f"SONAR_{2 * ROWS + 1}"
    assert not any("test-00000" in path or "test-00001" in path for path in server.requested("HEAD", "hub"))


def _read(record: DatasetRecord) -> DatasetRecord:
    """The record as the next session reads it."""
    found = DatasetRecord.read(record.path)
    assert found is not None and found.rows == record.rows and found.shards == record.shards
    return found


def test_shards_of_other_programs_stay_and_do_not_count(
    server: HubStandIn, record: DatasetRecord, labels: Labels, hub_cache: Path
) -> None:
    largest = max(shard.num_bytes for shard in record.shards)
    with server:
        list(StreamedDataset(record, labels, ShardCache(None)).read_trials(0))
        assert len(cached(hub_cache)) == NUM_SHARDS
        # As if another program had fetched them.
        record.downloaded.clear()
        source = StreamedDataset(record, labels, ShardCache(largest // 2))
        assert len(list(source.read_trials(0))) == NUM_TRIALS
        source.delete_scored(NUM_TRIALS)
    assert len(cached(hub_cache)) == NUM_SHARDS


def test_content_of_another_commit_stays(
    server: HubStandIn, record: DatasetRecord, labels: Labels, files: dict[str, bytes]
) -> None:
    other = "3" * 40
    server.repos[repository("SONAR")][other] = files
    first = record.shards[0]
    with server:
        kept = hub.fetch_dataset_file(record.dataset, other, first.name)
        source = StreamedDataset(record, labels, ShardCache(10**9))
        list(source.read_trials(0))
        source.delete_scored(NUM_TRIALS)
    assert kept.read_bytes() == files[first.name]
    assert not kept.parents[2].joinpath(COMMIT, first.name).exists()


def test_a_shard_that_another_program_fetches_after_its_deletion_stays(
    server: HubStandIn, record: DatasetRecord, labels: Labels, hub_cache: Path
) -> None:
    with server:
        source = StreamedDataset(record, labels, ShardCache(10**9))
        list(source.read_trials(0))
        source.delete_scored(NUM_TRIALS)
        assert not cached(hub_cache) and _read(record).downloaded == []
        assert not list(hub_cache.glob("*/blobs/*")), "their content too"
        hub.fetch_dataset_file(record.dataset, COMMIT, record.shards[0].name)
        again = StreamedDataset(_read(record), labels, ShardCache(10**9))
        again.cache.add_record(again.record)
        again.delete_scored(NUM_TRIALS)
    assert len(cached(hub_cache)) == 1


def test_a_label_that_differs_from_the_shard_is_an_error(
    server: HubStandIn, record: DatasetRecord, labels: Labels
) -> None:
    labels.bonafide[5] ^= True
    source = StreamedDataset(record, labels, ShardCache(None))
    with server, pytest.raises(InputError, match=r"has the label \w+ for SONAR_5, and data/test-00001.* one of them"):
        list(source.read_trials(0))


def test_ids_that_no_shard_has_are_an_error(
    server: HubStandIn, record: DatasetRecord, files: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "other.parquet").write_bytes(labels_file([f"other_{index}" for index in range(8)], [0, 1] * 4))
    source = StreamedDataset(record, read_labels(tmp_path / "other.parquet"), ShardCache(None))
    with server, pytest.raises(InputError, match="has a trial that was not listed before"):
        list(Trials([source]))


def test_a_sample_is_read_from_its_shards_only(server: HubStandIn, record: DatasetRecord, labels: Labels) -> None:
    ids = {
        "data/test-00002-of-00006.parquet": ["SONAR_9", "SONAR_11"],
        "data/test-00004-of-00006.parquet": ["SONAR_16"],
    }
    record.sample = Sample(3, 0, ids)
    source = StreamedDataset(record, labels, ShardCache(None))
    with server:
        assert [trial.utterance_id for trial in Trials([source])] == ["SONAR_9", "SONAR_11", "SONAR_16"]
        assert [trial.utterance_id for trial in source.read_trials(1)] == ["SONAR_11", "SONAR_16"]
        assert [trial.utterance_id for trial in source.read_trials(2)] == ["SONAR_16"]
    fetched = {path.rpartition("/")[2] for path in server.requested("HEAD", "hub")}
    assert fetched == {name.rpartition("/")[2] for name in ids}


def test_samples_have_each_label_in_proportion_from_few_shards(record: DatasetRecord, labels: Labels) -> None:
    shards = [Shard(f"data/test-{index}.parquet", 1) for index in range(50)]
    number = len(shards) * 100
    # Sorted by label: each shard has trials of one label only.
    many = Labels("many", np.array([f"t{index}" for index in range(number)], object), np.arange(number) < number // 10)
    listed = list(StreamedDataset(record, many, ShardCache(None)).list_trials())
    used: list[str] = []

    def draw(seed: int) -> Sample:
        used.clear()

        def list_shard(shard: Shard) -> list[Trial]:
            used.append(shard.name)
            index = shards.index(shard)
            return listed[100 * index : 100 * (index + 1)]

        return draw_sample(60, seed, shards, many, list_shard)

    for seed in range(5):
        sample = draw(seed)
        drawn = [identity for ids in sample.ids.values() for identity in ids]
        assert len(drawn) == len(set(drawn)) == 60
        assert sum(int(identity[1:]) < number // 10 for identity in drawn) == 6
        assert FEWEST_SHARDS <= len(used) < 50
        for name, ids in sample.ids.items():
            index = int(name.removeprefix("data/test-").removesuffix(".parquet"))
            assert ids == sorted(ids, key=lambda one: int(one[1:])) and {int(one[1:]) // 100 for one in ids} == {index}
        assert draw(seed) == sample
    assert draw(0) != draw(1)


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "SONAR.json"
    path.write_text('{"dataset": "x"}')
    with pytest.raises(InputError, match=r"is damaged .* Remove it"):
        DatasetRecord.read(path)


def test_a_limit_that_is_too_little_is_known_before(record: DatasetRecord, labels: Labels) -> None:
    prepared = Prepared("SONAR", record, labels, None)
    largest = max(shard.num_bytes for shard in record.shards)
    check_disk_limit(prepared, 3 * largest, ROWS)
    with pytest.raises(InputError, match="3 shards of it are needed at a time"):
        check_disk_limit(prepared, 2 * largest, ROWS)


def test_a_sample_needs_more_shards_at_a_time(record: DatasetRecord, labels: Labels) -> None:
    record.sample = Sample(NUM_SHARDS, 0, {shard.name: [f"SONAR_{i * ROWS}"] for i, shard in enumerate(record.shards)})
    prepared = Prepared("SONAR", record, labels, None)
    with pytest.raises(InputError, match="6 shards of it are needed at a time"):
        check_disk_limit(prepared, 3 * max(shard.num_bytes for shard in record.shards), ROWS)
