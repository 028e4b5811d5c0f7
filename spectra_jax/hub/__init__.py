"""Weights from the Hugging Face Hub: a repository name in, a verified `model.safetensors` on disk out.

    fetched = fetch_model("lab260/Spectra-AASIST3")     # the published model, at the revision pinned below
    fetched.weights, fetched.config, fetched.revision, fetched.sha256

Of a model only its weights (`model.safetensors`, or the shards that `model.safetensors.index.json` names) and
`config.json` are ever asked for: no pickle, and nothing else but what `fetch_file` is asked for by name. The client's
own settings hold (`HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE`, ...; it waits `HF_HUB_ETAG_TIMEOUT` seconds
for an answer and `HF_HUB_DOWNLOAD_TIMEOUT` for the next bytes of a file, 10 each), and so does its cache, which other
programs on the machine share. Whatever goes wrong arrives as a `HubError` that says what happened and what to do.

The client makes file names of headers that the server sends (ETag, commit), which could lead out of its cache. So
every answer is checked before the client sees it, in a hook of the session that the client uses.

`huggingface_hub` is imported when something is fetched and not before.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal
from urllib.parse import urlsplit

from spectra_jax.errors import HubError, UnreachableError

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
CONFIG = "config.json"

PUBLISHED = "lab260/Spectra-AASIST3"
PUBLISHED_REVISION = "bc0ded888080ddad493177bb53aa6f5b95219d7c"
PUBLISHED_ONNX = "spectra-aasist3.onnx"
PUBLISHED_SHA256 = {
    WEIGHTS: "327762caab3106ecee5f26b821ccdc6ab1fe34906a3e7042f416c87927df2088",
    PUBLISHED_ONNX: "5f05c29a01ad80c702b32654db87c2aa6e467c11c67b6d47f2fac873f846cae9",
}
Kind = Literal["model", "dataset"]

# A Hub name: ASCII letters, digits, "-", "_" and ".", beginning and ending with a letter, a digit or "_".
_PART = re.compile(r"\w(?:[\w.-]{0,94}\w)?", re.ASCII)
# A branch, a tag or a commit. What git allows beyond this (spaces apart) is not worth the paths it could form.
_REVISION = re.compile(r"[\w.+-]+(?:/[\w.+-]+)*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

# Seconds that a server may make the client wait until it asks again.
_LONGEST_WAIT = 300

_ALTERNATIVES = "give a local path as the model, or `--model demo`"


@dataclass(frozen=True)
class Fetched:
    """A model on disk, as `fetch_model` leaves it.

    Attributes:
        weights: the `model.safetensors`, in the client's cache; of weights in several files, their index.
        config: the `config.json` beside it, or None where the repository has none.
        repo: `org/name`.
        revision: the commit that the asked revision stood for, 40 hex digits.
        sha256: of the weights as they lie on disk, 64 hex digits; of several files, see `tensor_file.combined_sha256`.
    """

    weights: Path
    config: Path | None
    repo: str
    revision: str
    sha256: str


@dataclass(frozen=True)
class _File:
    """A file of a repository: where it was asked for, and what the Hub says its sha256 is (None: it does not say)."""

    path: Path
    advertised: str | None


def parse(name: str) -> tuple[str, str | None] | None:
    """Split `org/name` or `org/name@revision` into repository and revision.

    The revision is None where none is given, except for the published model, which then stands at its pinned
    revision. Returns None where `name` cannot be a Hub name. The other way round proves nothing: `runs/best` is both a
    possible Hub name and a possible folder, so look on disk first.
    """
    repo, at, revision = name.partition("@")
    parts = repo.split("/")
    if len(parts) != 2 or not all(_PART.fullmatch(part) for part in parts):
        return None
    if "--" in repo or ".." in repo or repo.endswith(".git"):  # the Hub's own rules; "--" is its cache's separator
        return None
    if at and (not _REVISION.fullmatch(revision) or ".." in revision):
        return None
    if not at:
        return repo, PUBLISHED_REVISION if repo == PUBLISHED else None
    return repo, revision


def fetch_model(name: str) -> Fetched:
    """Fetch a model's weights and configuration into the Hub client's cache, and check the weights' sha256.

    Args:
        name: `org/name` or `org/name@revision`; without a revision, the published model stands at its pinned revision
            and any other repository at the head of `main`.

    A commit that is in the cache is taken from there without a word to the network. A branch or tag is looked up, and
    where the Hub cannot be reached its last cached commit serves.

    The weights must match: the published model at its pinned revision, the sha256 in this file; any other, the sha256
    the Hub states for the file. A file that does not is removed from the cache.

    Raises:
        HubError: for every way in which this can fail.
    """
    parsed = parse(name)
    if parsed is None:
        raise HubError(
            f"{name!r} is not the name of a Hub repository. Write organisation/name or organisation/name@revision; "
            "a local path has to exist."
        )
    repo, revision = parsed
    weights = _fetch(repo, revision or "main", WEIGHTS)
    index = None if weights else _fetch(repo, revision or "main", WEIGHTS_INDEX)
    file = weights or index
    if file is None:
        raise HubError(
            f"{repo} has no {WEIGHTS} at revision {revision or 'main'}, and only safetensors weights are read, never "
            "pickles such as pytorch_model.bin. Name a repository or revision that has one, or give a local path as "
            "the model."
        )
    commit = file.path.parent.name  # the cache keeps a file as snapshots/<commit>/<file>
    # What follows is fetched by commit, so that all files come from the same one even if the branch moves in between.
    sha256 = _verify(file, repo, commit) if weights else _fetch_shards(file.path, repo, commit)
    config = _fetch(repo, commit, CONFIG)
    return Fetched(file.path, config.path if config else None, repo, commit, sha256)


def _fetch_shards(index: Path, repo: str, commit: str) -> str:
    """Fetch and verify the files that an index names, to lie beside it; their combined sha256."""
    from spectra_jax.errors import TensorFileError
    from spectra_jax.files.tensor_file import combined_sha256, read_index

    try:
        names = sorted(set(read_index(index).values()))
    except TensorFileError as error:
        raise HubError(f"{repo} at revision {commit}: {error}. Name a revision with a sound one.") from error
    digests = {}
    for name in names:
        shard = _fetch(repo, commit, name)
        if shard is None:
            raise HubError(f"{repo} has no {name} at revision {commit}, which {WEIGHTS_INDEX} names. Name another one.")
        digests[name] = _verify(shard, repo, commit, name)
    return combined_sha256(digests)


def fetch_file(repo: str, revision: str, filename: str, kind: Kind = "model") -> Path:
    """One file of a repository, in the client's cache, with the sha256 that the Hub states for it, if it states one.

    Raises:
        HubError: for every way in which this can fail, the repository having no such file included.
    """
    file = _fetch(repo, revision, filename, kind)
    if file is None:
        raise HubError(f"{repo} has no {filename} at revision {revision}. Check both names.")
    if file.advertised is not None:
        _verify(file, repo, file.path.relative_to(_snapshots(repo, kind)).parts[0], filename)
    return file.path


def fetch_dataset_file(repo: str, revision: str, filename: str) -> Path:
    """`fetch_file` of a dataset."""
    return fetch_file(repo, revision, filename, "dataset")


def list_dataset(repo: str, revision: str) -> tuple[str, list[str]]:
    """The commit that a dataset's revision stands for, and the names of its files there.

    Raises:
        HubError: it cannot be asked for; offline, only a commit whose files are in the cache can be listed.
    """
    import huggingface_hub as client
    from huggingface_hub.errors import HfHubHTTPError

    if parse(repo) is None:
        raise HubError(f"{repo!r} is not the name of a Hub dataset. Write organisation/name[@revision].")
    cached = _snapshots(repo, "dataset") / revision
    try:
        if client.constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        # The client waits for ever otherwise.
        timeout = client.constants.HF_HUB_ETAG_TIMEOUT
        info = client.HfApi(endpoint=_endpoint()).dataset_info(repo, revision=revision, timeout=timeout)
        commit, files = str(info.sha), [file.rfilename for file in info.siblings or ()]
    except Exception as error:
        # A commit never changes, so what is in the cache is part of it.
        if _COMMIT.fullmatch(revision) and cached.is_dir():
            return revision, sorted(path.relative_to(cached).as_posix() for path in cached.rglob("*.*"))
        if isinstance(error, HfHubHTTPError):
            raise _refused(error, repo, revision) from error
        if isinstance(error, HubError):
            raise
        raise _unreachable(repo, "list of files", revision, _reason(error)) from error
    # Paths are made of these.
    if not _COMMIT.fullmatch(commit):
        raise _no_hub(repo, f"the commit {commit!r:.100}, not 40 hexadecimal digits")
    for file in files:
        if not _is_plain(file):
            raise _no_hub(repo, f"a file named {file!r:.100}, not a path inside the repository")
    return commit, files


def _is_plain(name: object) -> bool:
    """Whether a file's name leads nowhere but into the folder that it is joined to, on any system."""
    if not isinstance(name, str) or re.search(r"[\x00-\x1f\\]|^[A-Za-z]:", name):
        return False
    return all(part not in ("", ".", "..") for part in name.split("/"))


