"""The options of `spectra-jax score`, and which of them exclude each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from spectra_jax.cli.score_options import NetworkOptions, RunOptions, ScoreOptions
from spectra_jax.errors import InputError
from tests.cli.conftest import CLIPS
from tests.conftest import spectra

NETWORK = NetworkOptions("demo", "float32", "8", "all", False, False, False)
RUN = RunOptions(1000, None, False, None, None, "local", None, None)
DEFAULTS: dict[str, Any] = {
    "inputs": ["clips/"],
    "output": None,
    "ids": "stem",
    "max_clip_bytes": 2**30,
    "escape_ids": False,
    "calibration": None,
    "spoof_prior": 0.5,
    "windows": None,
    "aggregate": None,
}


def options(**given: Any) -> ScoreOptions:
    """The defaults, but for what is given to any of the three groups of options."""
    network = {name: given.pop(name) for name in list(given) if name in NetworkOptions.__annotations__}
    run = {name: given.pop(name) for name in list(given) if name in RunOptions.__annotations__}
    return ScoreOptions(
        network=NetworkOptions(**vars(NETWORK) | network), run=RunOptions(**vars(RUN) | run), **DEFAULTS | given
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"process": "0/2"}, "--process is for runs into a folder"),
        ({"max_errors": 0, "output": "s.txt"}, "--max-errors is for runs into a folder"),
        ({"accept_changed": True}, "--accept-changed is for runs into a folder"),
        ({"distributed": "auto"}, "--distributed is for runs into a folder"),
        ({"engine": "ray"}, "--engine ray is for runs into a folder"),
        ({"process": "2/2", "output": "run/"}, "--process 2/2: I/N is expected"),
        ({"process": "one", "output": "run/"}, "--process one: I/N is expected"),
        ({"distributed": "127.0.0.1:1", "output": "run/"}, "with an address, --process I/N has to state"),
        ({"engine": "ray", "process": "0/2", "output": "run/"}, "--process does not go with --engine ray"),
        ({"engine": "ray", "distributed": "auto", "output": "run/"}, "--distributed does not go with --engine ray"),
        ({"engine": "ray", "batch_size": "auto", "output": "run/"}, "takes a number as --batch-size"),
        ({"engine": "ray", "devices": "1", "output": "run/"}, "one device for each actor"),
        ({"address": "auto", "output": "run/"}, "--address and --actors are for --engine ray"),
        ({"actors": 2, "output": "run/"}, "--address and --actors are for --engine ray"),
        ({"aggregate": "mean"}, "--aggregate mean needs --windows"),
        ({"aggregate": "first"}, "--aggregate first needs --windows"),
        ({"calibration": Path("c.json"), "output": "run/"}, "--calibration is for score files"),
        ({"calibration": Path("c.json"), "spoof_prior": 1.0}, "--spoof-prior 1.0: a probability between 0 and 1"),
    ],
)
def test_options_that_exclude_each_other(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        options(**given)
    assert message in str(error.value)


def test_a_hop_that_is_no_number_of_seconds() -> None:
    with pytest.raises(typer.BadParameter, match="'hop=soon' is not hop=SECONDS"):
        options(windows="hop=soon")
    with pytest.raises(ValueError, match=r"hop = 0\.0: seconds above 0"):
        _ = options(windows="hop=0").window_policy


def test_values_that_other_parts_of_the_package_take() -> None:
    given = options(output="run/", process="1/3", windows="hop=2", aggregate="min", batch_size="auto", devices="2")
    assert given.process == (1, 3)
    assert (given.window_policy.hop, given.window_policy.aggregate) == (2.0, "min")
    scorer = given.scorer_options(num_clips=5)
    assert (scorer.batch_size, scorer.num_devices, scorer.use_cache) == ("auto", 2, True)


def test_an_actor_of_ray_has_one_device_and_no_larger_batch_than_there_are_clips() -> None:
    scorer = options(output="run/", engine="ray").scorer_options(num_clips=5)
    assert (scorer.batch_size, scorer.num_devices) == (5, 1)


@pytest.mark.parametrize(
    ("output", "is_folder"),
    [("scores/", True), ("scores", True), ("s3://bucket/run.1", True), ("here.d", True), ("s.txt", False)],
)
def test_what_counts_as_a_folder(output: str, is_folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.d").mkdir()
    given = options(output=output)
    assert (given.folder, given.file) == ((output, None) if is_folder else (None, Path(output)))


def test_the_command_refuses_them(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["--process", "0/2"], "spectra-jax: --process is for runs into a folder"),
        (["--windows", "hop=soon", "-o", "run/"], "'hop=soon' is not hop=SECONDS"),
        (["--windows", "hop=0"], "spectra-jax: hop = 0.0: seconds above 0"),
    ):
        assert spectra(monkeypatch, "score", "--model", "demo", *words, CLIPS) == 2
        assert message in capsys.readouterr().err
