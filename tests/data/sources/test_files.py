"""Audio files, folders and glob patterns."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path

import pytest

from spectra_jax.data.sources import collect
from tests.data.sources.writing import decoding_error, ids_of, refusal

INPUTS = Path(__file__).parents[2] / "inputs" / "sources"


def test_a_folder_gives_its_audio_files_sorted(corpus: Path) -> None:
    trials = collect([corpus])
    relative = [Path(trial.path).relative_to(corpus).as_posix() for trial in trials]
    assert relative == ["a.flac", "b.wav", "sub/c.OGG", "sub/deep/d.mp3", "sub.d/e.opus"]
    assert [trial.utterance_id for trial in trials] == list("abcde")
    assert {trial.label for trial in trials} == {None}


def test_linked_folders_are_entered_once(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "disk").symlink_to(corpus)
    (corpus / "sub" / "loop").symlink_to(corpus)
    assert ids_of(tmp_path / "links") == list("abcde")


@pytest.mark.parametrize("pattern", ["", "**/*", "**", "**/*.mp3", "*/deep/*"])
def test_a_folder_that_cannot_be_listed_is_reported(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    # Not chmod, which does not stop an administrator.
    monkeypatch.setattr(os, "scandir", refuse)
    inputs = [corpus / "a.flac", corpus / pattern] if pattern.endswith(("mp3", "/*")) else [corpus / pattern]
    if pattern in ("**/*.mp3", "*/deep/*"):
        # If nothing else is found, the error states the reason.
        assert "deep: cannot be listed: Permission denied" in refusal(corpus / pattern)
        return
    trials = collect(inputs[-1:])
    assert [trial.utterance_id for trial in trials] == ["a", "b", "c", "e"]
    assert trials.skipped_inputs.unreadable == [f"{corpus}/sub/deep: cannot be listed: Permission denied"]
    assert "1 input not read, and clips in there are not scored:" in trials.warnings()[-1]


def test_a_given_folder_that_cannot_be_listed_is_refused(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> object:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert refusal(corpus) == f"{corpus}: cannot be listed: Permission denied"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*", "ab"), ("**/*", "abcde"), ("**/*.mp3", "d"), ("[b-z]*.wav", "b"), ("sub*/?.[oO]*", "ce"), ("**", "abcde")],
)
def test_a_pattern_gives_the_audio_files_it_matches(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, expected: str
) -> None:
    assert ids_of(corpus / pattern) == list(expected)
    monkeypatch.chdir(corpus)
    assert ids_of(pattern) == list(expected)


def test_a_folder_named_like_a_clip_is_none_and_a_broken_link_is_one(corpus: Path) -> None:
    (corpus / "folder.wav").mkdir()
    (corpus / "gone.wav").symlink_to(corpus / "nowhere.wav")
    assert ids_of(corpus / "*.wav") == ["b", "gone"]
    assert ids_of(corpus) == ["a", "b", "gone", "c", "d", "e"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "take[1].wav").touch()
    (tmp_path / "take1.wav").touch()
    assert ids_of(tmp_path / "take[1].wav") == ["take[1]"]


def test_other_files_of_a_folder_are_counted_and_named(tmp_path: Path) -> None:
    names = "1.wav 2.m4a a.txt b.TXT notes ._1.wav .cache/3.wav sub/c.json scan.0001.of.a.very.long.suffix.indeed"
    for name in names.split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sub" / "again").symlink_to(tmp_path)
    trials = collect([tmp_path])
    assert [trial.utterance_id for trial in trials] == ["1", "2"]
    assert dict(trials.skipped_inputs.counts) == {
        ".txt": 2,
        "hidden": 2,
        "without suffix": 1,
        ".json": 1,
        ".indeed": 1,
        "repeated folder": 1,
    }
    (line,) = trials.warnings()
    assert line.startswith("8 files left out: 2 ")
    assert line.count(str(tmp_path)) == 5 and line.endswith(", ...)")
    assert collect([tmp_path / "1.wav"]).warnings() == []
    counts = dict(collect([tmp_path / "*"]).skipped_inputs.counts)
    assert counts == {".txt": 2, "without suffix": 1, ".indeed": 1, "hidden": 2, "folder": 1}


def test_every_recording_of_a_folder_is_a_trial() -> None:
    trials = collect([INPUTS / "mixed_folder"])
    assert sorted(Path(trial.path).name for trial in trials) == sorted(
        path.name for path in (INPUTS / "mixed_folder").iterdir()
    )
    assert len(trials) == 5 and trials.warnings() == []
    assert [trial.utterance_id for trial in collect([INPUTS / "m4a.tar"])] == ["a1", "a2"]


def test_thousands_of_suffixes_are_a_short_message(tmp_path: Path) -> None:
    (tmp_path / "1.wav").touch()
    for number in range(300):
        (tmp_path / f"scan.{number:04d}").touch()
    trials = collect([tmp_path])
    assert trials.skipped_inputs.counts.total() == 300
    assert len(trials.skipped_inputs.counts) <= 101
    (line,) = trials.warnings()
    assert len(line) < 1000


def test_broken_links_and_pipes_are_errors_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "1.wav").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    (tmp_path / "gone").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.wav")
    trials = collect([tmp_path])
    errors = {trial.utterance_id: decoding_error(trial) for trial in trials if trial.utterance_id != "1"}
    assert errors == {
        "gone": f"{tmp_path}/gone.wav: no such file",
        "loop": f"{tmp_path}/loop.wav: cannot be opened: Too many levels of symbolic links",
        "pipe": f"{tmp_path}/pipe.wav: a pipe or a device, not an audio file",
    }
    assert trials.skipped_inputs.unreadable == [f"{tmp_path}/loop: Too many levels of symbolic links"]
    assert dict(trials.skipped_inputs.counts) == {"without suffix": 1}


def test_folders_may_be_nested_deeper_than_the_recursion_limit(tmp_path: Path) -> None:
    deepest = tmp_path / Path(*["d"] * 300)
    deepest.mkdir(parents=True)
    (deepest / "clip.wav").touch()
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 150)
    try:
        (trial,) = collect([tmp_path])
    finally:
        sys.setrecursionlimit(before)
    assert trial.path == deepest / "clip.wav"
