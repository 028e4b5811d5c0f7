"""Only directories that nobody but the user and root can change hold cached executables."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from spectra_jax.inference import compilation_cache
from spectra_jax.inference.compilation_cache import permissions


def test_a_directory_where_others_may_write_is_not_used(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cache_home / "spectra-jax" / "compiled"
    folder.mkdir(parents=True)
    folder.chmod(0o770)
    reports: list[str] = []
    with compilation_cache.use(reports.append, "cpu") as cache:
        assert cache is None
    assert reports == [
        f"No compilation cache: {folder}: others may write there, and it holds executables; `chmod go-w` it"
    ]
    folder.chmod(0o700)
    reports.clear()
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with compilation_cache.use(reports.append, "cpu") as cache:
        assert cache is None
    assert reports == [f"No compilation cache: {folder}: another user owns it, and it holds executables"]


@pytest.mark.parametrize("through_a_link", [False, True])
def test_directories_above_that_others_may_write_are_refused(
    cache_home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, through_a_link: bool
) -> None:
    """Whoever can write a directory above the cache can replace it by another, with other executables."""
    parent = tmp_path_factory.mktemp("above") / "parent"
    parent.mkdir()
    home = parent / "caches"
    home.mkdir(mode=0o700)
    caches = cache_home / "link" if through_a_link else home
    if through_a_link:
        caches.symlink_to(home)
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))

    def reported() -> list[str]:
        reports: list[str] = []
        with compilation_cache.use(reports.append, "cpu") as cache:
            assert (cache is None) == bool(reports)
        with compilation_cache.use_jax_cache(reports.append):
            assert (jax.config.jax_compilation_cache_dir is None) == bool(reports)  # type: ignore[attr-defined]
        return reports

    assert reported() == []
    for mode in (0o777, 0o770):
        parent.chmod(mode)
        assert reported() == 2 * [
            f"No compilation cache: {parent}: others may write there and could replace the executables in "
            f"{caches / 'spectra-jax' / 'compiled'}; `chmod go-w` it, or set XDG_CACHE_HOME to a directory that only "
            "you can write"
        ]
    # In a sticky directory, such as /tmp, nobody can replace another user's files.
    parent.chmod(0o1777)
    assert reported() == []


@pytest.mark.parametrize("which", ["directory", "link"])
def test_directories_and_links_of_another_user_are_refused(
    cache_home: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    other = cache_home / "other"
    if which == "link":
        (cache_home / "real").mkdir()
        other.symlink_to(cache_home / "real")
    else:
        other.mkdir()
    lstat = Path.lstat

    def owned(path: Path) -> os.stat_result:
        status = lstat(path)
        return os.stat_result([*status[:4], os.geteuid() + 1, *status[5:]]) if path == other else status

    monkeypatch.setattr(Path, "lstat", owned)
    monkeypatch.setenv("XDG_CACHE_HOME", str(other))
    reports: list[str] = []
    with compilation_cache.use(reports.append, "cpu") as cache:
        assert cache is None
    (line,) = reports
    assert line.startswith(f"No compilation cache: {other}: another user owns it and could replace the executables in ")


def test_a_group_of_the_user_alone_may_write_above(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each user has such a group, new directories may be writable by it (Ubuntu: umask 002)."""
    import grp
    import pwd

    cache_home.chmod(0o775)
    gid, members = cache_home.stat().st_gid, ["alice"]
    monkeypatch.setattr(pwd, "getpwuid", lambda _: SimpleNamespace(pw_uid=1000, pw_gid=gid, pw_name="alice"))
    monkeypatch.setattr(grp, "getgrgid", lambda _: SimpleNamespace(gr_name="alice", gr_mem=members))
    for others in ([], ["bob"]):
        members += others
        reports: list[str] = []
        with compilation_cache.use(reports.append, "cpu") as cache:
            assert (cache is None) == bool(others) == bool(reports)


def test_links_in_a_circle_are_reported(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache_home / "a").symlink_to(cache_home / "b")
    (cache_home / "b").symlink_to(cache_home / "a")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home / "a"))
    reports: list[str] = []
    with compilation_cache.use(reports.append, "cpu") as cache:
        assert cache is None
    (line,) = reports
    assert line.startswith("No compilation cache: ")
    with pytest.raises(OSError, match="symbolic links"):
        permissions.require_private(cache_home / "a")


def test_new_directories_are_the_user_s_alone(cache_home: Path) -> None:
    before = os.umask(0)
    try:
        with compilation_cache.use(pytest.fail, "cpu") as cache:
            assert cache is not None
    finally:
        os.umask(before)
    for folder in (cache_home / "spectra-jax", cache_home / "spectra-jax" / "compiled"):
        assert folder.stat().st_mode & 0o777 == 0o700