def _snapshots(repo: str, kind: Kind) -> Path:
    return _cache() / f"{kind}s--{repo.replace('/', '--')}" / "snapshots"


def _fetch(repo: str, revision: str, filename: str, kind: Kind = "model") -> _File | None:
    """One file of a repository through the client's cache; None where the repository does not have it."""
    with _checked_answers(repo, revision):
        return _fetch_unchecked(repo, revision, filename, kind)


def _fetch_unchecked(repo: str, revision: str, filename: str, kind: Kind) -> _File | None:
    import huggingface_hub as client
    from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError, RevisionNotFoundError

    try:
        cached = client.try_to_load_from_cache(repo, filename, revision=revision, repo_type=kind)
    except OSError as error:
        raise HubError(
            f"Cannot read the cache ({_cache()}): {error.strerror}. Fix its permissions, or set HF_HOME to another "
            "folder."
        ) from error
    at_hand = _File(Path(cached), _name_in_cache(Path(cached))) if isinstance(cached, str) else None
    absent = cached is client._CACHED_NO_EXIST  # the client remembers that a commit lacks a file
    offline = client.constants.HF_HUB_OFFLINE
    # A commit never changes, so for one the cache is as good as the Hub.
    if (offline or _COMMIT.fullmatch(revision)) and (at_hand is not None or absent):
        return at_hand
    if offline:
        reason = "the Hub client is offline (HF_HUB_OFFLINE is set)"
        raise UnreachableError(
            f"T{reason[1:]}, and the cache ({_cache()}) has no {filename} of {repo} at revision {revision}. Unset "
            f"HF_HUB_OFFLINE to fetch it{_or_else(filename)}.",
            f"{reason}, and the cache ({_cache()}) does not have their files. Unset HF_HUB_OFFLINE to fetch them",
        )

    # Ask for the file's metadata once and without retries. `hf_hub_download` asks too, but where the Hub is out of
    # reach it goes on for half a minute (refused) to six minutes (packets dropped) before it says so.
    endpoint = _endpoint()
    try:
        metadata = client.get_hf_file_metadata(
            client.hf_hub_url(repo, filename, revision=revision, repo_type=kind, endpoint=endpoint),
            timeout=client.constants.HF_HUB_ETAG_TIMEOUT,
            endpoint=endpoint,
        )
    except RemoteEntryNotFoundError:
        metadata = None  # the download below finds the same, and notes it in the cache for the next time
    except RevisionNotFoundError as error:
        raise _refused(error, repo, revision) from error
    except Exception as error:
        # Anything else is the network's failure or the server's, and neither makes the cached file worse.
        if at_hand is not None or absent:
            return at_hand
        if isinstance(error, HubError):
            raise
        if isinstance(error, HfHubHTTPError):
            raise _refused(error, repo, revision) from error
        if isinstance(error, OSError) and error.filename is not None:  # a file of the client's own, such as its token
            raise HubError(
                f"Cannot read {error.filename}: {error.strerror}. Fix that, or set HF_HOME to a folder that can be "
                "read and written."
            ) from error
        raise _unreachable(repo, filename, revision, _reason(error)) from error
    if metadata is not None and (metadata.commit_hash is None or metadata.etag is None):
        if at_hand is not None:
            return at_hand
        reason = "what answers there is not a Hub; is it a proxy's or a network's login page?"
        raise _unreachable(repo, filename, revision, reason)

    try:
        path = Path(client.hf_hub_download(repo, filename, revision=revision, repo_type=kind, endpoint=endpoint))
    except RemoteEntryNotFoundError:
        return None
    except HubError:
        raise
    except Exception as error:
        raise _interrupted(error, repo, revision, filename, metadata.size if metadata else None) from error
    etag = metadata.etag if metadata else None
    return _File(path, _name_in_cache(path) or _if_sha256(etag or ""))


