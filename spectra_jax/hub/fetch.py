"""A model, a file or the list of a dataset's files: download, verify."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from spectra_jax.errors import HubError, NoSafetensorsError, TensorFileError
from spectra_jax.hub import explanations
from spectra_jax.hub.cache import HubFile, remove, snapshots
from spectra_jax.hub.client import endpoint, is_offline, not_from_a_hub
from spectra_jax.hub.download import download
from spectra_jax.hub.names import (
    CONFIG,
    PUBLISHED,
    PUBLISHED_REVISION,
    PUBLISHED_SHA256,
    WEIGHTS,
    WEIGHTS_INDEX,
    Kind,
    is_commit,
    is_plain_path,
    parse,
)


@dataclass(frozen=True)
class Fetched:
    """A model on disk.

    Attributes:
        weights: the `model.safetensors`, in the client's cache; of weights in several files, their index.
        config: the `config.json` beside it, or None where the repository has none.
        repo: `org/name`.
        revision: the commit, 40 hex digits, that the requested revision resolved to.
        sha256: of the weights on disk, 64 hex digits; of several files, their `tensor_file.combined_sha256`.
    """

    weights: Path
    config: Path | None
    repo: str
    revision: str
    sha256: str


def fetch_model(name: str) -> Fetched:
    """Fetch a model's weights and configuration into the Hub client's cache, and check the weights' sha256.

    Args:
        name: `org/name` or `org/name@revision`. Without a revision, the published model is taken at its pinned
            revision and any other repository at the head of `main`.

    The weights must match: those of the published model at its pinned revision, the sha256 in `names`; all others, the
    sha256 that the Hub states for the file. A file that does not match is removed from the cache.

    Raises:
        HubError: the model cannot be fetched, or does not match.
    """
    repo, revision = _repository(name)
    weights = download(repo, revision, WEIGHTS)
    index = None if weights else download(repo, revision, WEIGHTS_INDEX)
    file = weights or index
    if file is None:
        raise NoSafetensorsError(
            f"{repo} has no {WEIGHTS} at revision {revision}, and only safetensors weights are read, never pickles "
            "such as pytorch_model.bin. Name a repository or revision that has one, or give a local path as the model."
        )
    commit = file.path.parent.name  # the cache keeps a file as snapshots/<commit>/<file>
    # The rest is fetched by commit, so that all files are of the same one even if the branch moves in between.
    sha256 = _verify(file, repo, commit, WEIGHTS) if weights else _fetch_shards(file.path, repo, commit)
    config = download(repo, commit, CONFIG)
    return Fetched(file.path, config.path if config else None, repo, commit, sha256)


def fetch_config(name: str) -> Path | None:
    """Fetch a model's `config.json` alone; None where the repository has none. Names are those of `fetch_model`.

    Raises:
        HubError: it cannot be fetched.
    """
    config = download(*_repository(name), CONFIG)
    return config.path if config else None


def _repository(name: str) -> tuple[str, str]:
    """The repository and revision of a model's name."""
    parsed = parse(name)
    if parsed is None:
        raise HubError(
            f"{name!r} is not the name of a Hub repository. Write organisation/name or organisation/name@revision; "
            "a local path must exist."
        )
    return parsed[0], parsed[1] or "main"


def fetch_file(repo: str, revision: str, filename: str, kind: Kind = "model") -> Path:
    """Fetch one file of a repository, and check its sha256 if the Hub states one.

    Raises:
        HubError: the repository does not have the file, it cannot be fetched, or it does not match.
    """
    file = download(repo, revision, filename, kind)
    if file is None:
        raise HubError(f"{repo} has no {filename} at revision {revision}. Check both names.")
    if file.advertised_sha256 is not None:
        _verify(file, repo, file.path.relative_to(snapshots(repo, kind)).parts[0], filename)
    return file.path


def fetch_dataset_file(repo: str, revision: str, filename: str) -> Path:
    """`fetch_file` of a dataset."""
    return fetch_file(repo, revision, filename, "dataset")


@dataclass(frozen=True)
class DatasetFiles:
    """The files of a dataset at a commit.

    Attributes:
        commit: 40 hex digits.
        sizes: in bytes, by name; None where the Hub states none.
    """

    commit: str
    sizes: dict[str, int | None]


