"""A folder of files, a store in memory, and web servers."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile

from tests.data.sources.servers import Endless, Web


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Ten files, of which five are audio by name and not hidden. The tests do not open them."""
    names = "b.wav a.flac sub/c.OGG sub/deep/d.mp3 sub.d/e.opus notes.txt list.csv ._a.flac .cache/x.wav sub/f.raw"
    for name in names.split():
        file = tmp_path / "corpus" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path / "corpus"


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """fsspec's own store in memory, empty."""
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a web server with clips/a.flac, clips/deep/b.wav and m.csv."""
    (tmp_path / "clips" / "deep").mkdir(parents=True)
    for name in ("clips/a.flac", "clips/deep/b.wav"):
        soundfile.write(tmp_path / name, np.sin(np.arange(4000)) / 10, 16_000)
    (tmp_path / "m.csv").write_text("path,utterance_id\nclips/a.flac,one\nclips/none.wav,two\nsecret/x.wav,three\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Web, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def endless() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        server.stopped = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.stopped.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()
