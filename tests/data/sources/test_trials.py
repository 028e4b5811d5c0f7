"""The trials of several sources: ids of their own, digests, memory, inputs that change."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from spectra_jax.data.score_files import escape_id
from spectra_jax.data.sources import collect
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError
from tests.data.sources.writing import ids_of, in_memory, manifest, refusal, write_rows, write_tar


def test_ids_are_stems_or_paths_as_given(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpus)
    given_paths = ["a.flac", "sub/deep", "sub*/*.opus"]
    assert [trial.utterance_id for trial in collect(given_paths)] == ["a", "d", "e"]
    as_paths = collect(given_paths, ids="path")
    assert [trial.utterance_id for trial in as_paths] == ["a.flac", "sub/deep/d.mp3", "sub.d/e.opus"]
    assert [trial.path for trial in as_paths] == [Path(trial.utterance_id) for trial in as_paths]


def test_files_of_one_name_have_their_paths_as_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("real/0.wav", "real/1.wav", "fake/0.wav", "fake/0.flac", "fake/2.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    trials = collect([tmp_path])
    assert [trial.utterance_id for trial in trials] == ["fake/0.flac", "fake/0.wav", "2", "real/0.wav", "1"]
    assert [trial.utterance_id for trial in trials.without_content()] == [trial.utterance_id for trial in trials]
    assert [trial.utterance_id for trial in trials.iterate(3)] == ["real/0.wav", "1"]
    (note,) = trials.warnings()
    assert note == (
        "3 trials with file names that are not unique: their paths are their ids (fake/0.flac, fake/0.wav, real/0.wav)"
    )
    assert trials.digest == collect([tmp_path]).digest
    # The paths relative to two folders may be the same, too.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fake/0.flac").unlink()
    assert ids_of("real", "fake") == ["real/0.wav", "1", "fake/0.wav", "2"]
    assert ids_of("*/0.wav") == ["fake/0.wav", "real/0.wav"]
    listed = manifest(tmp_path, "path\nfake/0.wav\nreal/0.wav\n")
    assert ids_of(listed) == ["fake/0.wav", "real/0.wav"]
    # An id that a manifest states is not replaced.
    stated = manifest(tmp_path, "path,utterance_id\nfake/0.wav,0\n")
    assert ids_of(stated, "real") == ["0", "0.wav", "1"]


def test_shared_ids_that_a_manifest_states_are_refused_with_examples(tmp_path: Path) -> None:
    rows = "".join(f"{kind}/{number}.wav,{number}\n" for kind in ("fake", "real") for number in range(7))
    message = refusal(manifest(tmp_path, "path,utterance_id\n" + rows))
    assert message.startswith("7 utterance ids shared by several trials:\n")
    assert f"\n  '0': {tmp_path}/fake/0.wav and {tmp_path}/real/0.wav\n" in message
    assert message.count(".wav and ") == 5
    assert "... and 2 more" in message
    assert "column utterance_id" in message


def test_one_file_given_twice_is_refused(corpus: Path) -> None:
    for ids in ("stem", "path"):
        assert refusal(corpus / "a.flac", corpus / "a.flac", ids=ids).startswith("1 utterance id shared")
    # The same files, with different paths relative to two folders.
    message = refusal(corpus, corpus / "sub")
    assert message == (
        f"2 files given more than once:\n  {corpus}/sub/c.OGG\n  {corpus}/sub/deep/d.mp3\nGive each file once."
    )


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("two words", "two%20words"),
        ("tab\there", "tab%09here"),
        ("line\nbreak", "line%0Abreak"),
        ("no\u00a0break", "no%C2%A0break"),
        ("sep\u2028", "sep%E2%80%A8"),
        ("\x1b[31m", "%1B[31m"),
        ("\udcff", "\\udcff"),
    ],
)
def test_ids_that_a_txt_cannot_hold_are_refused_for_txt_only(name: str, escaped: str) -> None:
    trials = in_memory([Trial(name, Path("clip.wav")), Trial("plain_100%", Path("b.wav"))])
    with pytest.raises(InputError) as caught:
        trials.require_plain_ids()
    assert str(caught.value).startswith("1 utterance id with white space, control characters")
    assert f"\n  {name!r}: clip.wav\n" in str(caught.value)
    assert "--escape-ids" in str(caught.value)
    assert escape_id(name) == escaped
    assert escape_id("plain_100%") == "plain_100%25"


def test_an_empty_id_is_refused() -> None:
    with pytest.raises(InputError, match=r"clip\.wav: an empty utterance id"):
        in_memory([Trial("", Path("clip.wav"))])


def test_ids_may_be_in_any_script() -> None:
    in_memory(Trial(name, Path("clip.wav")) for name in ("клип", "剪辑-1", "क्\u200dष", "été_(2)", "a.b:c/d"))


def test_the_same_id_in_two_manifests_is_refused(tmp_path: Path) -> None:
    first = manifest(tmp_path, "path,utterance_id\na.wav,u1\n", "first.csv")
    second = manifest(tmp_path, "path,utterance_id\nb.wav,u1\n", "second.csv")
    assert f"'u1': {tmp_path}/a.wav and {tmp_path}/b.wav" in refusal(first, second)


def test_a_file_that_changes_has_another_stamp(corpus: Path) -> None:
    table = manifest(corpus.parent, "path\ncorpus/a.flac\ncorpus/gone.wav\ns3://bucket/far.wav\n")
    for inputs in ([corpus], [corpus / "*.flac"], [corpus / "a.flac"], [table]):
        (corpus / "a.flac").write_bytes(b"")
        os.utime(corpus / "a.flac", ns=(5, 5))
        before = collect(inputs)
        stamps = {trial.utterance_id: trial.stamp for trial in before.without_content()}
        assert stamps["a"] == "0:5"
        assert stamps == {trial.utterance_id: trial.stamp for trial in before}
        assert collect(inputs).stamps_digest == before.stamps_digest
        # A file that is not there and a URL have none.
        assert stamps.get("gone") is stamps.get("far") is None
        for size, time in ((0, 6), (1, 5)):
            (corpus / "a.flac").write_bytes(bytes(size))
            os.utime(corpus / "a.flac", ns=(time, time))
            after = collect(inputs)
            assert (after.digest == before.digest, after.stamps_digest == before.stamps_digest) == (True, False)
            assert next(iter(after)).stamp == f"{size}:{time}"


def test_trials_of_a_shard_or_store_have_a_stamp(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", {"1.wav": b"one", "2.wav": b"two"})
    memory.pipe({"/b/1.wav": b"x", "/b/2.wav": b"x"})
    changes: dict[str, Callable[[], object]] = {
        str(shard): lambda: write_tar(shard, {"1.wav": b"on", "2.wav": b"two"}),
        "memory://b": lambda: memory.pipe("/b/2.wav", b"xy"),
    }
    for name, change in changes.items():
        before = collect([name])
        assert [trial.stamp for trial in before.without_content()] == [trial.stamp for trial in before]
        assert None not in [trial.stamp for trial in before]
        change()
        after = collect([name])
        assert after.stamps_digest != before.stamps_digest
        assert after.digest == before.digest


def test_an_input_that_changed_since_it_was_listed_is_an_error(tmp_path: Path) -> None:
    table = write_rows(tmp_path / "m.jsonl", [{"path": f"{number}.wav"} for number in range(9)])
    trials = collect([table])
    write_rows(table, [{"path": f"{number}.wav"} for number in range(10)])
    with pytest.raises(InputError, match="not listed before"):
        list(trials)
    write_rows(table, [{"path": f"{number}.wav"} for number in range(8)])
    with pytest.raises(InputError, match="1 trial listed before and not found any more"):
        list(trials)


def test_listing_takes_eight_bytes_a_trial(tmp_path: Path) -> None:
    """100,000 trials, whose paths alone are 8 MB as text, and over 30 MB as Python's objects."""
    program = Path(__file__).parents[2] / "programs" / "list_trials.py"
    table = tmp_path / "m.csv"
    folder = "a-folder-with-a-name-as-long-as-they-often-are/and-another-one/"
    table.write_text("path\n" + "".join(f"{folder}{number:09d}.flac\n" for number in range(100_000)))
    run = subprocess.run([sys.executable, program, table], capture_output=True, text=True, check=True)
    # Hashes are in memory twice while they are sorted, and have a mask: 20 bytes a trial, besides the reader's own.
    assert float(run.stdout) < 15
