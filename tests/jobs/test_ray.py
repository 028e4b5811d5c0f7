"""Scoring on a Ray cluster: a stage for Ray Data, and runs that two nodes score, one of which is killed."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from spectra_jax.data.sources import collect
from spectra_jax.data.trial import Trial
from spectra_jax.inference.scorer import Scorer
from spectra_jax.inference.windows import WindowPolicy
from spectra_jax.jobs import BulkRun, Store, read_part
from tests.cli.conftest import PROGRAM
from tests.waiting import wait_until

ray = pytest.importorskip("ray", reason="needs the extra `ray`")
pytestmark = [
    pytest.mark.slow,
    # Ray leaves sockets and files to the garbage collector, and its own dependencies warn.
    pytest.mark.filterwarnings("ignore"),
]

NUM_TRIALS, PART_SIZE = 250, 6


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for number in range(11):
        soundfile.write(folder / f"{number}.wav", np.random.default_rng(number).normal(size=4000) * 0.1, 16000)
    (folder / "3.wav").write_bytes(b"no audio")
    rows = [f"{number % 11}.wav,{number}\n" for number in range(NUM_TRIALS)]
    (folder / "m.csv").write_text("path,utterance_id\n" + "".join(rows))
    return folder / "m.csv"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each, so that an actor goes to each."""
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.second = cluster.add_node(num_cpus=1)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def actors() -> list[int]:
    """Processes of this machine that score parts."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"PartActor" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            pass
    return found


@pytest.mark.long
def test_a_stage_of_ray_data_scores_paths_and_bytes(manifest: Path, cluster: Any) -> None:
    from spectra_jax.jobs.ray import SpectraScorer

    ray.init(address=cluster.address, log_to_driver=False, logging_level="error", ignore_reinit_error=True)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows: list[dict[str, Any]] = [
        {"path": str(manifest.parent / f"{number}.wav"), "speaker": number} for number in range(5)
    ]
    scored = ray.data.from_items(rows).map_batches(
        SpectraScorer,
        fn_constructor_kwargs={"model": "demo", "batch_size": 5},
        batch_format="pyarrow",
        batch_size=5,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    found = sorted(scored.take_all(), key=lambda row: row["speaker"])
    scorer = Scorer("demo", batch_size=5)
    expected = list(scorer.score_trials([Trial(str(n), manifest.parent / f"{n}.wav") for n in range(5)]))
    for row, result in zip(found, expected, strict=True):
        assert (row["score"] is None) == (result.score is None)
        if result.score is not None:
            # On one device each, but Ray decides the order of the rows, and so the batches.
            assert row["score"] == pytest.approx(result.score, abs=1e-5)
        assert row["error"] == result.error
    assert "not an audio file" in found[3]["error"]
    stage = SpectraScorer("demo", batch_size=5)
    contents = [Path(row["path"]).read_bytes() for row in rows]
    scored_arrays = stage({"bytes": np.array(contents, object)})
    wanted = [np.nan if row["score"] is None else row["score"] for row in found]
    np.testing.assert_allclose(scored_arrays["score"], wanted, atol=1e-5)
    table = pa.table({"bytes": contents, "x": list(range(5))})
    named = stage(table)
    assert isinstance(named, pa.Table)
    assert named.column_names[:3] == ["bytes", "x", "score"]
    with pytest.raises(ValueError, match="a column `path` or `bytes`"):
        stage(pa.table({"audio": contents}))


def test_the_former_name_of_the_window_policy_works_with_a_warning() -> None:
    from spectra_jax.jobs.ray import SpectraScorer

    with pytest.warns(DeprecationWarning, match=r"listening=\.\.\.\) is now window_policy"):
        stage = SpectraScorer("demo", batch_size=1, listening=WindowPolicy(0.05, "mean"))
    noise = io.BytesIO()
    soundfile.write(noise, np.random.default_rng(0).normal(size=70_000) * 0.1, 16000, format="WAV")
    scored = stage({"bytes": np.array([noise.getvalue()], object)})
    assert isinstance(scored, dict)
    assert len(scored["window_scores"][0]) > 1


@pytest.mark.long
def test_a_node_is_killed_and_every_trial_is_scored_once(manifest: Path, cluster: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["score", "--model", "demo", "--batch-size", "3", "--part-size", str(PART_SIZE), "-o", f"{folder}/"]
    ray_words = ["--engine", "ray", "--address", cluster.address, str(manifest)]
    with subprocess.Popen([*PROGRAM, *words, *ray_words], stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(
                lambda: (
                    process.poll() is not None
                    or (len(actors()) == 2 and len(list(folder.glob("parts/*.parquet"))) >= 3)
                ),
                "two actors and three parts",
            )
            assert process.poll() is None, process.stderr and process.stderr.read()
            done = len(list(folder.glob("parts/*.parquet")))
            cluster.remove_node(cluster.second, allow_graceful=False)
            _, printed = process.communicate(timeout=300)
        finally:
            process.kill()
    parts = -(-NUM_TRIALS // PART_SIZE)
    assert done < parts - 1, "all was done before the node was killed, so the test tests nothing"
    skipped = len(range(3, NUM_TRIALS, 11))
    assert f"{NUM_TRIALS - skipped} of {NUM_TRIALS} trials scored, {skipped} skipped" in printed, printed
    assert process.returncode == 1
    rows = [row for part in range(parts) for row in read_part(Store(folder), part).to_pylist()]
    assert [row["utterance_id"] for row in rows] == [str(number) for number in range(NUM_TRIALS)]
    local = BulkRun(Store(tmp_path / "local"), collect([manifest]), Scorer("demo", batch_size=3), part_size=PART_SIZE)
    list(local)
    local.merge()
    assert (folder / "scores.txt").read_bytes() == (tmp_path / "local" / "scores.txt").read_bytes()


def test_what_a_cluster_cannot_do_is_refused(manifest: Path, tmp_path: Path) -> None:
    for words, complaint in {
        ("--engine", "ray"): "--engine ray is for runs into a folder",
        ("--engine", "ray", "-o", f"{tmp_path}/r/", "--process", "0/2"): "--process does not go with --engine ray",
        ("--engine", "ray", "-o", f"{tmp_path}/r/", "--batch-size", "auto"): "takes a number as --batch-size",
        ("--address", "auto", "-o", f"{tmp_path}/r/"): "--address and --actors are for --engine ray",
        (
            "--engine",
            "ray",
            "-o",
            f"{tmp_path}/r/",
            "--address",
            "127.0.0.1:1",
        ): "no Ray cluster responds at this address",
    }.items():
        run = subprocess.run(
            [*PROGRAM, "score", "--model", "demo", *words, str(manifest)], capture_output=True, text=True
        )
        assert run.returncode == 2
        assert complaint in run.stderr
