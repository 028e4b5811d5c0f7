"""`spectra-jax reproduce` from end to end, on nine small datasets of which some are not as they should be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from spectra_jax import hub
from spectra_jax.arena.reported import REPORTED
from spectra_jax.data.sources.arena import ORGANISATION
from spectra_jax.jobs.scorer_options import ScorerOptions
from spectra_jax.reproduction import Settings, reproduce
from tests.arena_datasets import labels_file
from tests.conftest import spectra
from tests.hub_stand_in import HubStandIn
from tests.reproduction.conftest import FIRST_COMMIT, NUM_TRIALS, files_of, published, repository

OPTIONS = ["--model", "demo", "--part-size", 4, "--batch-size", 4, "--resamples", 50, "--json"]


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, dict[str, Any], list[str]]:
    """Run the command: its exit status, its figures by dataset, and the lines on standard error."""
    capsys.readouterr()
    status = spectra(monkeypatch, "reproduce", *words, *OPTIONS)
    printed = capsys.readouterr()
    figures = json.loads(printed.out)["datasets"] if printed.out else []
    return status, {one["dataset"]: one for one in figures}, printed.err.splitlines()


def fetched_shards(server: HubStandIn, name: str) -> list[str]:
    """The shards of a dataset that the client has fetched, by the requests for their metadata."""
    paths = [path for path in server.requested("HEAD", "hub") if f"/{name}/" in path]
    return [path.rpartition("/")[2] for path in paths if "/test-" in path]


def cached_shards(cache: Path, name: str) -> list[str]:
    return sorted(path.name for path in cache.glob(f"datasets--{ORGANISATION}--{name}/snapshots/*/data/test-*"))


@pytest.mark.slow
def test_nine_datasets_of_which_some_are_bad(
    benchmark: HubStandIn,
    clips: list[bytes],
    hub_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # One has a wrong label file, one is gated, one was removed at its pinned revision, one connection breaks, one clip
    # is not audio, and one file of published scores is absent.
    ids = [f"SONAR_{index}" for index in range(NUM_TRIALS)]
    for files in benchmark.repos[repository("SONAR")].values():
        files["data/labels.parquet"] = labels_file(ids, [0] + [1] * (NUM_TRIALS - 1))
    benchmark.gated[repository("CVoiceFake_small")] = set()
    removed = benchmark.repos[repository("ASVspoof2019_LA")]
    removed["main"] = removed.pop(next(iter(removed)))
    broken = benchmark.repos[repository("CFAD")]
    for files in broken.values():
        files["data/test-broken.parquet"] = files.pop("data/test-00011-of-00012.parquet")
    benchmark.drop("data/test-broken.parquet", after=10, times=None)
    damaged = benchmark.repos[repository("ASVspoof2021_DF")]
    for files in damaged.values():
        labels = [1, 0] * (NUM_TRIALS // 2)
        files |= files_of("ASVspoof2021_DF", [b"no audio", *clips[1:]], labels)
    monkeypatch.setitem(REPORTED, "ASVspoof2021_DF", ("50.0", NUM_TRIALS))
    del benchmark.repos[hub.PUBLISHED][hub.PUBLISHED_REVISION][published("ASVspoof2021_LA")]

    output = tmp_path / "run"
    status, found, lines = run(monkeypatch, capsys, "--output", output, "--disk-limit", "10MB")
    assert status == 1 and list(found) == list(REPORTED)
    good = {"CD-ADD", "LibriSeVoc", "InTheWild", "ASVspoof2021_LA"}
    assert {name for name, one in found.items() if one["problem"] is None} == good
    for name in good:
        one = found[name]
        assert one["reproduced"] and abs(one["ours"]["difference"]) < 1e-3, name
        assert one["ours"]["interval"][0] <= float(one["reported"]) <= one["ours"]["interval"][1], name
        assert one["ours"]["num_without_score"] == 0 and one["near_ties"] is not None and one["hours"] > 0, name
        assert cached_shards(hub_cache, name) == [], "scored shards are deleted"
    assert found["CD-ADD"]["recomputed"] == pytest.approx(float(found["CD-ADD"]["reported"]), abs=1e-3)
    assert found["ASVspoof2021_LA"]["recomputed"] is None and "published scores" in found["ASVspoof2021_LA"]["notes"][0]
    few = found["ASVspoof2021_DF"]
    assert few["ours"]["num_without_score"] == 1 and "could not be scored" in few["problem"] and not few["reproduced"]

    problems = {name: [line for line in lines if line.startswith(f"{name}: not reproduced: ")] for name in found}
    assert {name: len(own) for name, own in problems.items() if own} == dict.fromkeys(
        ("SONAR", "CVoiceFake_small", "CFAD", "ASVspoof2019_LA"), 1
    )
    assert "data/labels.parquet has the label" in problems["SONAR"][0]
    assert "is gated" in problems["CVoiceFake_small"][0]
    assert "ASVspoof2019_LA@main takes the present files" in problems["ASVspoof2019_LA"][0]
    assert "test-broken.parquet" in problems["CFAD"][0]
    (completed,) = re.findall(r"\((\d+) of 12 parts scored; the same command resumes", found["CFAD"]["problem"])
    assert 0 < int(completed) < 12
    page = (output / "reproduction.html").read_text()
    assert "is gated" in page and found["CD-ADD"]["reported"] in page
    assert json.loads((output / "reproduction.json").read_text())["passed"] is False

    # The connection holds, `main` of one dataset has moved meanwhile, and the bad ones are left out.
    benchmark.heal()
    moved = benchmark.repos[repository("LibriSeVoc")]
    moved["main"] = {**moved["main"], "eval.yaml": b"new"}
    benchmark.requests.clear()
    names = [*sorted(good), "CFAD"]
    status, found, lines = run(monkeypatch, capsys, *names, "--output", output, "--disk-limit", "10MB")
    assert status == 0 and all(one["reproduced"] for one in found.values())
    assert set(fetched_shards(benchmark, "CFAD")) == {"test-broken.parquet"}, "only what is neither scored nor cached"
    assert not any(fetched_shards(benchmark, name) for name in good)
    assert found["LibriSeVoc"]["revision"] == FIRST_COMMIT
    assert "main has moved to" in found["LibriSeVoc"]["notes"][0]
    scores = (output / "CFAD" / "scores.txt").read_text().split()
    assert scores[::2] == [f"CFAD_{index}" for index in range(4 * NUM_TRIALS)]


@pytest.mark.slow
def test_a_sample_and_another_system(
    benchmark: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    scores = benchmark.repos[hub.PUBLISHED][hub.PUBLISHED_REVISION][published("SONAR")]
    (mine / "SONAR.txt").write_bytes(scores)
    words = ["SONAR", "CFAD", "--sample", 6, "--mine", mine, "--bench-version", "0.4.0"]
    assert spectra(monkeypatch, "reproduce", *words[:2], "--plan", *OPTIONS, "--output", tmp_path / "run") == 0
    table = capsys.readouterr().out
    assert re.search(r"│ CFAD +│ 111111111111 │ 0.00 │ +48 │ +0 │", table) and re.search(r"│ all .*│ +60 │", table)
    assert not (tmp_path / "run" / "SONAR").exists()
    # Nothing was scored for the plan, so that a sample may follow it.
    status, found, _ = run(monkeypatch, capsys, *words, "--output", tmp_path / "run")
    assert status == 0
    for one in found.values():
        assert one["ours"]["num_trials"] == 6 and one["expected"] == one["recomputed"] != None  # noqa: E711
        assert one["ours"]["eer_percent"] == pytest.approx(one["recomputed"], abs=1e-3)
    assert found["SONAR"]["mine"]["eer_percent"] == found["SONAR"]["recomputed"]
    assert found["CFAD"]["mine"] is None and "has no scores of CFAD" in found["CFAD"]["notes"][0]
    record = json.loads((tmp_path / "run" / "reproduction.json").read_text())
    assert record["bench_version"] == "0.4.0" and record["sample"] == 6

    # In Python, without an observer.
    scorer = ScorerOptions("demo", batch_size=4, diagnostics=True)
    silent = reproduce(Settings(tmp_path / "run", scorer, sample=6, resamples=50, part_size=4, score=False), ["SONAR"])
    assert silent is not None and silent.passed
    assert silent.results[0].ours is not None
    assert silent.results[0].ours.to_dict() == found["SONAR"]["ours"]

    # The same command evaluates without a request for a shard; another sample is refused.
    benchmark.requests.clear()
    again, same, _ = run(monkeypatch, capsys, *words, "--output", tmp_path / "run", "--no-score")
    assert (again, same) == (0, found) and not fetched_shards(benchmark, "SONAR")
    words[3] = 8
    status, _, lines = run(monkeypatch, capsys, *words, "--output", tmp_path / "run", "--no-score")
    assert status == 2 and "was started with --sample 6 --seed 0 at main" in lines[0]


def test_offline_each_dataset_is_one_line(
    hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert spectra(monkeypatch, "reproduce", "--output", tmp_path / "run") == 2
    printed = capsys.readouterr()
    assert printed.out == "" and not (tmp_path / "run").exists()
    lines = printed.err.splitlines()
    assert [line.partition(": not reproduced: The Hub client is offline")[0] for line in lines] == list(REPORTED)


def test_an_unknown_dataset_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert spectra(monkeypatch, "reproduce", "X", "--output", tmp_path / "run") == 2
    assert "nothing is reported for X; reported are CD-ADD, SONAR" in capsys.readouterr().err