# The repository and the revision that are asked for, where answers are checked.
_asked: ContextVar[tuple[str, str] | None] = ContextVar("asked", default=None)
_installing = Lock()


@contextmanager
def _checked_answers(repo: str, revision: str) -> Iterator[None]:
    """Have all answers checked by `_check_answer` inside."""
    import huggingface_hub as client
    from huggingface_hub.utils import _http

    with _installing:
        # The client makes a new session whenever a connection fails, so the hook belongs to what makes them.
        factory = getattr(_http, "_GLOBAL_CLIENT_FACTORY", _http.default_client_factory)
        if not isinstance(factory, _CheckingSessions):
            client.set_client_factory(_CheckingSessions(factory))
    asked = _asked.set((repo, revision))
    try:
        yield
    finally:
        _asked.reset(asked)


@dataclass(frozen=True)
class _CheckingSessions:
    """Makes the client's sessions as `factory` does, with our check of each answer."""

    factory: Callable[[], Any]

    def __call__(self) -> Any:
        session = self.factory()
        hooks = session.event_hooks
        session.event_hooks = {**hooks, "response": [_check_answer, *hooks.get("response", ())]}
        return session


def _check_answer(response: Any) -> None:
    """Refuse an answer whose headers, of which the client makes file names, are not what a Hub sends."""
    asked = _asked.get()
    if asked is None:
        return
    repo, revision = asked
    # The client sleeps for as long as it is asked to, be it a century.
    waits = [
        response.headers.get("Retry-After", ""),
        *re.findall(r"\bt\s*=\s*(\d+)", response.headers.get("RateLimit", "")),
    ]
    wait = max(int(text[:18]) if text.isdecimal() else 0 for text in waits)
    if response.status_code >= 400 and wait > _LONGEST_WAIT:
        raise HubError(
            f"{_endpoint()} does not serve {repo} for another {wait:,} seconds. Run the same command again then, or "
            f"{_ALTERNATIVES}."
        )
    commit = response.headers.get("X-Repo-Commit")
    # The client makes names of a HEAD request's answer only, and of none without a commit.
    if response.request.method != "HEAD" or commit is None:
        return
    if not _COMMIT.fullmatch(commit):
        raise _no_hub(repo, f"the commit {commit!r:.100}, not 40 hexadecimal digits")
    if _COMMIT.fullmatch(revision) and commit != revision:
        raise _no_hub(repo, f"a file of commit {commit}, where {revision} was asked for")
    # The client puts no name together from an error's ETag.
    etag = response.headers.get("X-Linked-Etag") or response.headers.get("ETag") or ""
    digest = etag.removeprefix("W/").strip('"')
    if response.status_code < 400 and etag and not (_COMMIT.fullmatch(digest) or _SHA256.fullmatch(digest)):
        raise _no_hub(repo, f"the ETag {etag!r:.100}, not a sha1 or sha256 in hexadecimal digits")
    xet = response.headers.get("X-Xet-Hash")
    if xet is not None and not _SHA256.fullmatch(xet):
        raise _no_hub(repo, f"the xet hash {xet!r:.100}, not 64 hexadecimal digits")


