"""Files and directories that are complete or absent, whatever stops their writers."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier

import pytest

from spectra_jax.files.atomic import atomic_directory, atomic_file, is_partial, require_free, sweep

KILLED = Path(__file__).parents[1] / "programs" / "killed_writer.py"


def leave_partial(path: Path, kind: str = "file") -> Path:
    """Kill a writer, and return the unfinished file or directory that it leaves."""
    process = subprocess.run([sys.executable, KILLED, path, kind])
    assert process.returncode == -signal.SIGKILL
    (unfinished,) = (other for other in path.parent.iterdir() if is_partial(other.name))
    return unfinished


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_the_next_writer_removes_the_unfinished_file_of_a_killed_one(tmp_path: Path, kind: str) -> None:
    leave_partial(tmp_path / "a[1]*.bin", kind)
    if kind == "file":
        with atomic_file(tmp_path / "a[1]*.bin") as file:
            file.write(b"complete")
    else:
        with atomic_directory(tmp_path / "a[1]*.bin") as directory:
            (directory / "a").write_bytes(b"complete")
    assert [path.name for path in tmp_path.iterdir()] == ["a[1]*.bin"]


def test_a_sweep_removes_unfinished_files_of_killed_writers_only(tmp_path: Path) -> None:
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
        file.write(b"complete")
    assert (tmp_path / "a.txt").read_bytes() == b"complete"
    assert set(tmp_path.iterdir()) == {tmp_path / "a.txt", left}


# Complete, or absent


@contextmanager
def full_disk(after: int) -> Iterator[None]:
    """No file can grow beyond `after` bytes: the system refuses the write that would do it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"new"
    with atomic_file(path) as file:
        file.write(b"newer")
        assert path.read_bytes() == b"new"
    assert path.read_bytes() == b"newer"
    assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208 (names alone)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_file_leaves_the_old_one(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_file(path) as file:
        file.write(b"new")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_on_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    # The last bytes are still in the buffer when the block ends.
    for size in (1001, 100_000):
        with pytest.raises(OSError) as raised, full_disk(1000), atomic_file(path) as file:
            file.write(bytes(size))
        assert raised.value.errno == errno.EFBIG
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "a.txt", tmp_path / "link.txt"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with atomic_file(link) as file:
        file.write(b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"


def test_new_files_have_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_bytes(b"")
    (tmp_path / "plain").mkdir()
    with atomic_file(tmp_path / "a.txt"):
        pass
    with atomic_directory(tmp_path / "a"):
        pass
    for name in ("a", "a.txt"):
        mode, plain = ((tmp_path / other).stat().st_mode for other in (name, name.replace("a", "plain")))
        assert stat.filemode(mode) == stat.filemode(plain)


def test_the_longest_names_of_a_file_system(tmp_path: Path) -> None:
    for name in ("a" * 255, "🦜" * 63):
        with atomic_file(tmp_path / name) as file:
            file.write(b"new")
        assert (tmp_path / name).read_bytes() == b"new"


def test_a_file_that_cannot_be_created(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "none" / "a.txt"):
        pass
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError), atomic_file(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_directory_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with atomic_directory(path) as partial:
        (partial / "a.txt").write_bytes(b"new")
        assert not path.exists()
    assert (path / "a.txt").read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with atomic_directory(tmp_path / "model") as partial:
        (partial / "a.txt").write_bytes(b"new")
    assert (tmp_path / "model" / "a.txt").read_bytes() == b"new"


def test_existing_files_and_directories_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old.txt").write_bytes(b"old")
    before = sorted(tmp_path.rglob("*"))
    for name in ("file", "model"):
        with pytest.raises(FileExistsError, match=f"{name} exists already; choose another name"):
            require_free(tmp_path / name)
        with pytest.raises(FileExistsError, match=name), atomic_directory(tmp_path / name):
            pytest.fail("nothing may be written")
    assert sorted(tmp_path.rglob("*")) == before
    for name in ("other", "model/new"):
        require_free(tmp_path / name)


def test_a_directory_whose_parents_are_missing(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "none" / "yet" / "model") as partial:
        (partial / "a.txt").write_bytes(b"new")
    assert (tmp_path / "none" / "yet" / "model" / "a.txt").read_bytes() == b"new"


def test_a_directory_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    expected = re.escape(f"{tmp_path / 'file' / 'model'} cannot be created, because {tmp_path / 'file'} is a file")
    with pytest.raises(NotADirectoryError, match=expected), atomic_directory(tmp_path / "file" / "model"):
        pytest.fail("nothing may be written")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_directory_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error), atomic_directory(tmp_path / "model") as partial:
        (partial / "a.txt").write_bytes(b"new")
        raise error
    assert not any(tmp_path.iterdir())


def test_a_directory_on_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError) as raised, full_disk(1000), atomic_directory(tmp_path / "model") as partial:
        (partial / "small.txt").write_bytes(b"new")
        (partial / "large.txt").write_bytes(bytes(2000))
    assert raised.value.filename == str(tmp_path / "model"), "an error that names no file looks like one of the output"
    assert not any(tmp_path.iterdir())


def test_a_name_that_is_taken_before_the_directory_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with pytest.raises(OSError), atomic_directory(path) as partial:
        (partial / "a.txt").write_bytes(b"new")
        path.mkdir()
        (path / "theirs.txt").write_bytes(b"theirs")
    assert list(tmp_path.iterdir()) == [path]
    assert [file.name for file in path.iterdir()] == ["theirs.txt"]


def test_the_contents_reach_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Otherwise an incomplete file could have the final name after a loss of power.
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def recording_fsync(descriptor: int) -> None:
        events.append(f"{os.fstat(descriptor).st_size} bytes")
        fsync(descriptor)

    def recording_replace(self: Path, target: Path) -> Path:
        events.append(target.name)
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(Path, "replace", recording_replace)
    with atomic_file(tmp_path / "a.txt") as file:
        file.write(bytes(11))
    with atomic_directory(tmp_path / "model") as partial:
        (partial / "b").write_bytes(bytes(22))
        (partial / "c").write_bytes(bytes(33))
    assert events[:2] == ["11 bytes", "a.txt"]
    assert (sorted(events[2:4]), events[4:]) == (["22 bytes", "33 bytes"], ["model"])


def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (
        pytest.raises(OSError, match=r"is a device or a pipe, which is not replaced.*pipe'"),
        atomic_file(tmp_path / "pipe"),
    ):
        pass
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
