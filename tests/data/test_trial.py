"""What files, folders, patterns and manifests are taken for, and how wrong ones are refused."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from spectra_jax.data.score_files import escape_id, score_line
from spectra_jax.data.sources import Given, Trials, collect
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Ten files, of which five are audio by name and not hidden. Nothing here opens them."""
    names = "b.wav a.flac sub/c.OGG sub/deep/d.mp3 sub.d/e.opus notes.txt list.csv ._a.flac .cache/x.wav sub/f.raw"
    for name in names.split():
        file = tmp_path / "corpus" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path / "corpus"


def manifest(folder: Path, text: str | bytes, name: str = "trials.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(*inputs: str | Path, ids: str = "stem") -> str:
    with pytest.raises(InputError) as caught:
        collect(inputs, ids=ids)  # type: ignore[arg-type]
    return str(caught.value)


def given(trials: Iterable[Trial]) -> Trials:
    return Trials([Given(list(trials))])


def ids_of(*inputs: str | Path) -> list[str]:
    return [trial.utterance_id for trial in collect(inputs)]


# Files, folders, patterns


def test_a_folder_gives_its_audio_files_sorted(corpus: Path) -> None:
    trials = collect([corpus])
    relative = [trial.path.relative_to(corpus).as_posix() for trial in trials]
    assert relative == ["a.flac", "b.wav", "sub/c.OGG", "sub/deep/d.mp3", "sub.d/e.opus"]
    assert [trial.utterance_id for trial in trials] == list("abcde")
    assert {trial.label for trial in trials} == {None}


def test_inputs_keep_the_order_they_are_given_in(corpus: Path) -> None:
    assert ids_of(corpus / "sub", corpus / "b.wav", str(corpus / "a.flac")) == ["c", "d", "b", "a"]


def test_a_named_file_is_taken_whatever_its_extension(corpus: Path) -> None:
    assert ids_of(corpus / "notes.txt", corpus / "sub/f.raw", corpus / "._a.flac") == ["notes", "f", "._a"]


def test_linked_folders_are_entered_and_loops_left(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "disk").symlink_to(corpus)
    (corpus / "sub" / "loop").symlink_to(corpus)
    assert ids_of(tmp_path / "links") == list("abcde")


@pytest.mark.parametrize("pattern", ["", "**/*", "**", "**/*.mp3", "*/deep/*"])
def test_a_folder_that_cannot_be_listed_costs_its_own_line(corpus: Path, monkeypatch, pattern: str) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    # Not chmod, which an administrator reads past.
    monkeypatch.setattr(os, "scandir", refuse)
    inputs = [corpus / "a.flac", corpus / pattern] if pattern.endswith(("mp3", "/*")) else [corpus / pattern]
    if pattern in ("**/*.mp3", "*/deep/*"):
        # Where nothing else is found, the reason is in the refusal.
        assert "deep: cannot be listed: Permission denied" in refusal(corpus / pattern)
        return
    trials = collect(inputs[-1:])
    assert [trial.utterance_id for trial in trials] == ["a", "b", "c", "e"]
    assert trials.left_out.unreadable == [f"{corpus}/sub/deep: cannot be listed: Permission denied"]
    assert "1 input not read, and clips in there are not scored:" in trials.notes()[-1]


def test_the_folder_given_has_to_be_listed(corpus: Path, monkeypatch) -> None:
    def refuse(path: str) -> object:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert refusal(corpus) == f"{corpus}: cannot be listed: Permission denied"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*", "ab"), ("**/*", "abcde"), ("**/*.mp3", "d"), ("[b-z]*.wav", "b"), ("sub*/?.[oO]*", "ce"), ("**", "abcde")],
)
def test_a_pattern_gives_the_audio_files_it_matches(corpus: Path, monkeypatch, pattern: str, expected: str) -> None:
    assert ids_of(corpus / pattern) == list(expected)
    monkeypatch.chdir(corpus)
    assert ids_of(pattern) == list(expected)


