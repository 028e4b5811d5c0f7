"""Where trials come from beyond folders and .csv: JSON lines, parquet, tar shards, standard input, URLs; how many."""

from __future__ import annotations

import csv
import functools
import gzip
import inspect
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from spectra_jax.data.sources import Trials, collect, remote
from spectra_jax.errors import InputError
from spectra_jax.inference.scorer import decode_trial
from spectra_jax.model.config import SpectraConfig
from tests.arena_datasets import row, shard

ROWS = [
    {"path": "a.flac", "utterance_id": "A", "label": "spoof", "speaker": 3},
    {"path": "/data/b.flac", "utterance_id": None, "label": "bona fide", "speaker": 4},
    {"path": "s3://bucket/c.flac", "utterance_id": "C", "label": None, "speaker": 5},
]


def told(trials: Trials) -> list[tuple[str, str, str | None]]:
    return [(trial.utterance_id, str(trial.path), trial.label) for trial in trials]


def write_rows(file: Path, rows: list[dict]) -> Path:
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=2)
    else:
        file.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    return file


def write_tar(file: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(file, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            known = tarfile.TarInfo(name)
            known.size = len(content)
            tar.addfile(known, io.BytesIO(content))
    return file


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """fsspec's own store in memory, empty."""
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_manifests_for_programs_say_the_same_as_a_csv(tmp_path: Path, suffix: str) -> None:
    trials = collect([write_rows(tmp_path / f"m{suffix}", ROWS)])
    assert told(trials) == [
        ("A", str(tmp_path / "a.flac"), "spoof"),
        ("b", "/data/b.flac", "bonafide"),
        ("C", "s3://bucket/c.flac", None),
    ]
    (tmp_path / "m.csv").write_text(
        "utterance_id,label,path\nA,spoof,a.flac\nb,bonafide,/data/b.flac\nC,,s3://bucket/c.flac\n"
    )
    assert collect([tmp_path / "m.csv"]).digest == trials.digest


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"path": 3}], "path is 3, which is not text"),
        ([{"path": ""}], "no path"),
        ([{"path": "a.wav", "utterance_id": ""}], "no utterance_id"),
        ([{"path": "a.wav", "label": "maybe"}], "maybe"),
        ([{"path": "a.wav", "utterance_id": "A"}, {"path": "b.wav", "utterance_id": "A"}], "shared by several"),
    ],
)
def test_rows_that_are_no_trial_are_refused(tmp_path: Path, suffix: str, rows: list[dict], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        collect([write_rows(tmp_path / f"m{suffix}", rows)])


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("m.jsonl", b'{"path": "a.wav"}\n{"path": ', "line 2: not valid JSON"),
        ("m.jsonl", b'["a.wav"]', "line 1: a JSON object is expected"),
        ("m.jsonl", b"", "no trials"),
        ("m.parquet", b"PAR1 and no more", "not a readable parquet file"),
        ("s.tar", b"no tar at all", "not a tar file"),
        ("s.tar", b"", "not a tar file"),
        ("s.tar", bytes(10240), "no audio in it"),
        ("s.tar.gz", gzip.compress(random.Random(0).randbytes(2048))[:-900], "not a tar file"),
    ],
)
def test_files_that_are_not_what_they_are_called_are_refused(
    tmp_path: Path, name: str, content: bytes, complaint: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        collect([tmp_path / name])


def test_a_parquet_manifest_needs_a_path_column(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column `path`; it has: file"):
        collect([write_rows(tmp_path / "m.parquet", [{"file": "a.wav"}])])


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar_shards_give_samples_with_what_their_json_says(tmp_path: Path, mode: str) -> None:
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
    assert [trial.content for trial in trials.from_(1)] == [b"two", b"three"]
    assert [trial.content for trial in trials.listed()] == [None] * 3
    assert [trial.utterance_id for trial in collect([f"{tmp_path}/s-*{suffix}"], ids="path")] == ["first", "x/2", "3"]
    assert collect([f"{tmp_path}/s-*{suffix}"]).digest == trials.digest


def test_a_cut_or_missing_shard_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "s-0.tar", {"1.wav": bytes(4000), "2.wav": bytes(4000)})
    with pytest.raises(InputError, match=r"s-1\.tar: cannot be read"):
        collect([f"{tmp_path}/s-{{0..1}}.tar"])
    (tmp_path / "s-1.tar").write_bytes(whole.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"s-1\.tar: damaged tar file, or cut short"):
        collect([f"{tmp_path}/s-{{0..1}}.tar"])
    write_tar(tmp_path / "s-1.tar", {"3.wav": b"", "3.flac": b""})
    with pytest.raises(InputError, match=r"s-1\.tar/3\.flac: several clips of one sample: 3\.wav is another"):
        collect([f"{tmp_path}/s-{{0..1}}.tar"])


def test_a_list_on_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Standard:
        buffer = io.BytesIO(b"a/1.wav\n\n  2.flac\r\ns3://bucket/3.wav\n")

    monkeypatch.setattr(sys, "stdin", Standard)
    trials = collect(["-"])
    expected = [("1", "a/1.wav", None), ("2", "2.flac", None), ("3", "s3://bucket/3.wav", None)]
    assert told(trials) == expected
    # It is gone through again, though standard input cannot be.
    assert told(trials) == expected
    monkeypatch.setattr(Standard, "buffer", io.BytesIO(b"\n"))
    with pytest.raises(InputError, match="standard input: no line in it"):
        collect(["-"])


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


def test_trials_of_a_shard_or_store_have_its_stamp(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", {"1.wav": b"one", "2.wav": b"two"})
    memory.pipe({"/b/1.wav": b"x", "/b/2.wav": b"x"})
    for given, change in {
        str(shard): lambda: write_tar(shard, {"1.wav": b"on", "2.wav": b"two"}),
        "memory://b": lambda: memory.pipe("/b/2.wav", b"xy"),
    }.items():
        before = collect([given])
        assert [trial.stamp for trial in before.listed()] == [trial.stamp for trial in before]
        assert None not in [trial.stamp for trial in before]
        change()
        after = collect([given])
        assert after.stamps_digest != before.stamps_digest
        assert after.digest == before.digest


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("nowhere://x", "nowhere"),
        ("memory://none", "no audio files there"),
        ("memory://none.csv", "cannot be read"),
    ],
)
def test_urls_that_lead_nowhere_say_so(memory: fsspec.AbstractFileSystem, url: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        collect([url])


class Web(SimpleHTTPRequestHandler):
    """A folder as a web server shows it, but for /secret, which it refuses, and /download, which is a clip."""

    def log_message(self, *_: object) -> None:
        pass

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        if self.path.startswith(("/secret", "/clips/secret")):
            self.send_error(403)
            return None
        if self.path.startswith("/download?"):
            self.path = "/clips/a.flac"
        return super().send_head()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a web server with clips/a.flac, clips/deep/b.wav and m.csv."""
    (tmp_path / "clips" / "deep").mkdir(parents=True)
    for name in ("clips/a.flac", "clips/deep/b.wav"):
        soundfile.write(tmp_path / name, np.sin(np.arange(4000)) / 10, 16_000)
    (tmp_path / "m.csv").write_text("path,utterance_id\nclips/a.flac,one\nclips/none.wav,two\nsecret/x.wav,three\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Web, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


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
    assert all(decode_trial(trial, SpectraConfig()).error is None for trial in found)


def test_what_a_web_server_does_not_give_costs_its_own_trial(web: str) -> None:
    heard = [decode_trial(trial, SpectraConfig()).error for trial in collect([f"{web}/m.csv"])]
    assert heard[0] is None
    assert heard[1] is not None and heard[1].startswith(f"{web}/clips/none.wav: cannot be read: it is not there")
    assert heard[2] is not None and heard[2].startswith(f"{web}/secret/x.wav: cannot be read: 403")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("none", "no audio files there"),
        ("none.csv", "cannot be read: 404"),
        ("none-*.tar", "no such shard"),
        # Refused is another thing than not there.
        ("secret", "cannot be listed: 403"),
        ("secret/*.wav", "cannot be listed: 403"),
        ("secret/s-*.tar", "cannot be listed: 403"),
        ("secret/m.csv", "cannot be read: 403"),
    ],
)
def test_what_a_web_server_refuses_is_told_from_what_is_not_there(web: str, given: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        collect([f"{web}/{given}"])


def test_an_input_that_changes_meanwhile_is_told_of(tmp_path: Path) -> None:
    manifest = write_rows(tmp_path / "m.jsonl", [{"path": f"{place}.wav"} for place in range(9)])
    trials = collect([manifest])
    write_rows(manifest, [{"path": f"{place}.wav"} for place in range(10)])
    with pytest.raises(InputError, match="not listed before"):
        list(trials)
    write_rows(manifest, [{"path": f"{place}.wav"} for place in range(8)])
    with pytest.raises(InputError, match="1 trial listed and not there"):
        list(trials)


def test_listing_takes_eight_bytes_a_trial(tmp_path: Path) -> None:
    """100,000 trials, whose paths alone are 8 MB as text, and over 30 MB as Python's objects."""
    listing = (
        "import resource, sys\n"
        "from spectra_jax.data.sources import collect\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "trials = collect([sys.argv[1]])\n"
        "assert sum(1 for _ in trials.from_(1)) == len(trials) - 1 == 99_999\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)\n"
    )
    manifest = tmp_path / "m.csv"
    folder = "a-folder-with-a-name-as-long-as-they-often-are/and-another-one/"
    manifest.write_text("path\n" + "".join(f"{folder}{place:09d}.flac\n" for place in range(100_000)))
    run = subprocess.run([sys.executable, "-c", listing, manifest], capture_output=True, text=True, check=True)
    # Hashes are held twice while they are sorted, and looked up by a mask: 20 bytes a trial, and what reading leaves.
    assert float(run.stdout) < 15


# What is left out

INPUTS = Path(__file__).parents[2] / "inputs" / "sources"


def test_what_a_folder_holds_beside_clips_is_counted_and_named(tmp_path: Path) -> None:
    names = "1.wav 2.m4a a.txt b.TXT notes ._1.wav .cache/3.wav sub/c.json scan.0001.of.a.very.long.suffix.indeed"
    for name in names.split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sub" / "again").symlink_to(tmp_path)
    trials = collect([tmp_path])
    assert [trial.utterance_id for trial in trials] == ["1", "2"]
    assert dict(trials.left_out.counts) == {
        ".txt": 2,
        "hidden": 2,
        "without suffix": 1,
        ".json": 1,
        ".indeed": 1,
        "repeated folder": 1,
    }
    (line,) = trials.notes()
    assert line.startswith("8 files left out: 2 ")
    assert line.count(str(tmp_path)) == 5 and line.endswith(", ...)")
    assert collect([tmp_path / "1.wav"]).notes() == []
    counts = dict(collect([tmp_path / "*"]).left_out.counts)
    assert counts == {".txt": 2, "without suffix": 1, ".indeed": 1, "hidden": 2, "folder": 1}


def test_a_folder_of_recordings_is_scored_whole() -> None:
    trials = collect([INPUTS / "mixed_folder"])
    assert sorted(Path(trial.path).name for trial in trials) == sorted(
        path.name for path in (INPUTS / "mixed_folder").iterdir()
    )
    assert len(trials) == 5 and trials.notes() == []
    assert [trial.utterance_id for trial in collect([INPUTS / "m4a.tar"])] == ["a1", "a2"]


def test_thousands_of_kinds_take_no_memory_and_no_flood(tmp_path: Path) -> None:
    (tmp_path / "1.wav").touch()
    for number in range(300):
        (tmp_path / f"scan.{number:04d}").touch()
    trials = collect([tmp_path])
    assert trials.left_out.counts.total() == 300
    assert len(trials.left_out.counts) <= 101
    (line,) = trials.notes()
    assert len(line) < 1000


def test_links_to_nowhere_and_to_themselves_cost_their_own_line(tmp_path: Path) -> None:
    (tmp_path / "1.wav").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    (tmp_path / "gone").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.wav")
    trials = collect([tmp_path])
    errors = {
        trial.utterance_id: decode_trial(trial, SpectraConfig()).error for trial in trials if trial.utterance_id != "1"
    }
    assert errors == {
        "gone": f"{tmp_path}/gone.wav: no such file",
        "loop": f"{tmp_path}/loop.wav: cannot be opened: Too many levels of symbolic links",
        "pipe": f"{tmp_path}/pipe.wav: a pipe or a device, not an audio file",
    }
    assert trials.left_out.unreadable == [f"{tmp_path}/loop: Too many levels of symbolic links"]
    assert dict(trials.left_out.counts) == {"without suffix": 1}


def test_folders_may_be_nested_deeper_than_calls(tmp_path: Path) -> None:
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


def test_a_store_names_what_it_leaves_out(memory: fsspec.AbstractFileSystem) -> None:
    for name in ("b/1.wav", "b/._1.wav", "b/notes.txt", "b/deep/2.mp3"):
        memory.pipe(f"/{name}", b"x")
    trials = collect(["memory://b"])
    assert [trial.utterance_id for trial in trials] == ["1", "2"]
    assert dict(trials.left_out.counts) == {".txt": 1, "hidden": 1}
    assert dict(collect(["memory://b/*"]).left_out.counts) == {".txt": 1, "hidden": 1}


def test_a_folder_that_a_web_server_refuses_costs_its_own_line(web: str, tmp_path: Path) -> None:
    (tmp_path / "clips" / "secret").mkdir()
    trials = collect([f"{web}/clips"])
    assert [trial.utterance_id for trial in trials] == ["a", "b"]
    (unreadable,) = trials.left_out.unreadable
    assert unreadable.startswith(f"{web}/clips/secret/: cannot be listed: 403")


def test_clips_beside_a_dataset_are_left_out_by_name(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("test-0.parquet", "train-0.parquet", "labels.parquet"):
        (tmp_path / "data" / name).write_bytes(shard([row(0)]))
    for name in ("README.md", "1.wav"):
        (tmp_path / name).touch()
    trials = collect([tmp_path])
    assert len(trials) == 1
    assert dict(trials.left_out.counts) == {".md": 1, ".wav": 1, ".parquet": 1}
    (tmp_path / "data" / "test-0.parquet").unlink()
    (tmp_path / "1.wav").unlink()
    with pytest.raises(InputError, match=r"2 \.parquet.*give \.parquet files by their names"):
        collect([tmp_path])


# Tar shards


def test_a_shard_names_its_members_that_are_not_used(tmp_path: Path) -> None:
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
    assert dict(trials.left_out.counts) == {
        ".txt": 1,
        ".cls": 1,
        "hidden": 1,
        "link": 2,
        "special file": 1,
        ".json": 1,
    }


def test_members_of_a_sample_may_lie_apart() -> None:
    trials = collect([INPUTS / "unsorted.tar"])
    assert {trial.utterance_id: trial.label for trial in trials} == {"a1": "spoof", "a2": "bonafide"}
    assert [(trial.utterance_id, trial.label) for trial in trials.listed()] == [
        (trial.utterance_id, trial.label) for trial in trials
    ]
    (second,) = trials.from_(1)
    assert second.label is not None and second.content is not None


def test_json_of_one_sample_may_not_contradict(tmp_path: Path) -> None:
    members = {"1.wav": b"x", "1.json": b'{"label": "spoof"}', "2.wav": b"y", "1.b.json": b'{"utterance_id": "one"}'}
    trials = collect([write_tar(tmp_path / "s.tar", members)])
    assert told(trials)[0][::2] == ("one", "spoof") == told(collect([tmp_path / "s.tar"]))[0][::2]
    write_tar(tmp_path / "s.tar", members | {"1.b.json": b'{"label": "bonafide"}'})
    with pytest.raises(InputError, match=r"1\.b\.json: says another utterance_id or label than 1\.json"):
        collect([tmp_path / "s.tar"])


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("long", [False, True])
def test_a_damaged_header_is_no_end_of_a_shard(tmp_path: Path, form: int, long: bool) -> None:
    file = tmp_path / "s.tar"
    folder = ("a-folder/" * 12) if long else ""
    with tarfile.open(file, "w", format=form) as tar:
        for place in range(3):
            known = tarfile.TarInfo(f"{folder}{place}.wav")
            known.size = 700
            tar.addfile(known, io.BytesIO(bytes([place + 1]) * 700))
    whole = file.read_bytes()
    names = [trial.utterance_id for trial in collect([file])]
    assert names == ["0", "1", "2"]
    headers = [at for at in range(0, len(whole), 512) if whole[at + 257 : at + 262] == b"ustar"]
    random_places = random.Random(0)
    for at in headers:
        for byte in random_places.sample(range(512), 12):
            damaged = bytearray(whole)
            damaged[at + byte] ^= 1 << random_places.randrange(8)
            file.write_bytes(damaged)
            try:
                # One of the two bytes after the checksum changes nothing.
                assert [trial.utterance_id for trial in collect([file])] == names
                assert byte in (154, 155)
            except InputError as error:
                assert str(error).startswith(f"{file}: ")
    last = headers[-1] + 512 + 1024
    for end in range(512, last + 1, 512):
        file.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"not a tar file|cut short"):
            collect([file])
    # Between members: garbage, zeros, another archive.
    for content in (
        whole[: headers[-1]] + b"x" * 512 + whole[headers[-1] :],
        whole[: headers[-1]] + bytes(1024) + whole[headers[-1] :],
        whole + whole,
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"damaged tar file: (the header at byte|more follows after its end)"):
            collect([file])


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_shard_that_is_damaged_is_named(tmp_path: Path, mode: str) -> None:
    file = write_tar(tmp_path / "s.tar.gz", {f"{n}.wav": random.Random(n).randbytes(3000) for n in range(4)}, mode)
    whole = file.read_bytes()
    assert len(collect([file])) == 4
    for content in (whole[:-1], whole[:-9], whole[: len(whole) // 2], whole[:-7] + b"\x55" + whole[-6:]):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"s\.tar\.gz: "):
            collect([file])


def test_a_tar_of_the_oldest_format_is_read(tmp_path: Path) -> None:
    header = bytearray(512)
    header[:5], header[100:107], header[124:135], header[148:156] = b"1.wav", b"0000644", b"00000000003", b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "s.tar").write_bytes(bytes(header) + b"one" + bytes(509) + bytes(1024))
    (trial,) = collect([tmp_path / "s.tar"])
    assert trial.content == b"one"


def test_names_of_members_cannot_forge_a_line(tmp_path: Path) -> None:
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
    error = decode_trial(second, SpectraConfig()).error
    assert error is not None and error.startswith(f"{file}/2.wav: 5,000 bytes, more than the 4,000")
    assert "--max-clip-bytes" in error
    packed = tmp_path / "s.tar.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    with pytest.raises(InputError, match=r"2\.wav: 5,000 bytes, more than the 4,000"):
        collect([packed], max_clip_bytes=4000)
    assert len(list(collect([packed]))) == 3


def test_headers_that_promise_much_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.tar"
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        known = tarfile.TarInfo("long")
        known.type, known.size = kind, 1 << 33
        file.write_bytes(known.tobuf(tarfile.GNU_FORMAT))
        os.truncate(file, 1 << 34)  # sparse, so that it takes no disk
        with pytest.raises(InputError, match="states a size of 8,589,934,592 bytes"):
            collect([file])
    # A sparse member: ten kilobytes that stand for terabytes.
    known = tarfile.TarInfo("1.wav")
    known.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(known.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"00000000000\0" + b"00000000000\0"
    header[482:495] = b"\0" + b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    file.write_bytes(bytes(header) + bytes(1024))
    (trial,) = collect([file])
    assert trial.content is None and trial.problem is not None
    assert "1.wav: 8,589,934,591 bytes, more than the 1,073,741,824" in trial.problem


# Limits


class Endless(Web):
    """Serves /endless without an end, /silent without a byte, /drip a byte now and then, /list.csv one endless line."""

    protocol_version = "HTTP/1.0"

    def do_HEAD(self) -> None:
        self.send_response(405)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            while not self.server.stopped.is_set():  # type: ignore[attr-defined]
                if "silent" not in self.path:
                    self.wfile.write(b"x" if "drip" in self.path else b"x" * 65536)
                if "silent" in self.path or "drip" in self.path:
                    self.server.stopped.wait(0.02)  # type: ignore[attr-defined]


@pytest.fixture
def endless() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        server.stopped = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.stopped.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def test_what_a_server_sends_without_an_end_or_not_at_all_costs_its_own_trial(
    endless: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(remote, "FETCH_SECONDS", 0.5)
    (tmp_path / "m.csv").write_text("path\n" + "".join(f"{endless}/{name}.wav\n" for name in ("endless", "silent")))
    trials = collect([tmp_path / "m.csv"], max_clip_bytes=200_000)
    errors = [str(decode_trial(trial, SpectraConfig()).error) for trial in trials]
    assert errors[0].startswith(f"{endless}/endless.wav: more than the 200,000 bytes that are read into memory")
    assert errors[1] == f"{endless}/silent.wav: cannot be read: no answer for 0.2 s"
    (tmp_path / "m.csv").write_text(f"path\n{endless}/drip.wav\n")
    (trial,) = collect([tmp_path / "m.csv"])
    assert decode_trial(trial, SpectraConfig()).error == f"{endless}/drip.wav: cannot be read: not complete after 0.5 s"


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
def test_an_endless_line_of_a_manifest_is_refused(endless: str, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}, line 1: longer than 16,777,216"):
        collect([f"{endless}/{name}"])


@pytest.mark.parametrize("name", ["silent.csv", "silent.tar", "silent/"])
def test_a_server_that_says_nothing_is_no_empty_input(endless: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SILENT_SECONDS", 0.2)
    with pytest.raises(InputError, match=r"no answer for 0\.2 s"):
        collect([f"{endless}/{name}"])


def test_what_is_no_regular_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "m.csv").write_text(f"path\nfile:///dev/zero\nfile://{tmp_path}/pipe.wav\n/dev/zero\n")
    errors = [str(decode_trial(trial, SpectraConfig()).error) for trial in collect([tmp_path / "m.csv"], ids="path")]
    assert errors == [
        "file:///dev/zero: a pipe or a device, not a regular file",
        f"file://{tmp_path}/pipe.wav: a pipe or a device, not a regular file",
        "/dev/zero: a pipe or a device, not an audio file",
    ]
    for name in ("p.csv", "p.jsonl", "p.parquet", "p.tar"):
        os.mkfifo(tmp_path / name)
        for given in (f"{tmp_path}/{name}", f"file://{tmp_path}/{name}"):
            if name.endswith((".csv", ".jsonl")) and not given.startswith("file"):
                # It is no manifest, and is refused when it is decoded.
                (trial,) = collect([given])
                assert "a pipe or a device" in str(decode_trial(trial, SpectraConfig()).error)
                continue
            with pytest.raises(InputError, match="a pipe or a device, not a regular file"):
                collect([given])


# Text


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("1" * 5000, "not valid JSON"),
        ("1e999999", None),
        ("NaN", None),
    ],
)
def test_json_that_python_cannot_hold_is_a_sentence(tmp_path: Path, value: str, complaint: str | None) -> None:
    text = '{"path": "a.wav", "x": ' + value + "}"
    (tmp_path / "m.jsonl").write_text(text)
    write_tar(tmp_path / "s.tar", {"1.wav": b"x", "1.json": text.encode()})
    for given in (tmp_path / "m.jsonl", tmp_path / "s.tar"):
        if complaint is None:
            assert len(collect([given])) == 1
        else:
            with pytest.raises(InputError, match=complaint):
                collect([given])


@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
def test_a_csv_may_have_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    rows = [["path", "label", "remark"], ["a.wav", "spoof", "one, two"], ["b;c.wav", "bonafide", "x|y"]]
    file = tmp_path / "m.csv"
    with file.open("w", newline="", encoding="utf-8-sig") as text:
        text.write("\n")
        csv.writer(text, delimiter=delimiter).writerows(rows)
    assert told(collect([file])) == [
        ("a", f"{tmp_path}/a.wav", "spoof"),
        ("b;c", f"{tmp_path}/b;c.wav", "bonafide"),
    ]
    file.write_text(delimiter.join(["path", "label"]) + f"\na.wav{delimiter}spoof{delimiter}x\n")
    with pytest.raises(InputError, match="line 2: 3 cells where the header has 2"):
        collect([file])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"\xef\xbb\xbfa.wav\r\nb.wav\r\n", ["a.wav", "b.wav"]),
        (b" spaced.wav\n  b.wav  \n\t\n", [" spaced.wav", "b.wav"]),
        (b"\xff.wav", ["\udcff.wav"]),
        (b"a.wav\0b.wav\0", "line 1: holds a NUL"),
        ("a.wav\n".encode("utf-16"), "in UTF-16"),
        (b"", "no line in it"),
    ],
)
def test_lists_however_programs_write_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes, expected: list[str] | str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / " spaced.wav").touch()

    class Standard:
        buffer = io.BytesIO(text)

    monkeypatch.setattr(sys, "stdin", Standard)
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            collect(["-"])
    else:
        assert [str(trial.path) for trial in collect(["-"])] == expected


def test_a_nul_in_a_path_costs_its_own_trial(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"path": "a\\u0000b.wav", "utterance_id": "x"}\n')
    (trial,) = collect([tmp_path / "m.jsonl"])
    assert "null" in str(decode_trial(trial, SpectraConfig()).error)
