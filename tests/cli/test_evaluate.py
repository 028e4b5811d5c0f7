"""`evaluate`: other conventions, speaker verification, datasets without bona fide trials, and submissions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from spectra_jax.arena.result import check_result
from spectra_jax.arena.submission import check_submission
from spectra_jax.data.labels import read_labels
from spectra_jax.data.sources.arena import ORGANISATION
from tests.arena_datasets import STATED, labels_file
from tests.conftest import spectra
from tests.hub_stand_in import HubStandIn

INPUTS = Path(__file__).parents[1] / "inputs" / "tables"
SCORES, KEY = INPUTS / "s.txt", INPUTS / "p21la.txt"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def spoofs(tmp_path: Path) -> Path:
    """Scores of the key's spoofed trials alone, and their labels."""
    names = [line.split()[1] for line in KEY.read_text().splitlines() if line.split()[5] == "spoof"]
    lines = [line for line in SCORES.read_text().splitlines() if line.split()[0] in names]
    (tmp_path / "spoofs.txt").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "labels.parquet").write_bytes(labels_file(names, [1] * len(names)))
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    def run(*words: object, status: int = 0) -> pytest.CaptureFixture[str]:
        assert spectra(monkeypatch, "evaluate", *words, "--resamples", 0) == status, capsys.readouterr().err
        return capsys.readouterr()  # type: ignore[return-value]

    return run  # type: ignore[return-value]


def test_the_convention_of_asvspoof_takes_the_subset_eval(run: Any) -> None:
    asked = [SCORES, "--labels", KEY, "--convention", "asvspoof", "--by", "attack,codec"]
    printed = run(*asked)
    assert "p21la.txt: takes the subset eval (12 trials), as ASVspoof does" in printed.err
    assert "EER in % by attack and codec" in printed.out and "by the convention of ASVspoof" in printed.out
    numbers = json.loads(run(*asked, "--json").out)
    assert (numbers["convention"], numbers["subsets"]) == ("asvspoof", {"eval": 12})
    assert numbers["cross_tables"]["attack,codec"]["alaw"]["A07"]["n_spoof"] == 9
    assert json.loads(run(*asked, "--json", "--subset", "progress").out)["subsets"] == {"progress": 16}


