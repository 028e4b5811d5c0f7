"""Recordings and request bodies that the tests of the service send."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import soundfile

HANG_SECONDS = 60
RATE = 16000
BOUNDARY = "boundary0123456789"


def wav(value: float = 0.25, seconds: float = 1.0) -> bytes:
    """The bytes of a WAV of one level."""
    file = io.BytesIO()
    soundfile.write(file, np.full(int(seconds * RATE), value, np.float32), RATE, format="WAV", subtype="FLOAT")
    return file.getvalue()


def form(
    content: bytes, fields: Mapping[str, str] | None = None, name: str = "clip.wav"
) -> tuple[bytes, dict[str, str]]:
    """A form with a file, and its headers."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in (fields or {}).items()
    ]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    body = b"".join([*parts, head, content, f"\r\n--{BOUNDARY}--\r\n".encode()])
    return body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def raw_request(
    content: bytes, length: int | None = None, path: str = "/v1/detect", expect: str | None = None
) -> bytes:
    """A request to score a recording, as it is sent over a connection.

    Args:
      content: of the recording.
      length: of the body, as the request states it; the right one otherwise.
      path: of the request.
      expect: the header of that name; none otherwise.
    """
    body, headers = form(content)
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Length: {len(body) if length is None else length}",
    ]
    headers |= {} if expect is None else {"Expect": expect}
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