def test_a_folder_named_like_a_clip_is_no_clip_and_a_dangling_link_is_left_to_the_reading(corpus: Path) -> None:
    (corpus / "folder.wav").mkdir()
    (corpus / "gone.wav").symlink_to(corpus / "nowhere.wav")
    assert ids_of(corpus / "*.wav") == ["b", "gone"]
    assert ids_of(corpus) == ["a", "b", "gone", "c", "d", "e"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "take[1].wav").touch()
    (tmp_path / "take1.wav").touch()
    assert ids_of(tmp_path / "take[1].wav") == ["take[1]"]


def test_what_is_not_there_is_refused(corpus: Path, tmp_path: Path) -> None:
    assert "missing.wav: no such file or folder" in refusal(corpus / "missing.wav")
    assert "no such file or folder" in refusal("")
    assert "no such file or folder" in refusal("a" * 5000)
    assert "no input" in refusal()
    (tmp_path / "bare").mkdir()
    assert "no audio files in this folder" in refusal(tmp_path / "bare")
    # What the pattern did match is a hint at what is wrong with it.
    assert f"matches this pattern; 1 file left out: 1 .txt ({corpus}/notes.txt) (known" in refusal(corpus / "*.txt")
    (tmp_path / "packed").mkdir()
    for name in ("a.tar", "train-0.parquet", "train-1.parquet"):
        (tmp_path / "packed" / name).touch()
    message = refusal(tmp_path / "packed")
    assert "3 files left out: 2 .parquet, 1 .tar (" in message
    assert "give .tar and .parquet files by their names" in message


# Ids


def test_ids_are_stems_or_paths_as_given(corpus: Path, monkeypatch) -> None:
    monkeypatch.chdir(corpus)
    given_paths = ["a.flac", "sub/deep", "sub*/*.opus"]
    assert [trial.utterance_id for trial in collect(given_paths)] == ["a", "d", "e"]
    as_paths = collect(given_paths, ids="path")
    assert [trial.utterance_id for trial in as_paths] == ["a.flac", "sub/deep/d.mp3", "sub.d/e.opus"]
    assert [trial.path for trial in as_paths] == [Path(trial.utterance_id) for trial in as_paths]


