"""Requests to the service, over connections to a port."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
import random
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

for _package in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(_package, reason="needs the extra `serve`")

from starlette.datastructures import URL  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.types import Message  # noqa: E402

from spectra_jax.inference.detect import DetectionSettings  # noqa: E402
from spectra_jax.inference.detection import Detection  # noqa: E402
from spectra_jax.inference.recordings import trial_of  # noqa: E402
from spectra_jax.inference.scorer import Scorer  # noqa: E402
from spectra_jax.inference.windows import FIRST_WINDOW  # noqa: E402
from spectra_jax.serving.application import create_app  # noqa: E402
from spectra_jax.serving.authentication import OPEN_PATHS  # noqa: E402
from spectra_jax.serving.telemetry import LOGGER, JsonFormatter  # noqa: E402
from tests.conftest import GOLDEN  # noqa: E402
from tests.engine_stand_in import stand_in_scorer  # noqa: E402
from tests.inference.clips import levels  # noqa: E402
from tests.serving.recordings import HANG_SECONDS, form, raw_request, wav  # noqa: E402
from tests.serving.running import Running, running, until  # noqa: E402

NO_FILE_NAME = b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\nx\r\n--b--\r\n"


class Gate:
    """An engine's function that waits while it is closed, and notes how many windows each batch has."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.opened.set()
        self.batches: list[int] = []

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        self.batches.append(len(windows))
        assert self.opened.wait(HANG_SECONDS)
        return levels(windows)


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """A service with small limits; the score of a window is the level of its last sample."""
    limits: Any = {"max_bytes": 1_000_000, "max_seconds": 10.0, "body_seconds": 0.5}
    with running(stand_in_scorer(levels), **limits) as service:
        yield service


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


def test_a_detection_is_that_of_the_library_to_the_bit() -> None:
    scorer = Scorer(GOLDEN / "tiny", batch_size=4)
    rng = np.random.default_rng(0)
    clips = []
    for seconds in (0.02, 1.0, 4.5, 7.3):
        file = io.BytesIO()
        soundfile.write(file, rng.uniform(-0.5, 0.5, int(seconds * 22050)), 22050, format="FLAC")
        clips.append(file.getvalue())
    policies: dict[str, dict[str, Any]] = {"hop=0.5": {}, "first": {"window_policy": FIRST_WINDOW}}
    expected = {
        (clip, windows): scorer(clip, threshold=0.0, **options)
        for clip in clips
        for windows, options in policies.items()
    }
    # So long that a recording's windows fill their batches, as in the library.
    with running(scorer, max_wait_ms=200) as service, ThreadPoolExecutor(8) as pool:

        def ask(key: tuple[bytes, str]) -> Any:
            return service.detect(key[0], windows=key[1], threshold="0").json

        alone = [ask(key) for key in expected]
        before = service.metric("spectra_jax_batch_windows_count")
        together = list(pool.map(ask, expected))
        batches = service.metric("spectra_jax_batch_windows_count") - before
    for found, other, detection in zip(alone, together, expected.values(), strict=True):
        assert len(found.pop("system")["weights_sha256"]) == 64
        assert found == json.loads(json.dumps(detection.to_dict())) | {"name": "clip.wav"}
        # A window's row in its batch may change its last bits.
        assert other["score"] == pytest.approx(found["score"], abs=1e-4)
    # Fewer than without common ones.
    assert batches < sum(-(-len(detection.windows) // 4) for detection in expected.values())


def test_windows_of_several_requests_share_a_batch(gate: Gate) -> None:
    # A batch is computed only when it is full.
    with running(stand_in_scorer(gate, batch_size=4), max_wait_ms=300) as service, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda value: service.detect(wav(value)).json, (0.125, 0.25, 0.375, 0.5)))
    assert gate.batches == [1, 4]
    assert [answer["score"] for answer in answers] == pytest.approx([0.125, 0.25, 0.375, 0.5])


