"""Recordings at URLs: only below permitted prefixes, only from addresses that the prefix means.

A service that reads any URL reads those of its own network for whoever asks. So a URL's scheme, host, port and path are
compared with those of a prefix; the host's addresses are resolved once, checked, and connected to; redirects are not
followed; and no proxy is used.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from threading import Timer
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit

from spectra_jax.errors import InputError, RequestError

_PORTS = {"http": 80, "https": 443}
_READ = 1 << 16
_WAIT_SECONDS = 10.0
_MAX_URL = 4096


@dataclass(frozen=True)
class UrlPrefix:
    """What permitted URLs begin with.

    Attributes:
      scheme: http or https.
      host: in lower case.
      port: of the scheme, unless another is stated.
      path: begins and ends with a slash.
    """

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, text: str) -> Self:
        """The prefix that an option states.

        Raises:
          InputError: not the start of a web address, or with a user, query or fragment.
        """
        try:
            parts = urlsplit(text)
            host, port = _host(parts), parts.port
        except ValueError as error:
            raise InputError(f"--allow-url {text}: {error}") from error
        if parts.scheme not in _PORTS or not host:
            raise InputError(f"--allow-url {text}: https://HOST/ or http://HOST/ is expected, with or without a path")
        if parts.query or parts.fragment or parts.username is not None:
            raise InputError(f"--allow-url {text}: a prefix has no user, query or fragment")
        path = parts.path if parts.path.endswith("/") else f"{parts.path}/"
        return cls(parts.scheme, host, port or _PORTS[parts.scheme], path)

    @property
    def names_address(self) -> bool:
        """Whether its host is an address or `localhost`, so that whoever permitted it meant that address."""
        return self.host == "localhost" or _is_address(self.host)

    def permits(self, parts: SplitResult) -> bool:
        """Whether a URL begins with this prefix."""
        return (
            parts.scheme == self.scheme
            and _host(parts) == self.host
            and (parts.port or _PORTS[self.scheme]) == self.port
            and parts.path.startswith(self.path)
        )


def download(url: str, prefixes: Sequence[UrlPrefix], *, max_bytes: int, max_seconds: float) -> bytes:
    """The bytes at a URL.

    Args:
      url: of a recording.
      prefixes: the permitted ones.
      max_bytes: the most that is read.
      max_seconds: how long it may take altogether.

    Raises:
      RequestError: the URL is not permitted, leads to another, has too much, takes too long or cannot be read.
    """
    deadline = time.monotonic() + max_seconds
    parts, prefix = _permitted(url, prefixes)
    content, error = b"", None
    try:
        with closing(_connect(prefix, min(max_seconds, _WAIT_SECONDS))) as stream, _shut_down_at(deadline, stream):
            content = _read(stream, prefix, url, parts, max_bytes)
    except (OSError, HTTPException) as caught:
        error = caught
    # What was read until the deadline may look complete.
    if time.monotonic() >= deadline:
        raise RequestError(502, f"{url}: not complete after {max_seconds:g} s") from error
    if isinstance(error, TimeoutError):
        raise RequestError(502, f"{url}: its server sent no data for {_WAIT_SECONDS:g} s") from error
    if error is not None:
        raise RequestError(502, f"{url}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return content


def _permitted(url: str, prefixes: Sequence[UrlPrefix]) -> tuple[SplitResult, UrlPrefix]:
    """A URL's parts, and the prefix that permits it."""
    if not prefixes:
        raise RequestError(403, "this service reads no URLs: upload the file; --allow-url permits the URLs of a prefix")
    if len(url) > _MAX_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise RequestError(400, f"a URL has at most {_MAX_URL:,} ASCII characters, without spaces and backslashes")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise RequestError(400, f"{url}: not a URL: {error}") from error
    # Dots as whole parts of a path lead out of a prefix; a server may decode more than once.
    path = unquote(unquote(parts.path)).replace("\\", "/")
    climbs = any(part in (".", "..") for part in path.split("/"))
    if parts.username is None and not climbs:
        for prefix in prefixes:
            if prefix.permits(parts):
                return parts, prefix
    raise RequestError(403, f"{url}: not below a URL that this service may read: upload the file, or see --allow-url")


def _host(parts: SplitResult) -> str:
    return (parts.hostname or "").rstrip(".")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_public(address: str) -> bool:
    """Whether an address is one of the internet, also where it holds another one."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        # NAT64 (64:ff9b::/96) leads to the IPv4 address in its last four bytes.
        nat64 = ipaddress.IPv4Address(found.packed[-4:]) if found.packed[:12] == b"\0\x64\xff\x9b" + bytes(8) else None
        teredo = found.teredo[1] if found.teredo is not None else None
        inner = [one for one in (found.ipv4_mapped, found.sixtofour, teredo, nat64) if one is not None]
        if inner:
            return all(one.is_global and not one.is_multicast for one in inner)
    return found.is_global and not found.is_multicast


def _connect(prefix: UrlPrefix, timeout: float) -> socket.socket:
    """A connection to an address of the host, which was checked: the name is not resolved again.

    Args:
      prefix: which host and port.
      timeout: of the connection, and later of each wait for data, in seconds.
    """
    found = socket.getaddrinfo(prefix.host, prefix.port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    private = [] if prefix.names_address else [address for address in addresses if not _is_public(address)]
    if private:
        raise RequestError(
            403,
            f"{prefix.host} has the address {private[0]}, which is not one of the internet; where that is meant, "
            "--allow-url names the address itself",
        )
    stream = socket.create_connection((addresses[0], prefix.port), timeout=timeout)
    if prefix.scheme == "https":
        # The handshake follows, so that it ends at the deadline, too.
        context = ssl.create_default_context()
        return context.wrap_socket(stream, server_hostname=prefix.host, do_handshake_on_connect=False)
    return stream


@contextmanager
def _shut_down_at(deadline: float, stream: socket.socket) -> Iterator[None]:
    """Shut a connection down at a deadline, which ends every read of it, however slowly its server sends."""

    def shut_down() -> None:
        # That of an encrypted connection would change its state beside the thread that reads.
        with suppress(OSError):
            socket.socket.shutdown(stream, socket.SHUT_RDWR)

    timer = Timer(max(deadline - time.monotonic(), 0.0), shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _read(stream: socket.socket, prefix: UrlPrefix, url: str, parts: SplitResult, max_bytes: int) -> bytes:
    connection = HTTPConnection(prefix.host, prefix.port)
    if isinstance(stream, ssl.SSLSocket):
        stream.do_handshake()
        connection = HTTPSConnection(prefix.host, prefix.port, context=stream.context)
    connection.sock = stream
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", target, headers={"Accept-Encoding": "identity", "User-Agent": "spectra-jax"})
    with connection.getresponse() as response:
        _check_response(response, url)
        content = bytearray()
        while block := response.read1(_READ):
            content += block
            if len(content) > max_bytes:
                raise RequestError(413, f"{url}: more than the {max_bytes:,} bytes that a recording may have")
        if response.length:
            raise HTTPException(f"its server stated {response.length:,} more bytes than it sent")
        return bytes(content)


def _check_response(response: HTTPResponse, url: str) -> None:
    if 300 <= response.status < 400:
        where = response.headers.get("Location", "nowhere")[:_MAX_URL]
        raise RequestError(400, f"{url}: redirects to {where}, which is not followed: state that URL")
    if response.status != 200:
        raise RequestError(502, f"{url}: its server answers with the status {response.status} {response.reason}")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise RequestError(502, f"{url}: its server compresses the response, although it was told not to")
