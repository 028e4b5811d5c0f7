"""What a service is started with."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path

from spectra_jax.errors import InputError

API_KEY_VARIABLE = "SPECTRA_JAX_API_KEY"
"""The environment variable with the API key. A key in an option would show in the list of processes."""
MIN_HOP = 0.1
"""The smallest hop that a request may ask for, in seconds."""
_MODULES = {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}
_MODULES["prometheus_client"] = "prometheus-client"


@dataclass(frozen=True)
class ServiceSettings:
    """How a service answers.

    Attributes:
      max_wait_ms: how long a window waits for others of its batch while the network is idle, in milliseconds; see
        `spectra_jax.serving.batching.Batcher`.
      max_queue: recordings that are decoded, scored, drawn or waiting at a time; more are refused with the status 429.
      max_bytes: of an uploaded or downloaded recording.
      max_buffered_bytes: of all recordings in memory together; more are refused with the status 429.
      max_seconds: length of a recording.
      body_seconds: how long a request's body, or a download, may take.
      drain_seconds: how long requests in flight may take after the service is told to stop.
      decoder_threads: how many recordings are decoded at a time.
      threshold: of requests that state none; None for no label.
      calibration: the file of a calibration; None without.
      spoof_prior: the prior probability of a spoof, for P(spoof).
      allowed_urls: what the URLs of recordings must begin with; none are read without.
      api_key: that requests must state; None for none.

    Raises:
      InputError: a limit that is not above 0, or an API key that no request can state.
    """

    max_wait_ms: float = 5.0
    max_queue: int = 128
    max_bytes: int = 100_000_000
    max_buffered_bytes: int = 1_000_000_000
    max_seconds: float = 600.0
    body_seconds: float = 60.0
    drain_seconds: float = 30.0
    decoder_threads: int = 2
    threshold: str | None = None
    calibration: Path | None = None
    spoof_prior: float = 0.5
    allowed_urls: tuple[str, ...] = ()
    api_key: str | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            lowest = 0 if field.name == "max_wait_ms" else math.ulp(0.0)
            if isinstance(value, int | float) and not (lowest <= value < math.inf):
                raise InputError(f"{field.name} = {value}: a number above 0 is expected")
        key = self.api_key
        # HTTP removes spaces around a header's value.
        if key is not None and not (key and key.isascii() and key.isprintable() and key == key.strip()):
            raise InputError(
                f"{API_KEY_VARIABLE} is empty, has spaces or a line break around it, or has characters that are not "
                "printable ASCII: set another key"
            )


def require_serve_extra() -> None:
    """Check that the extra `serve` is installed.

    Raises:
      InputError: a package of it is missing.
    """
    if missing := [package for module, package in _MODULES.items() if find_spec(module) is None]:
        raise InputError(f"the service needs {', '.join(missing)}: pip install 'spectra-jax[serve]'")


def is_loopback(host: str) -> bool:
    """Whether a host's address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, api_key: str | None, *, no_api_key: bool) -> None:
    """Check that a service that other machines can reach has an API key, or is meant to have none.

    Raises:
      InputError: it has none, or has one beside `--no-api-key`.
    """
    if no_api_key and api_key is not None:
        raise InputError(f"--no-api-key, but {API_KEY_VARIABLE} is set: unset it, or leave the option out")
    if api_key is None and not no_api_key and not is_loopback(host):
        raise InputError(
            f"--host {host} lets other machines in, and there is no API key: set {API_KEY_VARIABLE}, or state "
            "--no-api-key where something else keeps strangers out"
        )