def test_a_bad_recording_costs_only_its_own_request(gate: Gate) -> None:
    not_finite = wav(float("nan"))
    with running(stand_in_scorer(gate, batch_size=3), max_wait_ms=100) as service, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(service.detect, (wav(0.25), not_finite, wav(0.25)[:9000], wav(0.5))))
    assert [answer.status for answer in answers] == [200, 400, 400, 200]
    assert "NaN" in answers[1].json["detail"]
    assert answers[0].json["score"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        (b"", 400, "empty"),
        (b"text", 400, "not an audio file"),
        (wav()[:5000], 400, "cut short"),
        (gzip.compress(wav()), 400, "not an audio file"),
        (wav(seconds=11), 422, "longer than 10 s"),
        (bytes(1_000_001), 413, "1,000,000 bytes"),
        (bytes(1_200_000), 413, "1,000,000 bytes"),
        (wav(seconds=0.02), 200, None),
    ],
    ids=["empty", "text", "cut", "gzip", "long", "a byte too many", "large", "20 ms"],
)
def test_what_a_recording_is_decides_the_status(
    shared: Running, content: bytes, status: int, detail: str | None
) -> None:
    for windows in ("first", "hop=0.5"):
        answer = shared.detect(content, windows=windows)
        assert answer.status == status
        if detail is not None:
            assert detail in answer.json["detail"]
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert shared.service.buffered.total == 0


def test_a_short_file_of_a_long_recording_is_not_decoded_to_its_end(shared: Running) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(16_000 * 3600, np.float32), 16_000, format="FLAC")
    assert len(file.getvalue()) < 1_000_000
    for windows in ("first", "hop=0.5"):
        assert shared.detect(file.getvalue(), windows=windows).status == 422


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"windows": "hop=0"}, "seconds above 0"),
        ({"windows": "hop=0.05"}, "at least 0.1 s"),
        ({"windows": "hop=nan"}, "seconds above 0"),
        ({"windows": "all"}, "neither hop=SECONDS"),
        ({"windows": "first", "aggregate": "mean"}, "several windows"),
        ({"aggregate": "sum"}, "is none of"),
        ({"threshold": "low"}, "threshold 'low'"),
        ({"threshold": "1e300"}, "from -1,000,000 to 1,000,000"),
        ({"treshold": "1"}, "unknown parameter 'treshold'"),
    ],
)
def test_a_wrong_parameter_is_named(shared: Running, fields: dict[str, Any], detail: str) -> None:
    answer = shared.detect(wav(), **fields)
    assert (answer.status, detail in answer.json["detail"]) == (422, True)
    in_query = shared.detect(wav(), "/v1/detect?" + "&".join(f"{name}={value}" for name, value in fields.items()))
    assert in_query.json["detail"] == answer.json["detail"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"x", "text/plain", 415),
        (b"x", "multipart/form-data", 400),
        (b"x", "multipart/form-data; boundary=b", 400),
        (
            b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\nx\r\n--b--\r\n",
            "multipart/form-data; boundary=b",
            400,
        ),
        (b"[" * 60_000, "application/json", 400),
        (b'{"url": 1}', "application/json", 400),
        (b'{"url": "https://example.org/a.wav"}', "application/json", 403),
    ],
)
def test_a_body_without_a_recording_is_refused(shared: Running, body: bytes, kind: str, status: int) -> None:
    answer = shared.request("POST", "/v1/detect", body, {"Content-Type": kind})
    assert (answer.status, answer.json["status"]) == (status, status)


@pytest.mark.parametrize("name", ["threshold", "windows", "aggregate", "other", "\ud800"])
def test_text_that_is_not_unicode_is_escaped(shared: Running, name: str) -> None:
    body = json.dumps({"url": "https://example.org/a.wav", "windows": "first", name: "\ud800"}).encode()
    answer = shared.request("POST", "/v1/detect", body, {"Content-Type": "application/json"})
    assert (answer.status, "\\ud800" in answer.json["detail"] or name == "other") == (422, True)


def test_a_compressed_body_is_refused(shared: Running) -> None:
    body, headers = form(wav())
    answer = shared.request("POST", "/v1/detect", gzip.compress(body), headers | {"Content-Encoding": "gzip"})
    assert answer.status == 415


def test_a_body_without_a_length_is_refused_once_it_is_too_large(shared: Running) -> None:
    _, headers = form(b"")
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    start = f"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n{fields}\r\n".encode()
    body, _ = form(bytes(2_000_000))
    with shared.send(start + b"%x\r\n" % len(body) + body) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_slow_body_is_refused_and_delays_nobody(shared: Running) -> None:
    slow = [shared.send(raw_request(wav())[:-3000]) for _ in range(20)]
    assert shared.detect(wav()).status == 200
    for connection in slow:
        with connection:
            assert connection.recv(1000).startswith(b"HTTP/1.1 408")
    assert shared.service.buffered.total == 0


