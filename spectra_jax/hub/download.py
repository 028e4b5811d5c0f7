"""One file of a repository: from the cache if possible, otherwise from the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spectra_jax.errors import HubError
from spectra_jax.hub import explanations
from spectra_jax.hub.cache import HubFile, look_up, sha256_of_link
from spectra_jax.hub.client import checked_responses, endpoint, is_offline
from spectra_jax.hub.names import Kind, is_commit, is_sha256

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata


def download(repo: str, revision: str, filename: str, kind: Kind = "model") -> HubFile | None:
    """Get one file into the client's cache; None where the repository does not have it.

    A commit that is in the cache is taken from there without any request. For a branch or tag the Hub is queried, and
    if it cannot be reached, the last cached commit is used.

    Raises:
        HubError: the file cannot be had.
    """
    from huggingface_hub.errors import RevisionNotFoundError

    cached = look_up(repo, revision, filename, kind)
    # A commit never changes, so its cached files are as good as the Hub's.
    if cached.known and (is_offline() or is_commit(revision)):
        return cached.file
    if is_offline():
        raise explanations.offline(repo, filename, revision)
    with checked_responses(repo, revision):
        try:
            metadata = _metadata(repo, revision, filename, kind)
        except RevisionNotFoundError as error:
            raise explanations.refused(error, repo, revision) from error
        except Exception as error:
            # The network or the server failed. The cached file is as good as before.
            if cached.known:
                return cached.file
            if isinstance(error, HubError):
                raise
            raise explanations.no_metadata(error, repo, filename, revision) from error
        return _download(repo, revision, filename, kind, metadata)


def _metadata(repo: str, revision: str, filename: str, kind: Kind) -> HfFileMetadata | None:
    """Request a file's metadata, once and without retries; None where the repository does not have the file.

    `hf_hub_download` requests them too, but where the Hub cannot be reached it tries for half a minute (connection
    refused) to six minutes (packets dropped) before it reports that.
    """
    import huggingface_hub
    from huggingface_hub.errors import RemoteEntryNotFoundError

    hub = endpoint()
    try:
        metadata = huggingface_hub.get_hf_file_metadata(
            huggingface_hub.hf_hub_url(repo, filename, revision=revision, repo_type=kind, endpoint=hub),
            timeout=huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT,
            endpoint=hub,
        )
    except RemoteEntryNotFoundError:
        return None
    if metadata.commit_hash is None or metadata.etag is None:
        reason = "the server there is not a Hub; is it a proxy's or a network's login page?"
        raise explanations.unreachable(repo, filename, revision, reason)
    return metadata


def _download(repo: str, revision: str, filename: str, kind: Kind, metadata: HfFileMetadata | None) -> HubFile | None:
    import huggingface_hub
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        # Without metadata as well: the client then notes in its cache that the commit does not have the file.
        path = Path(
            huggingface_hub.hf_hub_download(repo, filename, revision=revision, repo_type=kind, endpoint=endpoint())
        )
    except RemoteEntryNotFoundError:
        return None
    except HubError:
        raise
    except Exception as error:
        size = metadata.size if metadata else None
        raise explanations.interrupted(error, repo, filename, revision, size) from error
    # Where the file system has no links, the ETag alone states the sha256.
    etag = metadata.etag if metadata else None
    return HubFile(path, sha256_of_link(path) or (etag if etag and is_sha256(etag) else None))