def test_files_of_one_name_are_called_by_their_paths(tmp_path: Path, monkeypatch) -> None:
    for name in ("real/0.wav", "real/1.wav", "fake/0.wav", "fake/0.flac", "fake/2.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    trials = collect([tmp_path])
    assert [trial.utterance_id for trial in trials] == ["fake/0.flac", "fake/0.wav", "2", "real/0.wav", "1"]
    assert [trial.utterance_id for trial in trials.listed()] == [trial.utterance_id for trial in trials]
    assert [trial.utterance_id for trial in trials.from_(3)] == ["real/0.wav", "1"]
    (note,) = trials.notes()
    assert note == (
        "3 trials with file names that are not unique: their paths are their ids (fake/0.flac, fake/0.wav, real/0.wav)"
    )
    assert trials.digest == collect([tmp_path]).digest
    # In two folders the relative paths may be the same, too.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fake/0.flac").unlink()
    assert ids_of("real", "fake") == ["real/0.wav", "1", "fake/0.wav", "2"]
    assert ids_of("*/0.wav") == ["fake/0.wav", "real/0.wav"]
    listed = manifest(tmp_path, "path\nfake/0.wav\nreal/0.wav\n")
    assert ids_of(listed) == ["fake/0.wav", "real/0.wav"]
    # An id that a manifest states stays.
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
    # Under two paths that differ, each relative to a folder of its own.
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
def test_ids_that_a_txt_cannot_hold_are_refused_for_it_alone(name: str, escaped: str) -> None:
    trials = given([Trial(name, Path("clip.wav")), Trial("plain_100%", Path("b.wav"))])
    with pytest.raises(InputError) as caught:
        trials.require_plain_ids()
    assert str(caught.value).startswith("1 utterance id with white space, control characters")
    assert f"\n  {name!r}: clip.wav\n" in str(caught.value)
    assert "--escape-ids" in str(caught.value)
    assert escape_id(name) == escaped
    assert escape_id("plain_100%") == "plain_100%25"


def test_no_id_is_refused() -> None:
    with pytest.raises(InputError, match=r"clip\.wav: an empty utterance id"):
        given([Trial("", Path("clip.wav"))])


def test_ids_in_any_script_are_taken() -> None:
    given(Trial(name, Path("clip.wav")) for name in ("клип", "剪辑-1", "क्\u200dष", "été_(2)", "a.b:c/d"))


@settings(max_examples=50, deadline=None)
@drawn(st.lists(st.text(min_size=1, max_size=4), max_size=6, unique=True))
def test_escaped_ids_can_be_split_from_their_score_and_read_again(names: list[str]) -> None:
    text = "".join(score_line(name, 0.5, escape=True) for name in names)
    fields = [line.split() for line in text.encode().decode().splitlines()]
    assert [(unquote(name), score) for name, score in fields] == [(name, "0.500000") for name in names]
    try:
        given(Trial(name, Path("clip.wav")) for name in names).require_plain_ids()
    except InputError:
        return
    text = "".join(score_line(name, 0.5) for name in names)
    assert [line.split() for line in text.encode().decode().splitlines()] == [[name, "0.500000"] for name in names]


# Manifests


def test_a_manifest_gives_paths_ids_and_labels(tmp_path: Path) -> None:
    text = "utterance_id,label,path,speaker\nu1,bonafide,a.wav,anna\nu2,spoof,/far/b.wav,\nu3,,sub/c.wav,x\n"
    assert list(collect([manifest(tmp_path, text)])) == [
        Trial("u1", tmp_path / "a.wav", "bonafide"),
        Trial("u2", Path("/far/b.wav"), "spoof"),
        Trial("u3", tmp_path / "sub/c.wav", None),
    ]


@pytest.mark.parametrize("ids", ["stem", "path"])
def test_a_manifests_own_ids_win(tmp_path: Path, ids: str) -> None:
    path = manifest(tmp_path, "path,utterance_id\nsub/a.wav,u1\n")
    assert next(iter(collect([path], ids=ids))).utterance_id == "u1"  # type: ignore[arg-type]


def test_a_manifest_without_ids_takes_them_from_its_paths(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path\nsub/a.wav\n")
    assert next(iter(collect([path]))).utterance_id == "a"
    assert next(iter(collect([path], ids="path"))).utterance_id == "sub/a.wav"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tabs.tsv", b"path\tlabel\na,b.wav\tspoof\n"),
        ("TABS.TSV", b"path\tlabel\na,b.wav\tspoof\n"),
        ("quotes.csv", b'path,label\n"a,b.wav",spoof\n'),
        ("windows.csv", b'\xef\xbb\xbfpath,label\r\n"a,b.wav",spoof\r\n'),
        ("spaces.csv", b'\n path , Label\n\n"a,b.wav",  spoof \n , \n\n'),
        ("no_last_newline.csv", b'path,label\n"a,b.wav",spoof'),
        ("carriage_returns.csv", b'path,label\r"a,b.wav",spoof\r'),
    ],
)
def test_a_manifest_is_read_however_programs_write_it(tmp_path: Path, name: str, text: bytes) -> None:
    assert list(collect([manifest(tmp_path, text, name)])) == [Trial("a,b", tmp_path / "a,b.wav", "spoof")]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        *((text, "bonafide") for text in ("bonafide", "Bonafide", "BONA FIDE", "bona-fide", "bona_fide")),
        *((text, "spoof") for text in ("spoof", "Spoof", "SPOOF")),
        ("", None),
    ],
)
def test_labels_are_read_in_their_usual_spellings(tmp_path: Path, text: str, label: str | None) -> None:
    assert next(iter(collect([manifest(tmp_path, f"path,label\na.wav,{text}\n")]))).label == label