def test_a_client_that_hangs_up_has_its_recording_dropped(gate: Gate) -> None:
    with running(stand_in_scorer(gate, batch_size=2), max_wait_ms=0) as service:
        gate.opened.clear()
        waiting = [service.send(raw_request(wav(seconds=9))) for _ in range(5)]
        until(lambda: service.service.queue_depth == 5)
        for connection in waiting:
            connection.close()
        until(lambda: service.service.queue_depth == 0)
        gate.opened.set()
        assert service.detect(wav(0.5)).json["score"] == pytest.approx(0.5)
        until(lambda: service.metric("spectra_jax_dropped_requests_total") == 5)
        # Each has twelve windows or more.
        assert sum(gate.batches) < 20
        assert service.service.buffered.total == 0


def test_a_caller_that_leaves_as_its_recording_is_scored_stops_no_other(gate: Gate) -> None:
    with running(stand_in_scorer(gate)) as service:
        gate.opened.clear()
        job = service.service.check_ready().submit(trial_of(wav()), DetectionSettings())
        # As `asyncio.wrap_future` does, a moment before the batcher drops the job.
        job.detection.cancel()
        gate.opened.set()
        assert service.detect(wav(0.5)).json["score"] == pytest.approx(0.5)


def test_a_recording_that_is_alone_fills_its_batches(gate: Gate) -> None:
    with running(stand_in_scorer(gate, batch_size=32), max_wait_ms=500) as service:
        assert len(service.detect(wav(seconds=13.7), windows="hop=0.1").json["windows"]) == 98
    assert gate.batches == [1, 32, 32, 32, 2]


def test_pages_count_for_the_queue_and_those_of_clients_that_hang_up_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawing, drawn = threading.Event(), threading.Event()
    names: list[str] = []

    def draw(detections: Sequence[Detection], *_: object) -> str:
        names.append(detections[0].name)
        drawing.set()
        assert drawn.wait(HANG_SECONDS)
        return "page"

    monkeypatch.setattr("spectra_jax.reporting.inspection_page.render_inspection", draw)
    with running(stand_in_scorer(levels), max_queue=2) as service, ThreadPoolExecutor(1) as pool:
        try:
            first = pool.submit(service.detect, wav(), "/v1/page")
            assert drawing.wait(HANG_SECONDS)
            with service.send(raw_request(wav(), path="/v1/page")):
                until(lambda: service.metric("spectra_jax_queue_depth") == 2)
                assert service.detect(wav()).status == 429
            until(lambda: service.metric("spectra_jax_dropped_requests_total") == 1)
            assert service.detect(wav()).status == 200
        finally:
            drawn.set()
        assert (first.result().status, first.result().body, len(names)) == (200, b"page", 1)
        until(lambda: service.service.queue_depth == 0)


def test_a_full_queue_refuses_with_a_time_to_come_back(gate: Gate) -> None:
    with running(stand_in_scorer(gate), max_queue=2) as service, ThreadPoolExecutor(2) as pool:
        gate.opened.clear()
        waiting = [pool.submit(service.detect, wav()) for _ in range(2)]
        until(lambda: service.service.queue_depth == 2)
        answer = service.detect(wav())
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        gate.opened.set()
        assert [one.result().status for one in waiting] == [200, 200]
        assert service.detect(wav()).status == 200


def test_recordings_in_memory_are_bounded() -> None:
    with running(stand_in_scorer(levels), max_buffered_bytes=50_000) as service:
        assert service.detect(wav()).status == 429
        assert service.detect(wav(seconds=0.5)).status == 200


def test_the_key_is_needed_and_not_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOGGER, "propagate", True)
    caplog.set_level(logging.INFO)
    with running(stand_in_scorer(levels), api_key="right-key") as service:
        stated = [{}, {"X-API-Key": "right"}, {"X-API-Key": "right-key"}, {"Authorization": "Bearer right-key"}]
        answers = [service.detect(wav(), headers=headers, threshold="0.125") for headers in stated]
        assert [answer.status for answer in answers] == [401, 401, 200, 200]
        assert answers[0].headers["www-authenticate"] == "Bearer"
        assert service.request("GET", "/metrics").status == 401
        assert [service.request("GET", path).status for path in ("/", "/docs", "/healthz", "/readyz")] == [200] * 4
    lines = [JsonFormatter().format(record) for record in caplog.records if record.name == LOGGER.name]
    assert len(requests_logged(caplog.records)) == 9
    assert not [line for line in lines for secret in ("right", "0.125", "clip") if secret in line]


