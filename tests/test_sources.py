"""Where trials come from beyond folders and .csv: JSON lines, parquet, tar shards, standard input, URLs; how many."""

from __future__ import annotations

import functools
import gzip
import io
import json
import random
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from spectra_jax.config import SpectraConfig
from spectra_jax.scoring import hear
from spectra_jax.sources import Trials, collect
from spectra_jax.trials import InputError

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
        ([{"path": 3}], "path is 3, which is no text"),
        ([{"path": ""}], "no path"),
        ([{"path": "a.wav", "utterance_id": ""}], "no utterance_id"),
        ([{"path": "a.wav", "label": "real"}], "real"),
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
        ("m.parquet", b"PAR1 and no more", "no readable parquet file"),
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
    with pytest.raises(InputError, match=r"several clips of one sample: 3\.wav, 3\.flac"):
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
        if self.path.startswith("/secret"):
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
    assert all(hear(trial, SpectraConfig()).error is None for trial in found)


def test_what_a_web_server_does_not_give_costs_its_own_trial(web: str) -> None:
    heard = [hear(trial, SpectraConfig()).error for trial in collect([f"{web}/m.csv"])]
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
        "from spectra_jax.sources import collect\n"
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