def test_with_scores_of_speaker_verification(run: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    keys = ["target", "nontarget", "spoof"] * 20
    scores = random.normal([{"target": 3, "nontarget": 0, "spoof": 2}[key] for key in keys], 1)
    trials = list(enumerate(zip(keys, scores, strict=True)))
    (tmp_path / "2019.txt").write_text("".join(f"x {key} {score}\n" for _, (key, score) in trials))
    (tmp_path / "2021.txt").write_text("".join(f"s u{index} {score}\n" for index, (_, score) in trials))
    (tmp_path / "key.txt").write_text("".join(f"s u{index} c t x {key} n eval\n" for index, (key, _) in trials))
    asked = [SCORES, "--labels", KEY, "--convention", "asvspoof", "--json"]
    found = json.loads(run(*asked, "--asv", tmp_path / "2019.txt").out)["tandem"]
    other = json.loads(run(*asked, "--asv", tmp_path / "2021.txt", "--asv-key", tmp_path / "key.txt").out)["tandem"]
    assert found | {"asv_name": ""} == other | {"asv_name": ""} and 0 < found["min_tdcf_2021"] < 1
    shown = run(*asked[:-1], "--asv", tmp_path / "2019.txt").out
    assert "min t-DCF, 2021 and 5" in shown and "t-EER, concurrent" in shown and "a-DCF of ASV alone" in shown
    assert "--asv-key is the key of" in run(*asked, "--asv-key", tmp_path / "key.txt", status=2).err


def test_a_dataset_without_bonafide_trials(run: Any, spoofs: Path) -> None:
    asked = [spoofs / "spoofs.txt", "--labels", spoofs / "labels.parquet"]
    assert "has no bona fide trials, and so no EER: give one threshold" in " ".join(run(*asked, status=2).err.split())
    printed = run(*asked, "--threshold-from", SCORES, KEY)
    assert "s.txt: an EER of 3.333 % at the threshold 0.366673" in printed.err
    assert "spoofs accepted at the threshold 0.366673" in printed.out and "3.333 %" in printed.out
    numbers = json.loads(run(*asked, "--threshold", "0.5", "--json").out)
    assert (numbers["n_spoof"], numbers["threshold"]) == (30, 0.5)
    assert "leave out --cluster" in run(*asked, "--threshold", "0.5", "--cluster", "x", status=2).err
    assert numbers["rounded_to_six_decimals"] is True
    numbers = json.loads(run(*asked, "--threshold-from", SCORES, KEY, "--convention", "asvspoof", "--json").out)
    assert numbers["rounded_to_six_decimals"] is False, "the challenges do not round"


def test_a_threshold_from_another_dataset_is_one_more_threshold(run: Any) -> None:
    asked = [SCORES, "--labels", KEY, "--threshold", "0.5", "--threshold-from", SCORES, KEY, "--json"]
    thresholds = [rates["threshold"] for rates in json.loads(run(*asked).out)["thresholds"]]
    assert thresholds == [0.5, pytest.approx(0.36667266666666665)]


def test_a_submission_lists_what_is_missing(run: Any, tmp_path: Path) -> None:
    result = tmp_path / "r.yaml"
    printed = run(SCORES, "--labels", KEY, "--result", result, "--dataset", "InTheWild", "--slug", "mine", status=2)
    assert printed.out == "" and not result.exists()
    options = ("system", "description", "code", "checkpoint", "revision", "scores-url", "bench-version", "contact")
    for option in (*options, "hf-username"):
        assert f"\n  --{option}: " in printed.err, option
    assert "--slug:" not in printed.err
    assert "InTheWild has 31,779 trials, and p21la.txt 40: its labels are fetched without --labels" in printed.err
    for more in (["--subset", "eval"], ["--match", "stem"]):
        printed = run(SCORES, "--labels", KEY, "--result", result, *more, status=2)
        assert "leave out --subset and --match" in " ".join(printed.err.split())
    printed = run(SCORES, "--labels", KEY, "--result", result, "--convention", "asvspoof", status=2)
    assert "leave out --convention" in printed.err
    printed = run(SCORES, "--labels", KEY, "--result", result, "--exact", status=2)
    assert "leave out --exact" in printed.err


def test_a_submission(run: Any, tmp_path: Path) -> None:
    (tmp_path / "meta.yaml").write_text("system: {name: Meta, trained_on: [org/a], params_millions: 0.3}\nnotes: n\n")
    asked = [SCORES, "--labels", KEY, "--result", tmp_path / "r.yaml", "--dataset", "DeepVoice", *STATED]
    run(*asked, "--revision", COMMIT, "--system", "Mine")
    content = yaml.safe_load((tmp_path / "r.yaml").read_text())
    assert check_submission(content) == [] and check_result(content, SCORES, read_labels(KEY)) == []
    assert content["dataset"] == {"id": f"{ORGANISATION}/DeepVoice", "revision": COMMIT, "split": "test"}
    assert (content["schema_version"], content["system"]["name"]) == (4, "Mine")
    run(*asked, "--revision", COMMIT, "--submission-meta", tmp_path / "meta.yaml")
    content = yaml.safe_load((tmp_path / "r.yaml").read_text())
    assert check_submission(content) == [] and (content["schema_version"], content["notes"]) == (5, "n")
    assert (content["system"]["name"], content["system"]["trained_on"]) == ("Meta", ["org/a"])


def test_labels_of_a_dataset_on_the_hub(
    run: Any, spoofs: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"data/labels.parquet": (spoofs / "labels.parquet").read_bytes()}
    asked = [spoofs / "spoofs.txt", "--dataset", "LRLspoof", "--threshold-from", SCORES, KEY]
    assert "no revision of it is pinned here" in run(*asked, status=2).err
    assert "'main' is not a commit, and may move; state" in run(*asked, "--revision", "main", status=2).err
    submission = ["--result", spoofs / "r.yaml", "--threshold-dataset", "DeepVoice", "--system", "Mine", *STATED]
    with HubStandIn({"datasets/lab260/LRLspoof": {COMMIT: files}}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        run(*asked, "--revision", COMMIT, *submission)
    content = yaml.safe_load((spoofs / "r.yaml").read_text())
    assert check_submission(content) == [] and content["scores"]["srr_complement"] == pytest.approx(10 / 3)
    assert content["dataset"]["id"] == "lab260/LRLspoof" and content["dataset"]["revision"] == COMMIT
    threshold = {"source_dataset": f"{ORGANISATION}/DeepVoice", "threshold": 0.36667266666666665}
    assert content["calibration"] == pytest.approx(threshold)
