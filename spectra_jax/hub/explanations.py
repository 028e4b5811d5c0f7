"""Exceptions of the Hub client as a `HubError`: what happened, then what to do."""

from __future__ import annotations

import errno
import os

from spectra_jax.errors import HubError, NoRevisionError, UnreachableError
from spectra_jax.hub.client import ALTERNATIVES, cache_directory, endpoint
from spectra_jax.hub.names import CONFIG, WEIGHTS


def refused(error: Exception, repo: str, revision: str) -> HubError:
    """The Hub refused the request with an HTTP status."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    hub = endpoint()
    if isinstance(error, GatedRepoError):
        return HubError(
            f"{repo} is gated: its owner grants access to one account at a time. Ask for access at {hub}/{repo}, then "
            "set HF_TOKEN to a token of that account."
        )
    if isinstance(error, RepositoryNotFoundError):
        return HubError(
            f"{hub} shows no repository {repo}: it does not exist, or it is private. Check the spelling; for a "
            "private repository, set HF_TOKEN to a token that may read it."
        )
    if isinstance(error, RevisionNotFoundError):
        return NoRevisionError(
            f"{repo} has no revision {revision}. Check the branch, tag or commit after the @ in {repo}@{revision}, or "
            "leave out the @ and everything after it."
        )
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if status == 401:
        return HubError(
            f"{hub} does not accept the access token that was sent for {repo}. Set HF_TOKEN to a valid token, or unset "
            "it (and `hf auth logout`) to read public repositories without one."
        )
    if status == 403:
        return HubError(f"{hub} denies access to {repo}. Set HF_TOKEN to a token that may read it, or {ALTERNATIVES}.")
    if status == 429:
        return HubError(
            f"{hub} had too many requests from this address and does not serve {repo} for now. Wait some minutes and "
            "run the same command again; with HF_TOKEN set, the limit is higher."
        )
    return HubError(
        f"{hub} answered the request for {repo} with an error, HTTP status {status}. Run the same command again later, "
        f"or {ALTERNATIVES}."
    )


def offline(repo: str, filename: str, revision: str) -> UnreachableError:
    """The client must not use the network, and the cache does not have the file."""
    cache = cache_directory()
    return UnreachableError(
        f"The Hub client is offline (HF_HUB_OFFLINE is set), and the cache ({cache}) has no {filename} of {repo} at "
        f"revision {revision}. Unset HF_HUB_OFFLINE to fetch it{_or_else(filename)}.",
        f"the Hub client is offline (HF_HUB_OFFLINE is set), and the cache ({cache}) does not have their files. Unset "
        "HF_HUB_OFFLINE to fetch them",
    )


def unreachable(repo: str, filename: str, revision: str, reason: str) -> UnreachableError:
    """There is no connection to the Hub, and the cache does not have the file."""
    hub, cache = endpoint(), cache_directory()
    return UnreachableError(
        f"Cannot reach {hub} ({reason}), and the cache ({cache}) has no {filename} of {repo} at revision {revision}. "
        f"Connect to the network and run the same command again{_or_else(filename)}.",
        f"{hub} cannot be reached ({reason}), and the cache ({cache}) does not have their files. Connect to the "
        "network and run the same command again",
    )


def no_metadata(error: Exception, repo: str, filename: str, revision: str) -> HubError:
    """The request for a file's metadata failed."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):  # before OSError, its base class
        return refused(error, repo, revision)
    if isinstance(error, OSError) and error.filename is not None:  # a file of the client's own, such as its token
        return HubError(
            f"Cannot read {error.filename}: {error.strerror}. Fix that, or set HF_HOME to a folder that can be read "
            "and written."
        )
    return unreachable(repo, filename, revision, reason_of(error))


def interrupted(error: Exception, repo: str, filename: str, revision: str, size: int | None) -> HubError:
    """A download started and failed; `size` is the file's in bytes, where it is known."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if isinstance(error, HfHubHTTPError):  # before OSError, its base class
        return refused(error, repo, revision)
    if isinstance(error, LocalEntryNotFoundError):  # the network failed between the metadata and the download
        return unreachable(repo, filename, revision, reason_of(error.__cause__ or error))
    number = error.errno if isinstance(error, OSError) else None
    # The client's xet library reports a full disk as a plain RuntimeError, with the system's words in it.
    if number in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error):
        needed = f" ({size / 1e9:.2f} GB)" if size is not None else ""
        return HubError(
            f"The disk is full: {filename} of {repo}{needed} does not fit into the cache ({cache_directory()}). Free "
            "some space, or set HF_HOME to a folder on a larger disk, and run the same command again."
        )
    if isinstance(error, OSError) and number is not None:
        return HubError(
            f"Cannot write {filename} of {repo} into the cache ({cache_directory()}): {error.strerror}. Fix that, or "
            "set HF_HOME to a folder that can be written."
        )
    return HubError(
        f"The download of {filename} of {repo} broke off ({reason_of(error)}). Check the connection and run the same "
        f"command again{_or_else(filename)}."
    )


def reason_of(error: BaseException) -> str:
    """The first line of an exception's text, without its full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _or_else(filename: str) -> str:
    """What else to do, where the missing file is a model's."""
    return f", or {ALTERNATIVES}" if filename in (WEIGHTS, CONFIG) else ""
