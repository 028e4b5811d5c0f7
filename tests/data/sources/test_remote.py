"""URLs: stores in memory, web servers that refuse, do not respond or never end."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from spectra_jax.data.sources import collect, remote
from spectra_jax.errors import InputError
from tests.data.sources.writing import decoding_error, write_tar


def test_urls_of_files_folders_patterns_manifests_and_shards(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    for name in ("b/2.wav", "b/1.flac", "b/notes.txt", "c/4.mp3"):
        memory.pipe(f"/{name}", b"x")
    memory.pipe("/lists/m.csv", b"path,label\n../b/1.flac,spoof\nfile:///data/9.wav,\n")
    shard = write_tar(tmp_path / "s.tar", {"7.wav": b"seven"})
    memory.pipe("/s-0.tar", shard.read_bytes())
    for given, expected in {
        "memory://b": ["memory://b/1.flac", "memory://b/2.wav"],
        "memory://b/2.wav": ["memory://b/2.wav"],
        "memory://*/*.mp3": ["memory://c/4.mp3"],
        "memory://lists/m.csv": ["memory://lists/../b/1.flac", "file:///data/9.wav"],
        "memory://s-{0..0}.tar": ["memory://s-0.tar/7.wav"],
        f"file://{shard}": [f"file://{shard}/7.wav"],
    }.items():
        assert [str(trial.path).replace("memory:///", "memory://") for trial in collect([given])] == expected
    (trial,) = collect(["memory://s-*.tar"])
    assert trial.content == b"seven"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("nowhere://x", "nowhere"),
        ("memory://none", "no audio files found"),
        ("memory://none.csv", "cannot be read"),
    ],
)
def test_missing_urls_are_refused(memory: fsspec.AbstractFileSystem, url: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        collect([url])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("clips/a.flac", {"a": "clips/a.flac"}),
        ("clips/a.flac?key=1.5", {"a": "clips/a.flac?key=1.5"}),
        ("download?id=7", {"download": "download?id=7"}),
        ("clips", {"a": "clips/a.flac", "b": "clips/deep/b.wav"}),
        ("clips/**/*.wav", {"b": "clips/deep/b.wav"}),
    ],
)
def test_web_addresses(web: str, given: str, expected: dict[str, str]) -> None:
    found = list(collect([f"{web}/{given}"]))
    assert {trial.utterance_id: str(trial.path) for trial in found} == {
        name: f"{web}/{path}" for name, path in expected.items()
    }
    assert all(decoding_error(trial) is None for trial in found)


def test_a_clip_that_a_web_server_refuses_is_one_error(web: str) -> None:
    errors = [decoding_error(trial) for trial in collect([f"{web}/m.csv"])]
    assert errors[0] is None
    assert errors[1] is not None and errors[1].startswith(f"{web}/clips/none.wav: cannot be read: it does not exist")
    assert errors[2] is not None and errors[2].startswith(f"{web}/secret/x.wav: cannot be read: 403")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("none", "no audio files found"),
        ("none.csv", "cannot be read: 404"),
        ("none-*.tar", "no such shard"),
        # Refused, which is not the same as missing.
        ("secret", "cannot be listed: 403"),
        ("secret/*.wav", "cannot be listed: 403"),
        ("secret/s-*.tar", "cannot be listed: 403"),
        ("secret/m.csv", "cannot be read: 403"),
    ],
)
def test_refused_and_missing_inputs_of_a_web_server(web: str, given: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        collect([f"{web}/{given}"])


def test_other_files_of_a_store_are_counted(memory: fsspec.AbstractFileSystem) -> None:
    for name in ("b/1.wav", "b/._1.wav", "b/notes.txt", "b/deep/2.mp3"):
        memory.pipe(f"/{name}", b"x")
    trials = collect(["memory://b"])
    assert [trial.utterance_id for trial in trials] == ["1", "2"]
    assert dict(trials.skipped_inputs.counts) == {".txt": 1, "hidden": 1}
    assert dict(collect(["memory://b/*"]).skipped_inputs.counts) == {".txt": 1, "hidden": 1}


def test_a_folder_that_a_web_server_refuses_is_reported(web: str, tmp_path: Path) -> None:
    (tmp_path / "clips" / "secret").mkdir()
    trials = collect([f"{web}/clips"])
    assert [trial.utterance_id for trial in trials] == ["a", "b"]
    (unreadable,) = trials.skipped_inputs.unreadable
    assert unreadable.startswith(f"{web}/clips/secret/: cannot be listed: 403")


def test_endless_and_silent_responses_are_errors_of_their_trials(
    endless: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(remote, "FETCH_SECONDS", 0.5)
    (tmp_path / "m.csv").write_text("path\n" + "".join(f"{endless}/{name}.wav\n" for name in ("endless", "silent")))
    trials = collect([tmp_path / "m.csv"], max_clip_bytes=200_000)
    errors = [str(decoding_error(trial)) for trial in trials]
    assert errors[0].startswith(f"{endless}/endless.wav: more than the 200,000 bytes that are read into memory")
    assert errors[1] == f"{endless}/silent.wav: cannot be read: no response for 0.2 s"
    (tmp_path / "m.csv").write_text(f"path\n{endless}/drip.wav\n")
    (trial,) = collect([tmp_path / "m.csv"])
    assert decoding_error(trial) == f"{endless}/drip.wav: cannot be read: not complete after 0.5 s"


@pytest.mark.parametrize("name", ["silent.csv", "silent.tar", "silent/"])
def test_a_silent_server_is_an_error(endless: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SILENT_SECONDS", 0.2)
    with pytest.raises(InputError, match=r"no response for 0\.2 s"):
        collect([f"{endless}/{name}"])
