"""Reported EERs, recomputed from a stand-in for the Hub, and the command that prints them."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from spectra_jax import hub
from spectra_jax.arena import reported
from spectra_jax.arena.result import make_result
from spectra_jax.data.labels import Labels
from spectra_jax.data.sources import arena as dataset
from spectra_jax.errors import InputError
from tests.arena_datasets import COMMIT, NAME, SYSTEM, labels_file
from tests.conftest import spectra
from tests.hub_stand_in import HubStandIn


def test_reported_figures(scored: tuple[Path, Labels], hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = scored
    eer = make_result(scores, labels, NAME, system=SYSTEM).scores.eer_percent
    assert eer is not None
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
    assert wrong.problem is not None and "the EER is" in wrong.problem and wrong.revision == "main"
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
    facts: dict[str, Any] = {"revision": "main", "reported": "0.44", "tolerance": 5e-3}
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
