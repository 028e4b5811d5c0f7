"""A request's body, in bounded memory and time. Nothing is written to disk."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from spectra_jax.errors import RequestError
from spectra_jax.serving.problems import busy
from spectra_jax.serving.settings import ServiceSettings

FORM_BYTES = 1 << 16
"""What a form may have besides its file: boundaries, headers and other fields."""
_MAX_FIELDS = 8
_NAME_CHARACTERS = 200


@dataclass
class Buffered:
    """How many bytes of recordings are in memory, over all requests.

    Attributes:
      limit: the most there may be.
      total: how many there are.
    """

    limit: int
    total: int = 0

    def add(self, count: int) -> None:
        """Count bytes that were read.

        Raises:
          RequestError: there are more than the limit.
        """
        if self.total + count > self.limit:
            raise busy(f"{self.limit:,} bytes of recordings are in memory, which is the most")
        self.total += count

    def remove(self, count: int) -> None:
        """Count bytes that are no longer in memory."""
        self.total -= count


@dataclass
class Body:
    """What a request sent.

    Attributes:
      content: the bytes of a file; None where the request has a URL.
      name: of the file, as the client states it.
      url: of a recording; None where the request has a file.
      fields: the other fields.
      num_bytes: how much of the body was read.
    """

    content: bytes | None = field(default=None, repr=False)
    name: str = "recording"
    url: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    num_bytes: int = 0


class _InMemoryParser(MultiPartParser):
    """Starlette's parser, without its temporary files: recordings stay off the disk, and a full one is no error."""

    # Of `SpooledTemporaryFile`: 0 is never to write a file.
    spool_max_size = 0

    def close(self) -> None:
        """Close all files, those of parts included that the body does not end."""
        for file in self._files_to_close_on_error:
            file.close()


async def read_body(request: Request, settings: ServiceSettings, buffered: Buffered, body: Body) -> None:
    """Read a request's body.

    Args:
      request: with a form, or a JSON object.
      settings: its limits.
      buffered: over all requests.
      body: filled. Its `num_bytes` is right even where an error is raised, and is to be removed from `buffered`.

    Raises:
      RequestError: a body of another kind, too large, too slow, or without a recording.
      ClientDisconnect: the client has hung up.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(415, f"Content-Encoding {request.headers['content-encoding']!r}: send the body as it is")
    if kind not in ("multipart/form-data", "application/json"):
        raise RequestError(
            415,
            f"a body of type {kind or 'that is not stated'!r}: send a form (multipart/form-data) with the recording in "
            'its field `file`, or JSON: {"url": "https://..."}',
        )
    limit = settings.max_bytes + FORM_BYTES if kind == "multipart/form-data" else FORM_BYTES
    stated = request.headers.get("content-length", "0")
    if stated.isdecimal() and int(stated) > limit:
        raise _too_large(settings)
    stream = _limited(request, limit, settings, buffered, body)
    try:
        async with asyncio.timeout(settings.body_seconds):
            if kind == "application/json":
                _read_json(b"".join([block async for block in stream]), body)
            else:
                await _read_form(request.headers, stream, settings, body)
    except TimeoutError:
        raise RequestError(
            408,
            f"the request's body was not complete after {settings.body_seconds:g} s; send a smaller file",
            {"Connection": "close"},
        ) from None


async def _limited(
    request: Request, limit: int, settings: ServiceSettings, buffered: Buffered, body: Body
) -> AsyncGenerator[bytes, None]:
    """The blocks of a body, which are counted as they come, whatever length its header states."""
    async for block in request.stream():
        if body.num_bytes + len(block) > limit:
            raise _too_large(settings)
        buffered.add(len(block))
        body.num_bytes += len(block)
        yield block


def _too_large(settings: ServiceSettings) -> RequestError:
    return RequestError(
        413,
        f"more than the {settings.max_bytes:,} bytes that a recording may have; cut it, or compress it (FLAC, Opus)",
        {"Connection": "close"},
    )


async def _read_form(
    headers: Headers, stream: AsyncGenerator[bytes, None], settings: ServiceSettings, body: Body
) -> None:
    parser = _InMemoryParser(headers, stream, max_files=1, max_fields=_MAX_FIELDS)
    try:
        form = await parser.parse()
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != "file":
                    raise RequestError(400, f"a file in the field {name[:_NAME_CHARACTERS]!r}: its field is `file`")
                body.content, body.name = await value.read(), _file_name(value.filename)
            else:
                body.fields[name] = value
    except (MultiPartException, FormParserError) as error:
        raise RequestError(400, f"the form cannot be read: {getattr(error, 'message', error)}") from error
    finally:
        parser.close()
    if body.content is None:
        raise RequestError(400, "the form has no file: send the recording in the field `file`, with a file name")
    if len(body.content) > settings.max_bytes:
        raise _too_large(settings)


def _file_name(stated: str | None) -> str:
    """The last part of a file's name, without what does not print."""
    name = (stated or "").replace("\\", "/").rpartition("/")[2]
    return "".join(filter(str.isprintable, name))[:_NAME_CHARACTERS].strip() or "recording"


def _read_json(content: bytes, body: Body) -> None:
    try:
        found = json.loads(content)
    # A deeply nested array exhausts the parser's stack.
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is not valid JSON: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("url"), str):
        raise RequestError(400, 'a JSON object with the URL of a recording is expected: {"url": "https://..."}')
    body.url = found.pop("url")
    body.fields = {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}
