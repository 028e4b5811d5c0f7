"""A Hugging Face Hub on the loopback: the real client downloads from it, and faults can be switched on.

It imitates what the client relies on:

- `/{repo}/resolve/{revision}/{file}`, HEAD and GET. A small text file is served on the spot, its ETag the git blob's
  sha1. A large one (recognised by its suffix, as the Hub does by `.gitattributes`) is a redirect with `X-Linked-Etag`
  (its sha256) and `X-Linked-Size` to a CDN. The CDN is a second port, because the client treats another origin
  differently: it reads the metadata from the redirect, and does not send its access token there.
- `/api/models/{repo}`, `.../revision/{revision}` and `.../tree/{revision}`, the same for `datasets`; sizes of
  files where `?blobs=true` asks for them.
- Range requests, everywhere.
- Refusals with the Hub's status and `X-Error-Code`. Without a token, the Hub answers 401 for a repository that does not
  exist, so that nobody learns which private ones do.

The xet protocol is not advertised, so that every byte comes over plain HTTP.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import unquote, urlsplit

LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".onnx", ".parquet", ".tar", ".zip", ".flac", ".wav")

_RESOLVE = re.compile(r"/(?P<repo>(?:datasets/)?[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_API = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)(?:/(?P<verb>revision|tree)/(?P<revision>[^/]+)(?P<folder>/.+)?)?"
)
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True)
class Request:
    """One request as received. `server` is "hub" or "cdn"; header names are in lower case."""

    server: str
    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class _Drop:
    after: int
    times: int | None
    reset: bool


@dataclass(frozen=True)
class _Response:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    filename: str = ""  # the repository's file that the body is, if it is one


class HubStandIn:
    """Serves `repos`, `{repo: {revision: {file name: content}}}`, while it is entered as a context manager.

    A repository is named as in the Hub's addresses: `org/name` is a model, `datasets/org/name` a data set. A revision
    of 40 hex digits is a commit; any other is a name, and its commit follows from the files (if one of the commits
    given has the same files, it is that one). The dictionary is read at each request, so it may change in between.

    Attributes:
        requests: all requests received, in order.
        tokens: the valid access tokens; any other is refused, even for a public repository.
        gated: for a gated repository, the tokens that may read it.
        private: for a private repository, the tokens that may see it.
        status: if set, the status of every response of the hub (503 for a Hub that is down).
        alter: if set, changes the headers of each response of the hub about a file: `alter(file name, headers)`.
        listed: names that the hub lists as a repository's files besides those that exist.
    """

    def __init__(self, repos: dict[str, dict[str, dict[str, bytes]]]) -> None:
        self.repos = repos
        self.requests: list[Request] = []
        self.tokens: set[str] = set()
        self.gated: dict[str, set[str]] = {}
        self.private: dict[str, set[str]] = {}
        self.status: int | None = None
        self.alter: Callable[[str, dict[str, str]], object] | None = None
        self.listed: list[object] = []
        self._denied: dict[str, _Response] = {}
        self._hanging: set[str] = set()
        self._healed = threading.Event()
        self._drops: dict[str, _Drop] = {}
        self._garbled: set[str] = set()
        self._lock = threading.Lock()
        self._hub = _Server("hub", self._respond_hub, self)
        self._cdn = _Server("cdn", self._respond_cdn, self)

    @property
    def url(self) -> str:
        """The value for `HF_ENDPOINT`."""
        return self._hub.url

    def drop(self, filename: str, *, after: int, times: int | None = 1, reset: bool = False) -> None:
        """Close the connection `after` bytes into the body of `filename`: the next `times` times, or always (None).

        With `reset` the connection is torn down (RST) rather than closed (FIN).
        """
        self._drops[filename] = _Drop(after, times, reset)

    def deny(self, filename: str, status: int, headers: dict[str, str]) -> None:
        """From now on, let the CDN respond with this status and these headers instead of sending `filename`."""
        self._denied[filename] = _Response(status, headers)

    def hang(self, filename: str) -> None:
        """From now on, send only the first byte of `filename`, and leave the connection open."""
        self._hanging.add(filename)

    def garble(self, filename: str) -> None:
        """From now on, send `filename` with its last byte inverted, under its right size and digest."""
        self._garbled.add(filename)

    def heal(self) -> None:
        """Switch every fault off."""
        self._drops.clear()
        self._garbled.clear()
        self._denied.clear()
        self._hanging.clear()
        self._healed.set()
        self.status = self.alter = None
        self.listed.clear()

    def requested(self, method: str, server: str | None = None) -> list[str]:
        """The requested paths, in order: those of requests with `method`, to `server` or to both."""
        return [r.path for r in self.requests if r.method == method and server in (None, r.server)]

    def commit(self, repo: str, revision: str) -> str:
        """The commit that `revision` resolves to, 40 hex digits."""
        if _is_commit(revision):
            return revision
        files = self.repos[repo][revision]
        for other, others in self.repos[repo].items():
            if _is_commit(other) and others == files:
                return other
        tree = [(name, hashlib.sha256(content).hexdigest()) for name, content in sorted(files.items())]
        return hashlib.sha1(json.dumps([repo, tree]).encode()).hexdigest()

    def __enter__(self) -> HubStandIn:
        self._hub.start()
        self._cdn.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.heal()
        self._hub.stop()
        self._cdn.stop()

    # Called by the handlers

    def log(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def hangs(self, filename: str) -> bool:
        """Whether a response with this file must hang."""
        return filename in self._hanging

    def wait_until_healed(self) -> None:
        self._healed.wait()

    def next_drop(self, filename: str) -> _Drop | None:
        """The fault to apply to this response, counted down."""
        with self._lock:
            drop = self._drops.get(filename)
            if drop is None or drop.times == 0:
                return None
            if drop.times is not None:
                drop.times -= 1
            return drop

    def _respond_hub(self, address: str, token: str | None) -> _Response:
        path, query = urlsplit(address).path, urlsplit(address).query
        if self.status is not None:
            return _Response(self.status, {"X-Error-Message": "Set to fail"})
        if resolve := _RESOLVE.fullmatch(path):
            repo, revision, name = (unquote(part) for part in resolve.group("repo", "revision", "file"))
            found = self._find(repo, revision, token)
            if isinstance(found, _Response):
                return found
            if repo in self.gated and token not in self.gated[repo]:  # its files are gated, its description is not
                return _Response(401 if token is None else 403, _error("GatedRepo", f"Access to {repo} is restricted."))
            response = self._resolve(*found, name)
            if self.alter is not None:
                self.alter(name, response.headers)
            return response
        if api := _API.fullmatch(path):
            repo = unquote(api["repo"]) if api["kind"] == "models" else f"{api['kind']}/{unquote(api['repo'])}"
            found = self._find(repo, unquote(api["revision"] or "main"), token)
            if isinstance(found, _Response):
                return found
            commit, files = found
            if api["verb"] == "tree":
                folder = unquote(api["folder"] or "").strip("/")
                return _json([_tree_entry(name, files[name]) for name in sorted(files) if name.startswith(folder)])
            siblings: list[dict[str, object]] = [{"rfilename": name} for name in [*sorted(files), *self.listed]]
            if "blobs" in query:
                siblings = [
                    {**entry, "blobId": "0" * 40, "size": len(files.get(str(entry["rfilename"]), b""))}
                    for entry in siblings
                ]
            return _json({"id": api["repo"], "sha": commit, "private": repo in self.private, "siblings": siblings})
        return _Response(404, {"X-Error-Message": "Sorry, we can't find the page you are looking for."})

    def _find(self, repo: str, revision: str, token: str | None) -> tuple[str, dict[str, bytes]] | _Response:
        """The commit and files of a revision, or the refusal."""
        if token is not None and token not in self.tokens:
            return _Response(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        if repo not in self.repos or (repo in self.private and token not in self.private[repo]):
            return _Response(401 if token is None else 404, _error("RepoNotFound", "Repository not found"))
        for known, files in self.repos[repo].items():
            if revision in (known, self.commit(repo, known)):
                return self.commit(repo, known), files
        return _Response(404, _error("RevisionNotFound", f"Invalid rev id: {revision}"))

    def _resolve(self, commit: str, files: dict[str, bytes], name: str) -> _Response:
        if name not in files:
            return _Response(404, {"X-Repo-Commit": commit, **_error("EntryNotFound", "Entry not found")})
        content = files[name]
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if not name.endswith(LFS_SUFFIXES):
            headers["ETag"] = f'"{_git_sha1(content)}"'
            return _Response(200, headers, self._body(name, content), name)
        sha256 = hashlib.sha256(content).hexdigest()
        headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content)), "ETag": f'"{sha256}"'}
        headers["Location"] = f"{self._cdn.url}/lfs/{sha256}"
        return _Response(302, headers, b"Found. Redirecting.")

    def _respond_cdn(self, address: str, token: str | None) -> _Response:
        path = urlsplit(address).path
        for revisions in self.repos.values():
            for files in revisions.values():
                for name, content in files.items():
                    if path == f"/lfs/{hashlib.sha256(content).hexdigest()}":
                        if name in self._denied:
                            return self._denied[name]
                        return _Response(200, {"Accept-Ranges": "bytes"}, self._body(name, content), name)
        return _Response(404)

    def _body(self, name: str, content: bytes) -> bytes:
        return content[:-1] + bytes([content[-1] ^ 0xFF]) if name in self._garbled else content


class _Server(ThreadingHTTPServer):
    """One port, whose responses are a function of address and access token."""

    def __init__(self, name: str, respond: Callable[[str, str | None], _Response], stand_in: HubStandIn) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name, self.respond, self.stand_in = name, respond, stand_in
        # The default of half a second is how long stopping takes.
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing about clients that hang up: some tests make them."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class calls it that)
        """Requests are kept in `HubStandIn.requests`, not printed."""

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = urlsplit(self.path).path
        self.server.stand_in.log(Request(self.server.name, self.command, path, headers))
        scheme, _, token = headers.get("authorization", "").partition(" ")
        response = self.server.respond(self.path, token if scheme == "Bearer" else None)

        status, body, extra = response.status, response.body, dict(response.headers)
        if status == 200 and "range" in headers:
            status, body, content_range = _slice(body, headers["range"])
            extra["Content-Range"] = content_range
        self.close_connection = True  # no connection outlives its response, so none outlives the test
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.stand_in.hangs(response.filename):
            self.wfile.write(body[:1])
            self.wfile.flush()
            self.server.stand_in.wait_until_healed()
            return
        drop = self.server.stand_in.next_drop(response.filename) if response.filename else None
        if drop is None:
            self.wfile.write(body)
            return
        self.wfile.write(body[: drop.after])
        if drop.reset:
            # Lingering for no seconds makes close() send a reset; the reader shares the socket, so it goes first.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()


def _slice(body: bytes, header: str) -> tuple[int, bytes, str]:
    """Status, body and Content-Range for a Range header: `bytes=2-5`, `bytes=2-` or `bytes=-3`."""
    size = len(body)
    match = _RANGE.fullmatch(header)
    first, last = match.groups() if match else ("", "")
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    else:
        start, stop = max(size - int(last or 0), 0), size
    if start >= stop:
        return 416, b"", f"bytes */{size}"
    return 206, body[start:stop], f"bytes {start}-{stop - 1}/{size}"


def _tree_entry(name: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": name, "size": len(content), "oid": _git_sha1(content)}
    if name.endswith(LFS_SUFFIXES):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 135}
    return entry


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _is_commit(revision: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def _error(code: str, message: str) -> dict[str, str]:
    return {"X-Error-Code": code, "X-Error-Message": message}


def _json(value: object) -> _Response:
    return _Response(200, {"Content-Type": "application/json"}, json.dumps(value).encode())
