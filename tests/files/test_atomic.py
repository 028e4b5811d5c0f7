"""What writers that were killed leave, who removes it, and files that one of many writers creates."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from spectra_jax.files.atomic import atomic_directory, atomic_file, is_partial, sweep

KILLED = """
import os, signal, sys
from spectra_jax.files.atomic import atomic_directory, atomic_file

with (atomic_directory if sys.argv[2] == "directory" else atomic_file)(sys.argv[1]) as new:
    (new / "a").write_bytes(b"half") if sys.argv[2] == "directory" else new.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def leave_partial(path: Path, kind: str = "file") -> Path:
    """Have a writer killed; what it leaves."""
    process = subprocess.run([sys.executable, "-c", KILLED, str(path), kind])
    assert process.returncode == -signal.SIGKILL
    (left,) = (other for other in path.parent.iterdir() if is_partial(other.name))
    return left


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_a_killed_writer_leaves_is_removed_by_the_next(tmp_path: Path, kind: str) -> None:
    leave_partial(tmp_path / "a[1]*.bin", kind)
    if kind == "file":
        with atomic_file(tmp_path / "a[1]*.bin") as file:
            file.write(b"whole")
    else:
        with atomic_directory(tmp_path / "a[1]*.bin") as directory:
            (directory / "a").write_bytes(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a[1]*.bin"]


def test_a_sweep_removes_what_is_dead_and_nothing_else(tmp_path: Path) -> None:
    dead = leave_partial(tmp_path / "dead.txt")
    others = [tmp_path / name for name in (".a.partial", ".a.0123456789ab.partial.txt", "a.0123456789ab.partial")]
    for other in others:
        other.touch()
    with atomic_file(tmp_path / "alive.txt") as file, atomic_directory(tmp_path / "alive") as directory:
        file.write(b"alive")
        (directory / "a").write_bytes(b"alive")
        sweep(tmp_path)
        assert not dead.exists()
        assert directory.exists()
    assert (tmp_path / "alive.txt").read_bytes() == (tmp_path / "alive" / "a").read_bytes() == b"alive"
    assert all(other.exists() for other in others)
    sweep(tmp_path / "nowhere")


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_file(path) as first:
        first.write(b"first")
        with atomic_file(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("links", [True, False])
def test_one_of_many_creates_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    path, number = tmp_path / "a.txt", 8 if links else 1
    barrier = Barrier(number)

    def create(writer: int) -> int | None:
        barrier.wait()
        try:
            with atomic_file(path, replace=False) as file:
                file.write(b"%d" % writer)
        except FileExistsError:
            return None
        return writer

    with ThreadPoolExecutor(number) as pool:
        (winner,) = (writer for writer in pool.map(create, range(number)) if writer is not None)
    with pytest.raises(FileExistsError, match=r"a\.txt"), atomic_file(path, replace=False):
        pass
    assert path.read_bytes() == b"%d" % winner
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written as before, and nobody's are removed."""
    left = leave_partial(tmp_path / "a.txt")

    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with atomic_file(tmp_path / "a.txt") as file:
        file.write(b"whole")
    assert (tmp_path / "a.txt").read_bytes() == b"whole"
    assert set(tmp_path.iterdir()) == {tmp_path / "a.txt", left}
