"""Tar shards: samples, ids, labels, and members that are not used."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from spectra_jax.data.sources import collect
from spectra_jax.errors import InputError
from tests.data.sources.writing import decoding_error, summaries, write_tar

INPUTS = Path(__file__).parents[2] / "inputs" / "sources"


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_samples_with_the_metadata_of_their_json(tmp_path: Path, mode: str) -> None:
    suffix = ".tar.gz" if mode == "w:gz" else ".tar"
    first = {
        "x/1.flac": b"one",
        "x/1.json": b'{"utterance_id": "first", "label": "spoof"}',
        "x/2.json": b'{"label": "bonafide"}',
        "x/2.seg.wav": b"two",
        "x/notes.txt": b"no clip",
        "x/._2.wav": b"what macOS leaves",
    }
    write_tar(tmp_path / f"s-08{suffix}", first, mode)
    write_tar(tmp_path / f"s-09{suffix}", {"3.mp3": b"three"}, mode)
    trials = collect([f"{tmp_path}/s-{{08..09}}{suffix}"])
    assert [(trial.utterance_id, trial.label, trial.content) for trial in trials] == [
        ("first", "spoof", b"one"),
        ("2", "bonafide", b"two"),
        ("3", None, b"three"),
    ]
    assert [trial.content for trial in trials.iterate(1)] == [b"two", b"three"]
    assert [trial.content for trial in trials.without_content()] == [None] * 3
    assert [trial.utterance_id for trial in collect([f"{tmp_path}/s-*{suffix}"], ids="path")] == ["first", "x/2", "3"]
    assert collect([f"{tmp_path}/s-*{suffix}"]).digest == trials.digest


def test_a_cut_or_missing_shard_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    complete = write_tar(tmp_path / "s-0.tar", {"1.wav": bytes(4000), "2.wav": bytes(4000)})
    with pytest.raises(InputError, match=r"s-1\.tar: cannot be read"):
        collect([f"{tmp_path}/s-{{0..1}}.tar"])
    (tmp_path / "s-1.tar").write_bytes(complete.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"s-1\.tar: damaged tar file, or cut short"):
        collect([f"{tmp_path}/s-{{0..1}}.tar"])
    write_tar(tmp_path / "s-1.tar", {"3.wav": b"", "3.flac": b""})
    with pytest.raises(InputError, match=r"s-1\.tar/3\.flac: several clips of one sample: 3\.wav is another"):
        collect([f"{tmp_path}/s-{{0..1}}.tar"])


def test_other_members_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "s.tar"
    with tarfile.open(file, "w") as tar:
        for name, kind in {
            "x": tarfile.DIRTYPE,
            "x/1.wav": tarfile.REGTYPE,
            "x/1.txt": tarfile.REGTYPE,
            "x/1.cls": tarfile.REGTYPE,
            "x/._1.wav": tarfile.REGTYPE,
            "x/2.json": tarfile.REGTYPE,
            "x/3.wav": tarfile.LNKTYPE,
            "x/4.wav": tarfile.SYMTYPE,
            "x/5.wav": tarfile.FIFOTYPE,
            "../6.wav": tarfile.REGTYPE,
        }.items():
            known = tarfile.TarInfo(name)
            known.type, known.linkname = kind, "x/1.wav"
            content = b"{}" if name.endswith("json") else b""
            known.size = len(content)
            tar.addfile(known, io.BytesIO(content))
    trials = collect([file])
    assert [trial.utterance_id for trial in trials] == ["1", "6"]
    assert dict(trials.skipped_inputs.counts) == {
        ".txt": 1,
        ".cls": 1,
        "hidden": 1,
        "link": 2,
        "special file": 1,
        ".json": 1,
    }


def test_members_of_a_sample_need_not_follow_each_other() -> None:
    trials = collect([INPUTS / "unsorted.tar"])
    assert {trial.utterance_id: trial.label for trial in trials} == {"a1": "spoof", "a2": "bonafide"}
    assert [(trial.utterance_id, trial.label) for trial in trials.without_content()] == [
        (trial.utterance_id, trial.label) for trial in trials
    ]
    (second,) = trials.iterate(1)
    assert second.label is not None and second.content is not None


def test_contradicting_json_of_one_sample_is_refused(tmp_path: Path) -> None:
    members = {"1.wav": b"x", "1.json": b'{"label": "spoof"}', "2.wav": b"y", "1.b.json": b'{"utterance_id": "one"}'}
    trials = collect([write_tar(tmp_path / "s.tar", members)])
    assert summaries(trials)[0][::2] == ("one", "spoof") == summaries(collect([tmp_path / "s.tar"]))[0][::2]
    write_tar(tmp_path / "s.tar", members | {"1.b.json": b'{"label": "bonafide"}'})
    with pytest.raises(InputError, match=r"1\.b\.json: another utterance_id or label than in 1\.json"):
        collect([tmp_path / "s.tar"])


def test_names_of_members_are_printable_in_errors(tmp_path: Path) -> None:
    for members in (
        {"1\nforged.wav": b"", "1\nforged.flac": b""},
        {"1\nforged.wav": b"", "1\nforged.json": b"["},
        {"1\nforged.wav": b"", "1\nforged.json": b'{"label": "real\\nforged"}'},
        {"1\nforged.wav": b"", "1\nforged.json": b'{"label": 3}'},
    ):
        with pytest.raises(InputError) as caught:
            collect([write_tar(tmp_path / "s.tar", members)])
        assert "\n" not in str(caught.value)


def test_members_larger_than_the_limit_are_refused_without_being_read(tmp_path: Path) -> None:
    file = tmp_path / "s.tar"
    with tarfile.open(file, "w") as tar:
        for name, size in {"1.wav": 10, "2.wav": 5000, "3.wav": 11}.items():
            known = tarfile.TarInfo(name)
            known.size = size
            tar.addfile(known, io.BytesIO(bytes(size)))
    trials = collect([file], max_clip_bytes=4000)
    first, second, third = trials
    assert (first.content, third.content) == (bytes(10), bytes(11))
    assert second.content is None
    error = decoding_error(second)
    assert error is not None and error.startswith(f"{file}/2.wav: 5,000 bytes, more than the 4,000")
    assert "--max-clip-bytes" in error
    packed = tmp_path / "s.tar.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    with pytest.raises(InputError, match=r"2\.wav: 5,000 bytes, more than the 4,000"):
        collect([packed], max_clip_bytes=4000)
    assert len(list(collect([packed]))) == 3