def requests_logged(records: list[logging.LogRecord]) -> list[dict[str, Any]]:
    """The lines of the log about requests."""
    lines = [json.loads(JsonFormatter().format(record)) for record in records if record.name == LOGGER.name]
    return [line for line in lines if line["event"] == "request"]


def test_the_host_that_a_request_states_does_not_decide_whether_a_key_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As Starlette before 1.0 reads it from the header Host.
    monkeypatch.setattr(Request, "url", property(lambda _: URL("http://localhost/healthz?/metrics")))
    with running(stand_in_scorer(levels), api_key="key") as service:
        assert service.request("GET", "/metrics", headers={"Host": "localhost/healthz?"}).status == 401


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [("/healthz", b"\xff", 200), ("/healthz/", b"\xff", 404), ("/v1/detect", b"\xff", 415), ("/\udcff", b"", 404)],
)
def test_a_query_that_is_not_text_is_answered_counted_and_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, path: str, query: bytes, status: int
) -> None:
    monkeypatch.setattr(LOGGER, "propagate", True)
    caplog.set_level(logging.INFO)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    with running(stand_in_scorer(levels)) as service:
        method = "POST" if path == "/v1/detect" else "GET"
        scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "query_string": query, "headers": []}
        # In a thread of its own: where tests in a browser ran before, this one has a running loop.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, create_app(service.service)(scope, receive, send)).result()
        assert service.metric("spectra_jax_requests_total") == 1
    assert sent[0]["status"] == status
    assert next(line["status"] for line in requests_logged(caplog.records)) == status


def test_pages_of_other_sites_are_refused(shared: Running) -> None:
    for origin in ("https://evil.example", "null", "http://["):
        assert shared.detect(wav(), headers={"Origin": origin}).status == 403
    assert shared.detect(wav(), headers={"Origin": f"http://127.0.0.1:{shared.port}"}).status == 200
    # Its name leads to this machine.
    assert shared.request("GET", "/readyz", headers={"Host": "evil.example"}).status == 421