@pytest.mark.parametrize("text", ["0", "1", "target", "maybe"])
def test_other_labels_are_not_guessed_at(tmp_path: Path, text: str) -> None:
    message = refusal(manifest(tmp_path, f"path,label\na.wav,spoof\nb.wav,{text}\n"))
    assert message.endswith(f"trials.csv, line 3: label '{text}' is neither `bonafide` nor `spoof`")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", ": empty; the first line names the columns"),
        (b"\xef\xbb\xbf\r\n\r\n", ": empty; the first line names the columns"),
        (b"path,label\n", ": no trials in it"),
        (b"file,label\na.wav,spoof\n", ", line 1: no column `path` in the header, which has: file, label"),
        (b"a.wav,spoof\nb.wav,spoof\n", ", line 1: no column `path`"),
        (b"path,Path\na.wav,b.wav\n", ", line 1: 2 columns called `path`"),
        (b"path,label\na.wav,spoof\nb.wav\n", ", line 3: 1 cell where the header has 2"),
        (b"path,label\n\na,b.wav,spoof\n", ", line 3: 3 cells where the header has 2"),
        (b"path,label\n,spoof\n", ", line 2: no path"),
        (b"path,utterance_id\na.wav,\n", ", line 2: no utterance_id"),
        (b'path,label\n"a.wav,spoof\n', ", line 2: unexpected end of data"),
        (b"path\na.wav\n\xe9.wav\n", ", line 3: not UTF-8 text"),
        ("path\na.wav\n".encode("utf-16"), ", line 1: UTF-16 text; save it as UTF-8"),
        (b"path,label\na\0.wav,spoof\n", ", line 2: NUL bytes"),
        pytest.param(b"path,label\n\n" + b"a" * 200_000 + b",spoof\n", ", line 3: field larger than", id="long cell"),
        pytest.param(b"a" * 200_000 + b",label\na.wav,spoof\n", ", line 1: field larger than", id="long first cell"),
    ],
)
def test_a_broken_manifest_names_the_line(tmp_path: Path, text: bytes, complaint: str) -> None:
    path = manifest(tmp_path, text)
    assert refusal(path).startswith(f"{path}{complaint}")


def test_a_manifest_that_cannot_be_read_says_so(tmp_path: Path, monkeypatch) -> None:
    path = manifest(tmp_path, "path\na.wav\n")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert refusal(path) == f"{path}: cannot be read: Permission denied"


@pytest.mark.parametrize("name", ["one.csv", "one.tsv"])
def test_a_column_of_paths_alone_may_have_spaces_in_its_paths(tmp_path: Path, name: str) -> None:
    assert [trial.path for trial in collect([manifest(tmp_path, "path\na b.wav\n", name)])] == [tmp_path / "a b.wav"]


def test_the_same_id_in_two_manifests_is_refused(tmp_path: Path) -> None:
    first = manifest(tmp_path, "path,utterance_id\na.wav,u1\n", "first.csv")
    second = manifest(tmp_path, "path,utterance_id\nb.wav,u1\n", "second.csv")
    assert f"'u1': {tmp_path}/a.wav and {tmp_path}/b.wav" in refusal(first, second)


# Stamps


def test_a_file_that_changes_has_another_stamp(corpus: Path) -> None:
    table = manifest(corpus.parent, "path\ncorpus/a.flac\ncorpus/gone.wav\ns3://bucket/far.wav\n")
    for inputs in ([corpus], [corpus / "*.flac"], [corpus / "a.flac"], [table]):
        (corpus / "a.flac").write_bytes(b"")
        os.utime(corpus / "a.flac", ns=(5, 5))
        before = collect(inputs)
        stamps = {trial.utterance_id: trial.stamp for trial in before.listed()}
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
