"""The Hub client: its address, its cache directory, and a check of every response.

The client makes file names of headers that the server sends (ETag, commit), which could lead out of its cache. So each
response is checked before the client sees it, in a hook of the HTTP session that the client uses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from spectra_jax.errors import HubError
from spectra_jax.hub.names import is_commit, is_sha256

ALTERNATIVES = "give a local path as the model, or `--model demo`"
"""What a user who cannot get a model from the Hub can do instead."""

LONGEST_WAIT = 300
"""How many seconds a server may make the client wait until it tries again."""


def cache_directory() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_offline() -> bool:
    """Whether `HF_HUB_OFFLINE` is set."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def endpoint() -> str:
    """The Hub's address: `HF_ENDPOINT` as it is now (the client reads it once, at import), else the client's own.

    Raises:
        HubError: it is not an http or https address.
    """
    from huggingface_hub import constants

    address = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT or "https://huggingface.co").rstrip("/")
    try:
        parts = urlsplit(address)
        _ = parts.port  # urlsplit checks the port when it is read
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"[\s\0?#]", address)
    except ValueError:
        valid = False
    if not valid:
        raise HubError(
            f"HF_ENDPOINT is {address!r:.100}, which is not the address of a Hub. Set it to one such as "
            f"https://huggingface.co, or unset it, or {ALTERNATIVES}."
        )
    return address


# The repository and revision of the request in progress; None while other code uses the client.
_requested: ContextVar[tuple[str, str] | None] = ContextVar("requested", default=None)
_installing = Lock()


@contextmanager
def checked_responses(repo: str, revision: str) -> Iterator[None]:
    """Check every response inside, to requests for `repo` at `revision`.

    Raises:
        HubError: a response whose headers a Hub would not send.
    """
    import huggingface_hub
    from huggingface_hub.utils import _http

    with _installing:
        # The client makes a new session after each failed connection, so the hook belongs to its session factory.
        factory = getattr(_http, "_GLOBAL_CLIENT_FACTORY", _http.default_client_factory)
        if not isinstance(factory, _CheckingSessions):
            huggingface_hub.set_client_factory(_CheckingSessions(factory))
    requested = _requested.set((repo, revision))
    try:
        yield
    finally:
        _requested.reset(requested)


@dataclass(frozen=True)
class _CheckingSessions:
    """Makes the client's sessions as `factory` does, and adds our check of each response."""

    factory: Callable[[], Any]

    def __call__(self) -> Any:
        session = self.factory()
        hooks = session.event_hooks
        session.event_hooks = {**hooks, "response": [_check_response, *hooks.get("response", ())]}
        return session


def _check_response(response: Any) -> None:
    requested = _requested.get()
    if requested is None:
        return
    repo, revision = requested
    _check_wait(response, repo)
    # The client makes file names of responses to HEAD requests only, and only of those that state a commit.
    if response.request.method == "HEAD" and response.headers.get("X-Repo-Commit") is not None:
        _check_names(response, repo, revision)


def _check_wait(response: Any, repo: str) -> None:
    """Refuse a wait that is too long: the client would sleep through it, even if it takes a century."""
    waits = [
        response.headers.get("Retry-After", ""),
        *re.findall(r"\bt\s*=\s*(\d+)", response.headers.get("RateLimit", "")),
    ]
    seconds = max(int(text[:18]) if text.isdecimal() else 0 for text in waits)
    if response.status_code >= 400 and seconds > LONGEST_WAIT:
        raise HubError(
            f"{endpoint()} does not serve {repo} for another {seconds:,} seconds. Run the same command again then, or "
            f"{ALTERNATIVES}."
        )


def _check_names(response: Any, repo: str, revision: str) -> None:
    """Refuse headers that would not be plain file names in the cache."""
    commit = response.headers["X-Repo-Commit"]
    if not is_commit(commit):
        raise not_from_a_hub(repo, f"the commit {commit!r:.100}, not 40 hexadecimal digits")
    if is_commit(revision) and commit != revision:
        raise not_from_a_hub(repo, f"a file of commit {commit}, where {revision} was requested")
    etag = response.headers.get("X-Linked-Etag") or response.headers.get("ETag") or ""
    digest = etag.removeprefix("W/").strip('"')
    # The client makes no name of the ETag of an error. A commit and a git blob have digests of the same kind, sha1.
    if response.status_code < 400 and etag and not (is_commit(digest) or is_sha256(digest)):
        raise not_from_a_hub(repo, f"the ETag {etag!r:.100}, not a sha1 or sha256 in hexadecimal digits")
    xet = response.headers.get("X-Xet-Hash")
    if xet is not None and not is_sha256(xet):
        raise not_from_a_hub(repo, f"the xet hash {xet!r:.100}, not 64 hexadecimal digits")


def not_from_a_hub(repo: str, answer: str) -> HubError:
    """The error for a response that no Hub would send."""
    return HubError(
        f"{endpoint()} answered the request for {repo} with {answer}. A Hub does not answer so, and nothing was "
        "written. Check HF_ENDPOINT."
    )