def test_a_request_keeps_its_id(shared: Running) -> None:
    assert shared.request("GET", "/healthz", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert shared.request("GET", "/healthz", headers={"X-Request-ID": "a b"}).headers["x-request-id"] != "a b"


def test_nothing_is_scored_before_the_network_is_loaded() -> None:
    scorer, loaded = stand_in_scorer(levels), threading.Event()

    def load() -> Scorer:
        assert loaded.wait(HANG_SECONDS)
        return scorer

    with running(scorer, load=load) as service:
        assert service.request("GET", "/healthz").status == 200
        assert service.request("GET", "/readyz").json["status"] == "starting"
        answer = service.detect(wav())
        assert (answer.status, "being loaded" in answer.json["detail"]) == (503, True)
        assert "retry-after" in answer.headers
        loaded.set()
        until(lambda: service.request("GET", "/readyz").status == 200)
        assert service.detect(wav()).status == 200


def test_a_service_that_stops_finishes_what_is_in_flight(gate: Gate) -> None:
    with running(stand_in_scorer(gate)) as service, ThreadPoolExecutor(4) as pool:
        gate.opened.clear()
        waiting = [pool.submit(service.detect, wav(0.25)) for _ in range(4)]
        uploading = service.send(raw_request(wav())[:-3000])
        until(lambda: service.service.queue_depth == 4)
        service.stop()
        uploading.sendall(raw_request(wav())[-3000:])
        assert uploading.recv(1000).startswith(b"HTTP/1.1 503")
        uploading.close()
        gate.opened.set()
        answers = [one.result() for one in waiting]
        service.thread.join(HANG_SECONDS)
        with pytest.raises(OSError):
            service.request("GET", "/healthz")
    assert [(answer.status, answer.json["score"]) for answer in answers] == [(200, pytest.approx(0.25))] * 4


def test_requests_that_take_longer_than_the_service_may_wait_are_counted(gate: Gate) -> None:
    with running(stand_in_scorer(gate), drain_seconds=1) as service, ThreadPoolExecutor(2) as pool:
        gate.opened.clear()
        waiting = [pool.submit(service.detect, wav()) for _ in range(2)]
        until(lambda: service.service.queue_depth == 2)
        service.stop()
        until(lambda: service.service.num_cancelled == 2)
        gate.opened.set()
        for one in waiting:
            assert one.exception() is not None or one.result().status == 500
    assert service.service.queue_depth == 0


def test_an_error_of_the_network_fails_its_batch_alone() -> None:
    failing = threading.Event()

    def compute(windows: np.ndarray) -> np.ndarray:
        if failing.is_set():
            raise RuntimeError("out of memory, at 0x1234")
        return levels(windows)

    with running(stand_in_scorer(compute)) as service:
        failing.set()
        answer = service.detect(wav())
        assert (answer.status, b"0x1234" in answer.body) == (500, False)
        failing.clear()
        assert service.detect(wav()).status == 200


def test_metrics_count_what_happens() -> None:
    with running(stand_in_scorer(levels)) as service:
        service.detect(wav(seconds=2.5))
        service.detect(b"text")
        service.request("GET", "/secret/path")
        text = service.request("GET", "/metrics").body.decode()
    assert 'spectra_jax_requests_total{path="/v1/detect",status="200"} 1.0' in text
    assert 'spectra_jax_requests_total{path="/v1/detect",status="400"} 1.0' in text
    assert 'spectra_jax_requests_total{path="other",status="404"} 1.0' in text
    assert "spectra_jax_audio_seconds_total 2.5" in text
    assert 'spectra_jax_request_seconds_bucket{le="0.005",path="/v1/detect"}' in text
    assert "spectra_jax_queue_depth 0.0" in text


def test_the_reference_states_every_route_and_status(shared: Running) -> None:
    schema = shared.request("GET", "/openapi.json").json
    sources = Path("spectra_jax/serving").resolve().glob("*.py")
    raised = {status for path in sources for status in re.findall(r"RequestError\(\s*(\d{3})", path.read_text())}
    assert len(raised) > 10
    stated = {path: set(route["responses"]) for path, routes in schema["paths"].items() for route in routes.values()}
    assert stated == {
        "/v1/detect": {"200"} | raised - {"501"},
        "/v1/page": {"200"} | raised,
        "/healthz": {"200", "421"},
        "/readyz": {"200", "421", "503"},
        "/metrics": {"200", "401", "421"},
    }
    page = shared.request("GET", "/docs").body.decode()
    for path, statuses in stated.items():
        assert all(f"{path}</code></h2>" in page and f"<code>{status}</code>" in page for status in statuses)
    assert all(text in page for text in ("POST /v1/detect", "threshold", "hop=S"))
    assert "://" not in page
    guide = Path("docs/guides/serve.md").resolve().read_text()
    # Of routing itself, which answers for paths that are not there.
    assert set(re.findall(r"^\| (\d{3}) \|", guide, re.MULTILINE)) == raised | {"404", "405"}
    assert all(f"`{path}`" in guide for path in OPEN_PATHS)


def mutants(count: int, seed: int = 0) -> Iterator[bytes]:
    """Uploads with changed, removed or repeated bytes, also of the form around the file."""
    generator = random.Random(seed)
    formats = []
    for kind, subtype in (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")):
        file = io.BytesIO()
        samples = np.random.default_rng(0).uniform(-0.3, 0.3, 8000)
        soundfile.write(file, samples, 16_000, format=kind, subtype=subtype)
        formats.append(file.getvalue())
    for _ in range(count):
        upload = bytearray(form(generator.choice(formats))[0])
        for _ in range(generator.choice((1, 4, 64))):
            position = generator.randrange(len(upload))
            match generator.randrange(4):
                case 0:
                    upload[position] = generator.randrange(256)
                case 1:
                    del upload[position : position + generator.choice((1, 100))]
                case 2:
                    upload[position:position] = upload[: generator.choice((1, 100))]
                case _:
                    # In the form's and the file's headers.
                    upload[position % 250] = generator.randrange(256)
            upload = upload or bytearray(b"x")
        yield bytes(upload)


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.long)])
def test_mutated_uploads_never_end_in_an_error_of_the_service(count: int) -> None:
    _, headers = form(b"")
    with running(stand_in_scorer(lambda windows: windows[:, :2].astype(np.float64)), max_seconds=60.0) as service:
        statuses = [service.request("POST", "/v1/detect", upload, headers).status for upload in mutants(count, count)]
        assert set(statuses) <= {200, 400, 422}
        assert {200, 400} <= set(statuses)
        assert service.request("GET", "/readyz").status == 200
        assert (service.service.queue_depth, service.service.buffered.total) == (0, 0)
