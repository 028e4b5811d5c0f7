"""Runs that are killed, damaged and started many times at once end in the bytes of an undisturbed run.

`python -m tests.programs.kills` does the same more often.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.programs.runs import WRITTEN, Campaign, files, finish, open_run


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return Campaign(tmp_path_factory.mktemp("kills"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Of two parts."""
    return Campaign(tmp_path_factory.mktemp("damage"), number=8)


@pytest.mark.slow
def test_kills_at_random_moments(campaign: Campaign) -> None:
    assert campaign.random_kills(6)["killed"] == 6


@pytest.mark.slow
def test_kills_while_each_file_is_written(campaign: Campaign) -> None:
    assert campaign.aimed_kills(3) == {f"{name}: killed": 3 for name in WRITTEN}


@pytest.mark.slow
def test_sixteen_processes_that_start_one_run_at_once(campaign: Campaign) -> None:
    assert campaign.starters(16, rounds=1) == {"ended well": 16}


@pytest.mark.long
def test_the_program_of_this_name(tmp_path: Path) -> None:
    campaign, small = Campaign(tmp_path / "kills"), Campaign(tmp_path / "flips", number=8)
    campaign.random_kills(50)
    campaign.aimed_kills(20)
    campaign.starters(16, rounds=20)
    small.flips(every=1)


def test_a_flipped_bit_in_any_file(small: Campaign) -> None:
    counts = small.flips(every=67)
    assert {name.partition(":")[0] for name in counts} == set(WRITTEN)
    # A damaged part loses that part alone.
    assert not counts["part-000000.parquet: refused by name"]
    assert counts["run.json: refused by name"]


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data + data,
        lambda data: bytes(len(data)),
        lambda data: b"[" * 200_000,
    ],
    ids=["empty", "half", "twice", "zeros", "brackets"],
)
def test_a_damaged_file(small: Campaign, name: str, damage: Callable[[bytes], bytes]) -> None:
    assert small.outcome(damage, name) == ("refused by name" if name == "run.json" else "same bytes")


def test_a_damaged_part_is_named_and_kept(small: Campaign, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert finish(open_run(folder, small.inputs)) == small.expected
    part = folder / "parts" / "part-000001.parquet"
    damaged = bytearray(part.read_bytes())
    damaged[100] ^= 1
    part.write_bytes(damaged)
    run = open_run(folder, small.inputs)
    assert run.pending() == [1]
    assert run.unusable == {1: f"{part}: is damaged: its bytes do not match its checksum"}
    assert finish(run) == small.expected
    assert (folder / "replaced" / "part-000001.parquet").read_bytes() == damaged
    assert not run.missing() and not run.unusable


def test_the_advice_about_a_damaged_record_works(small: Campaign, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    finish(open_run(folder, small.inputs))
    before = {name: (folder / name).read_bytes() for name in files(folder)}
    (folder / "run.json").write_bytes(b"{")
    with pytest.raises(ValueError, match=r"run\.json is damaged .* or remove that file: the same command"):
        open_run(folder, small.inputs)
    (folder / "run.json").unlink()
    run = open_run(folder, small.inputs)
    assert run.pending() == []
    assert finish(run) == small.expected
    assert {name: (folder / name).read_bytes() for name in files(folder) if name != "run.json"} == {
        name: data for name, data in before.items() if name != "run.json"
    }


def test_parts_of_another_run_without_a_record_are_not_touched(small: Campaign, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    finish(open_run(folder, small.inputs))
    (folder / "run.json").unlink()
    (small.inputs / "999.wav").write_bytes(b"one more")
    try:
        with pytest.raises(ValueError, match=r"parquet: belongs to another run; and .* has no run\.json"):
            open_run(folder, small.inputs)
    finally:
        (small.inputs / "999.wav").unlink()
    assert not (folder / "run.json").exists()
