"""What the HTTP service costs beside the library alone.

python -m benchmarks.serving [--requests N]                          all of it, with the demo checkpoint
python -m benchmarks.serving --busiest --model M --requests 64       64 clients alone, of a large network

Starts `spectra-jax serve --model demo`, and sends it the corpus's clips from 1, 8 and 64 clients. The library scores
the same clips in this process, before and after. Client and service share the machine's cores; `taskset` chooses them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).parents[1] / "examples" / "corpus" / "eval"
BOUNDARY = "boundary0123456789"
CLIENTS = (1, 8, 64)


@dataclass(frozen=True)
class Load:
    """What a number of clients measured.

    Attributes:
      clients: how many sent one request after another.
      rate: requests a second.
      latencies: in seconds, sorted.
      statuses: how many responses had each status.
    """

    clients: int
    rate: float
    latencies: Sequence[float]
    statuses: Counter[int]

    def percentile(self, share: float) -> float:
        return self.latencies[min(int(share * len(self.latencies)), len(self.latencies) - 1)]

    def row(self, mode: str, alone: float) -> str:
        times = " | ".join(f"{1000 * self.percentile(share):.0f}" for share in (0.5, 0.95, 0.99))
        return f"| {mode} | {self.clients} | {self.rate:.1f} | {self.rate / alone:.2f} | {times} |"


def read_clips() -> list[bytes]:
    return [path.read_bytes() for path in sorted(CORPUS.glob("*.flac"))]


def request_of(content: bytes, windows: str, body: bytes | None = None) -> bytes:
    """A request to score a recording, as it is sent. With `body` that instead of the right one."""
    if body is None:
        head = 'Content-Disposition: form-data; name="file"; filename="clip.flac"'
        body = f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    lines = [
        f"POST /v1/detect?windows={windows} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes]:
    """The status and body of the response to a request."""
    writer.write(request)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    return int(head[9:12]), await reader.readexactly(int(length[1]) if length else 0)


async def send(port: int, requests: Sequence[bytes], clients: int) -> Load:
    """Send requests from a number of clients, each over a connection of its own that stays open."""
    waiting = iter(requests)
    latencies: list[float] = []
    statuses: Counter[int] = Counter()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in waiting:
            start = time.perf_counter()
            status, _ = await exchange(reader, writer, request)
            latencies.append(time.perf_counter() - start)
            statuses[status] += 1
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return Load(clients, len(requests) / (time.perf_counter() - start), sorted(latencies), statuses)


@contextmanager
def service(*options: str, model: str = "demo") -> Iterator[tuple[int, int]]:
    """The port and the process id of a service that is ready."""
    command = [sys.executable, "-m", "spectra_jax", "serve", "--model", model, "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        port, line = 0, ""
        while '"ready"' not in line:
            line = process.stderr.readline()
            if '"listening"' in line:
                port = int(json.loads(line)["url"].rpartition(":")[2])
        # Its log must not fill the pipe.
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        try:
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
            drain.wait()


def resident(pid: int) -> float:
    """Megabytes of a process in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return int(found[1]) / 1024


def library_rate(
    clips: Sequence[bytes], windows: str, batch_size: int, *, one_at_a_time: bool = False, model: str = "demo"
) -> float:
    """Clips a second that the library scores, all in one call or each in a call of its own."""
    from spectra_jax.inference.detect import COMPLETE_RECORDING
    from spectra_jax.inference.recordings import trial_of
    from spectra_jax.inference.scorer import Scorer
    from spectra_jax.inference.windows import FIRST_WINDOW

    scorer = Scorer(model, batch_size=batch_size)
    settings = scorer.detection_settings(FIRST_WINDOW if windows == "first" else COMPLETE_RECORDING)
    list(scorer.detect([trial_of(clip) for clip in clips[:16]], settings))
    calls = [[clip] for clip in clips] if one_at_a_time else [clips]
    start = time.perf_counter()
    found = [one for call in calls for one in scorer.detect([trial_of(clip) for clip in call], settings)]
    seconds = time.perf_counter() - start
    assert all(detection.error is None for detection in found)
    return len(clips) / seconds


def repeat(clips: Sequence[bytes], count: int) -> list[bytes]:
    return [clips[index % len(clips)] for index in range(count)]


def mutated(clips: Sequence[bytes], count: int) -> Iterator[bytes]:
    """Requests whose bodies have changed, removed or repeated bytes."""
    generator = random.Random(0)
    for clip in repeat(clips, count):
        body = bytearray(request_of(clip, "first").partition(b"\r\n\r\n")[2])
        for _ in range(generator.choice((1, 4, 64))):
            position = generator.randrange(len(body))
            match generator.randrange(4):
                case 0:
                    body[position] = generator.randrange(256)
                case 1:
                    del body[position : position + generator.choice((1, 100, 10_000))]
                case 2:
                    body[position:position] = body[: generator.choice((1, 100))]
                case _:
                    body[position % min(250, len(body))] = generator.randrange(256)
            body = body or bytearray(b"x")
        yield request_of(b"", "first", bytes(body))


