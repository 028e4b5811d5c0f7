"""Nine small datasets in the Arena's layout on a stand-in for the Hub, with published scores of the demo network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from spectra_jax import hub
from spectra_jax.arena.reported import REPORTED
from spectra_jax.data.sources.arena import ORGANISATION, PINNED
from spectra_jax.evaluation import metrics
from spectra_jax.inference.scorer import Scorer
from tests.arena_datasets import flac, labels_file, row, shard
from tests.hub_stand_in import HubStandIn

NUM_TRIALS = 12
ROWS = 4
"""Of one shard."""
LARGE = "CFAD"
FIRST_COMMIT = "1" * 40
"""Of the datasets without a pinned revision."""


def repository(name: str) -> str:
    """A dataset as the stand-in names it."""
    return f"datasets/{ORGANISATION}/{name}"


def published(name: str) -> str:
    """The file with its published scores."""
    return f".eval_results/{ORGANISATION}/{name}/scores.txt"


def files_of(name: str, clips: list[bytes], labels: list[int]) -> dict[str, bytes]:
    """A dataset's files."""
    number = len(clips) // ROWS
    rows = [
        row(
            index,
            audio={"bytes": clip, "path": f"{index}.flac"},
            label=label,
            notes=json.dumps({"utterance_id": f"{name}_{index}"}),
        )
        for index, (clip, label) in enumerate(zip(clips, labels, strict=True))
    ]
    files = {
        f"data/test-{index:05d}-of-{number:05d}.parquet": shard(rows[ROWS * index : ROWS * (index + 1)])
        for index in range(number)
    }
    ids = [f"{name}_{index}" for index in range(len(clips))]
    return {**files, "data/labels.parquet": labels_file(ids, labels), "eval.yaml": b"metrics: [eer]\n"}


@pytest.fixture(scope="package")
def clips() -> list[bytes]:
    return [flac(seed) for seed in range(NUM_TRIALS)]


@pytest.fixture(scope="package")
def demo_scores(clips: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The demo network's scores of the clips."""
    folder = tmp_path_factory.mktemp("clips")
    audios = []
    for index, clip in enumerate(clips):
        (folder / f"{index}.flac").write_bytes(clip)
        audios.append(soundfile.read(folder / f"{index}.flac", dtype="float32")[0])
    return Scorer("demo", batch_size=4).score_batch(audios, [16000] * len(audios))


@pytest.fixture
def benchmark(
    clips: list[bytes], demo_scores: list[float], hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HubStandIn]:
    """The stand-in with nine good datasets, whose reported EERs are those of the demo network."""
    repos: dict[str, dict[str, dict[str, bytes]]] = {hub.PUBLISHED: {hub.PUBLISHED_REVISION: {}}}
    for number, name in enumerate(list(REPORTED)):
        # One is larger, so that several parts are complete before its last shard is reached.
        times = 4 if name == LARGE else 1
        labels = list(np.random.default_rng(number).permutation([0, 1] * (NUM_TRIALS * times // 2)).tolist())
        files = files_of(name, clips * times, labels)
        commit = PINNED.get(name, FIRST_COMMIT)
        repos[repository(name)] = {commit: files} if name in PINNED else {commit: files, "main": dict(files)}
        lines = [f"{name}_{index} {score:.6f}\n" for index, score in enumerate(demo_scores * times)]
        repos[hub.PUBLISHED][hub.PUBLISHED_REVISION][published(name)] = "".join(lines).encode()
        rounded, bonafide = np.array([float(line.split()[1]) for line in lines]), np.array(labels) == 0
        eer = 100 * metrics.eer(rounded[bonafide], rounded[~bonafide]).rate
        monkeypatch.setitem(REPORTED, name, (f"{eer:.3f}", len(labels)))
    # The client's waits between retries.
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda _: None))
    with HubStandIn(repos) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