def _no_hub(repo: str, answer: str) -> HubError:
    return HubError(
        f"{_endpoint()} answered the request for {repo} with {answer}. That is not a Hub's answer, and nothing was "
        "written; check HF_ENDPOINT."
    )


def _verify(weights: _File, repo: str, commit: str, filename: str = WEIGHTS) -> str:
    """The sha256 of a file; where it is not the one expected, the file is removed and `HubError` raised."""
    if (repo, commit) == (PUBLISHED, PUBLISHED_REVISION) and filename in PUBLISHED_SHA256:
        expected: str | None = PUBLISHED_SHA256[filename]
    else:
        expected = weights.advertised
    try:
        with weights.path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise HubError(
            f"Cannot read {weights.path}: {error.strerror}. Fix its permissions, or remove the file to have it "
            "fetched again."
        ) from error
    if expected is not None and found != expected:
        removed = _remove(weights.path)
        raise HubError(
            f"{filename} of {repo} at revision {commit} has sha256 {found} where {expected} is expected: the file was "
            "damaged or replaced on its way or on disk. "
            + (
                f"It has been removed from {weights.path}; run the same command again to fetch it afresh."
                if removed
                else f"Remove {weights.path} and run the same command again to fetch it afresh."
            )
        )
    return found


def _name_in_cache(path: Path) -> str | None:
    """The sha256 that the cache files `path` under, if it is one.

    `path` links to `blobs/<etag>`, and the etag of a large file is its sha256. Follow that link and no further: the
    blob may itself link into a store that all repositories share, where the names are of another hash of the same
    length.
    """
    return _if_sha256(path.readlink().name) if path.is_symlink() else None


def _if_sha256(etag: str) -> str | None:
    return etag if _SHA256.fullmatch(etag) else None


def _remove(path: Path) -> bool:
    """Remove a cached file with all that its links lead to, as far as that lies inside the cache."""
    cache = _cache().resolve()
    try:
        # What someone keeps elsewhere and linked into the cache is theirs: the link goes, the file stays.
        while path.parent.resolve().is_relative_to(cache):
            target = path.parent / path.readlink() if path.is_symlink() else None
            path.unlink(missing_ok=True)
            if target is None:
                break
            path = target
    except OSError:
        return False
    return True


