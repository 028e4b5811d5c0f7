"""The listening socket, and the server until it is stopped."""

from __future__ import annotations

import errno
import socket
from types import FrameType

import uvicorn

from spectra_jax.errors import InputError
from spectra_jax.serving.application import create_app
from spectra_jax.serving.service import Service
from spectra_jax.serving.settings import is_loopback
from spectra_jax.serving.telemetry import log, log_to

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Args:
      host: an address of this machine, or a name of one.
      port: 0 for any free one.

    Raises:
      InputError: the port is in use or not permitted, or there is no such address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        # A port whose last connections are still being closed is free.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise InputError(
                f"port {port} of {host} is in use by another program: --port names another one, and --port 0 takes any "
                "free one"
            ) from error
        raise InputError(f"--host {host} --port {port}: {getattr(error, 'strerror', None) or error}") from error
    return listening


class _Server(uvicorn.Server):
    """Refuses new recordings from the moment of the signal, also on connections that stay open."""

    def __init__(self, config: uvicorn.Config, service: Service):
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.refuse_new()
        log("stopping", signal=sig, in_flight=self._service.queue_depth)
        super().handle_exit(sig, frame)


def build_server(service: Service, host: str) -> uvicorn.Server:
    """The server of a service, to be run with a socket of `listen`.

    Args:
      service: not started.
      host: that it listens on.
    """
    config = uvicorn.Config(
        create_app(service, _LOOPBACK_NAMES | {host} if is_loopback(host) else None),
        log_config=None,
        access_log=False,
        server_header=False,
        # Headers of a proxy are not believed: nothing here depends on a client's address.
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=max(round(service.settings.drain_seconds), 1),
        timeout_keep_alive=10,
        backlog=_BACKLOG,
        ws="none",
    )
    return _Server(config, service)


def serve(service: Service, listening: socket.socket, host: str) -> None:
    """Answer requests until a signal stops the service or its network cannot be loaded.

    After the first SIGTERM or Ctrl-C requests in flight are finished; a second Ctrl-C ends them, too.

    Args:
      service: not started.
      listening: see `listen`.
      host: that it listens on.

    Raises:
      Exception: why the network could not be loaded.
    """
    log_to()
    server = build_server(service, host)

    def stop() -> None:
        server.should_exit = True

    service.on_failure = stop
    address, port = listening.getsockname()[:2]
    log("listening", url=f"http://{f'[{address}]' if ':' in address else address}:{port}")
    server.run(sockets=[listening])
    if service.failure is not None:
        raise service.failure