async def bad_neighbours(port: int, clips: Sequence[bytes], count: int) -> Load:
    """As `send` with 8 clients, beside 32 that send a byte every 50 ms and one that hangs up five times a second."""
    stop = asyncio.Event()

    async def slow() -> None:
        request = request_of(clips[0], "first")
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request[:500])
        for byte in request[500:]:
            if stop.is_set():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)
        writer.transport.abort()

    async def hanging_up() -> None:
        request = request_of(clips[0], "hop=0.5")
        while not stop.is_set():
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            await writer.drain()
            await asyncio.sleep(0.2)
            writer.transport.abort()

    others = [asyncio.ensure_future(slow()) for _ in range(32)] + [asyncio.ensure_future(hanging_up())]
    load = await send(port, [request_of(clip, "first") for clip in repeat(clips, count)], 8)
    stop.set()
    await asyncio.gather(*others)
    return load


def measure(num_requests: int, memory_requests: int) -> Iterator[str]:
    """The lines of the report."""
    clips = read_clips()
    yield "| windows | clients | requests/s | of the library alone | p50, ms | p95, ms | p99, ms |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for mode in ("first", "hop=0.5"):
        alone = library_rate(repeat(clips, num_requests), mode, 8)
        yield f"| {mode} | library alone | {alone:.1f} | 1 | | | |"
        single = library_rate(repeat(clips, num_requests // 2), mode, 8, one_at_a_time=True)
        yield f"| {mode} | library, a call for each recording | {single:.1f} | {single / alone:.2f} | | | |"
        with service() as (port, _):
            asyncio.run(send(port, [request_of(clip, mode) for clip in clips[:16]], 8))
            for clients in CLIENTS:
                requests = [request_of(clip, mode) for clip in repeat(clips, num_requests)]
                load = asyncio.run(send(port, requests, clients))
                assert set(load.statuses) == {200}, load.statuses
                yield load.row(mode, alone)
        again = library_rate(repeat(clips, num_requests), mode, 8)
        yield f"| {mode} | library alone, again | {again:.1f} | {again / alone:.2f} | | | |"
    with service("--max-batch", "1") as (port, _):
        requests = [request_of(clip, "first") for clip in repeat(clips, num_requests // 2)]
        yield f"--max-batch 1, {asyncio.run(send(port, requests, 1)).row('first', alone)}"
    with service() as (port, pid):
        good = asyncio.run(send(port, [request_of(clip, "first") for clip in repeat(clips, num_requests)], 8))
        beside = asyncio.run(bad_neighbours(port, clips, num_requests))
        yield f"8 clients alone: {good.rate:.1f}/s, p99 {1000 * good.percentile(0.99):.0f} ms; beside 32 slow clients "
        yield f"and one that hangs up five times a second: {beside.rate:.1f}/s, "
        yield f"p99 {1000 * beside.percentile(0.99):.0f} ms, {dict(beside.statuses)}"
    with service() as (port, pid):
        statuses: Counter[int] = Counter()
        for request in mutated(clips, 1000):
            statuses += asyncio.run(send(port, [request], 1)).statuses
        yield f"1,000 mutated uploads: {dict(statuses)}; the service still runs: {Path(f'/proc/{pid}').exists()}"
    with service() as (port, pid):
        done = 0
        for until in (100, 1000, 5000, 10_000):
            if until > memory_requests:
                break
            for start in range(done, until, 500):
                batch = [request_of(clip, "first") for clip in repeat(clips, min(500, until - start))]
                load = asyncio.run(send(port, batch, 64))
                assert set(load.statuses) == {200}
            done = until
            yield f"RSS after {until:,} requests: {resident(pid):.1f} MB"


def measure_busiest(model: str, num_requests: int) -> Iterator[str]:
    """The rows of 64 clients, between two of the library alone."""
    clips = repeat(read_clips(), num_requests)
    alone = library_rate(clips, "first", 8, model=model)
    yield f"| first | library alone | {alone:.2f} | 1 | | | |"
    with service(model=model) as (port, _):
        asyncio.run(send(port, [request_of(clip, "first") for clip in clips[:16]], 8))
        load = asyncio.run(send(port, [request_of(clip, "first") for clip in clips], CLIENTS[-1]))
        assert set(load.statuses) == {200}, load.statuses
        yield load.row("first", alone)
    again = library_rate(clips, "first", 8, model=model)
    yield f"| first | library alone, again | {again:.2f} | {again / alone:.2f} | | | |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=600, help="of each measurement")
    parser.add_argument("--memory-requests", type=int, default=10_000, help="over which memory is observed")
    parser.add_argument("--busiest", action="store_true", help="the rows of 64 clients alone")
    parser.add_argument("--model", default="demo", help="with --busiest: the network")
    arguments = parser.parse_args()
    start = time.perf_counter()
    if arguments.busiest:
        lines = measure_busiest(arguments.model, arguments.requests)
    else:
        lines = measure(arguments.requests, arguments.memory_requests)
    for line in lines:
        print(line, flush=True)
    print(f"{time.perf_counter() - start:.0f} s; load average {statistics.fmean(os.getloadavg()[:1]):.2f}")


if __name__ == "__main__":
    main()