def _endpoint() -> str:
    """The Hub's address: `HF_ENDPOINT` as it is now (the client reads it once, at import), else the client's own.

    Raises:
        HubError: it is no address.
    """
    from huggingface_hub import constants

    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT or "https://huggingface.co").rstrip("/")
    try:
        parts = urlsplit(endpoint)
        _ = parts.port  # checked when it is asked for
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"[\s\0?#]", endpoint)
    except ValueError:
        sound = False
    if not sound:
        raise HubError(
            f"HF_ENDPOINT is {endpoint!r:.100}, which is not the address of a Hub. Set it to one such as "
            f"https://huggingface.co, or unset it, or {_ALTERNATIVES}."
        )
    return endpoint


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _refused(error: Exception, repo: str, revision: str) -> HubError:
    """The sentence for an answer of the Hub that is not the file."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if isinstance(error, GatedRepoError):
        return HubError(
            f"{repo} is gated: its owner grants access to one account at a time. Ask for access at "
            f"{_endpoint()}/{repo}, then set HF_TOKEN to a token of that account."
        )
    if isinstance(error, RepositoryNotFoundError):
        return HubError(
            f"{_endpoint()} shows no repository {repo}: it does not exist, or it is private. Check the spelling; for a "
            "private repository, set HF_TOKEN to a token that may read it."
        )
    if isinstance(error, RevisionNotFoundError):
        return HubError(
            f"{repo} has no revision {revision}. Check the branch, tag or commit after the @ in {repo}@{revision}, or "
            "leave the @ and what follows it away."
        )
    if status == 401:
        return HubError(
            f"{_endpoint()} does not accept the access token it was sent for {repo}. Set HF_TOKEN to a valid token, or "
            "unset it (and `hf auth logout`) to read public repositories without one."
        )
    if status == 403:
        return HubError(
            f"{_endpoint()} denies access to {repo}. Set HF_TOKEN to a token that may read it, or {_ALTERNATIVES}."
        )
    if status == 429:
        return HubError(
            f"{_endpoint()} has had too many requests from here and does not serve {repo} for now. Wait some minutes "
            "and run the same command again; with HF_TOKEN set, the limit is higher."
        )
    return HubError(
        f"{_endpoint()} answered the request for {repo} with an error, HTTP status {status}. Run the same command "
        f"again later, or {_ALTERNATIVES}."
    )


def _or_else(filename: str) -> str:
    """What else to do, where a model's own files are what is missing."""
    return f", or {_ALTERNATIVES}" if filename in (WEIGHTS, CONFIG) else ""


def _unreachable(repo: str, filename: str, revision: str, reason: str) -> HubError:
    return UnreachableError(
        f"Cannot reach {_endpoint()} ({reason}), and the cache ({_cache()}) has no {filename} of {repo} at revision "
        f"{revision}. Connect to the network and run the same command again{_or_else(filename)}.",
        f"{_endpoint()} cannot be reached ({reason}), and the cache ({_cache()}) does not have their files. Connect to "
        "the network and run the same command again",
    )


def _interrupted(error: Exception, repo: str, revision: str, filename: str, size: int | None) -> HubError:
    """The sentence for a download that began and did not end well."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if isinstance(error, HfHubHTTPError):  # before OSError, which it is too
        return _refused(error, repo, revision)
    if isinstance(error, LocalEntryNotFoundError):  # the network went away between the question and the download
        return _unreachable(repo, filename, revision, _reason(error.__cause__ or error))
    number = error.errno if isinstance(error, OSError) else None
    # The client's xet library reports a full disk as a plain RuntimeError, with the system's words in it.
    if number in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error):
        needed = f" ({size / 1e9:.2f} GB)" if size is not None else ""
        return HubError(
            f"The disk is full: {filename} of {repo}{needed} does not fit into the cache ({_cache()}). Free some "
            "space, or set HF_HOME to a folder on a larger disk, and run the same command again."
        )
    if isinstance(error, OSError) and number is not None:
        return HubError(
            f"Cannot write {filename} of {repo} into the cache ({_cache()}): {error.strerror}. Fix that, or set "
            "HF_HOME to a folder that can be written."
        )
    return HubError(
        f"The download of {filename} of {repo} broke off ({_reason(error)}). Check the connection and run the same "
        f"command again{_or_else(filename)}."
    )


def _reason(error: BaseException) -> str:
    """What a library's exception says, on one line and without its full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