def list_dataset(repo: str, revision: str) -> tuple[str, list[str]]:
    """Resolve a dataset's revision to its commit, and list the names of its files there.

    Raises:
        HubError: the list cannot be had; offline, only a commit whose files are in the cache can be listed.
    """
    found = list_dataset_files(repo, revision)
    return found.commit, list(found.sizes)


def list_dataset_files(repo: str, revision: str) -> DatasetFiles:
    """Resolve a dataset's revision to its commit, and list its files there with their sizes.

    Raises:
        NoRevisionError: the dataset has no such revision.
        HubError: the list cannot be had; offline, only a commit whose files are in the cache can be listed.
    """
    if parse(repo) is None:
        raise HubError(f"{repo!r} is not the name of a Hub dataset. Write organisation/name[@revision].")
    try:
        found = _request_list(repo, revision)
    except Exception as error:
        # A commit never changes, so all its cached files are still part of it.
        cached = snapshots(repo, "dataset") / revision
        if is_commit(revision) and cached.is_dir():
            files = sorted(cached.rglob("*.*"))
            return DatasetFiles(revision, {path.relative_to(cached).as_posix(): path.stat().st_size for path in files})
        if isinstance(error, HubError):
            raise
        raise explanations.no_metadata(error, repo, "list of files", revision) from error
    # Both become parts of paths.
    if not is_commit(found.commit):
        raise not_from_a_hub(repo, f"the commit {found.commit!r:.100}, not 40 hexadecimal digits")
    if is_commit(revision) and found.commit != revision:
        raise not_from_a_hub(repo, f"the files of commit {found.commit}, where {revision} was requested")
    for file in found.sizes:
        if not is_plain_path(file):
            raise not_from_a_hub(repo, f"a file named {file!r:.100}, not a path inside the repository")
    return found


def _request_list(repo: str, revision: str) -> DatasetFiles:
    import huggingface_hub

    if is_offline():
        raise explanations.offline(repo, "list of files", revision)
    # Without a timeout the client would wait for ever.
    timeout = huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT
    info = huggingface_hub.HfApi(endpoint=endpoint()).dataset_info(
        repo, revision=revision, timeout=timeout, files_metadata=True
    )
    return DatasetFiles(str(info.sha), {file.rfilename: file.size for file in info.siblings or ()})


def _fetch_shards(index: Path, repo: str, commit: str) -> str:
    """Fetch and verify the files that an index of weights names, to lie beside it; returns their combined sha256."""
    from spectra_jax.files.tensor_file import combined_sha256, read_index

    try:
        names = sorted(set(read_index(index).values()))
    except TensorFileError as error:
        raise HubError(f"{repo} at revision {commit}: {error}. Name a revision with a valid one.") from error
    digests = {}
    for name in names:
        shard = download(repo, commit, name)
        if shard is None:
            raise HubError(f"{repo} has no {name} at revision {commit}, which {WEIGHTS_INDEX} names. Name another one.")
        digests[name] = _verify(shard, repo, commit, name)
    return combined_sha256(digests)


def _verify(file: HubFile, repo: str, commit: str, filename: str) -> str:
    """The sha256 of a file.

    Raises:
        HubError: it is not the expected one, and the file was removed from the cache; or the file cannot be read.
    """
    pinned = PUBLISHED_SHA256.get(filename) if (repo, commit) == (PUBLISHED, PUBLISHED_REVISION) else None
    expected = pinned or file.advertised_sha256
    try:
        with file.path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise HubError(
            f"Cannot read {file.path}: {error.strerror}. Fix its permissions, or remove the file to have it fetched "
            "again."
        ) from error
    if expected in (None, found):
        return found
    if remove(file.path):
        advice = f"It has been removed from {file.path}; run the same command again to fetch it afresh."
    else:
        advice = f"Remove {file.path} and run the same command again to fetch it afresh."
    raise HubError(
        f"{filename} of {repo} at revision {commit} has sha256 {found} where {expected} is expected: the file was "
        f"damaged or replaced on its way or on disk. {advice}"
    )
