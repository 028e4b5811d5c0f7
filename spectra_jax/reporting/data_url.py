"""Files that are embedded in a page."""

from __future__ import annotations

import base64


def data_url(kind: str, data: bytes) -> str:
    """The address of a file that is embedded in a page; `kind` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
