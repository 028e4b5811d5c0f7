"""Contenders in processes of their own: their results, their ends, and their memory."""

from __future__ import annotations

import multiprocessing
import sys

import pytest

from benchmarks.processes import Worker
from benchmarks.speed.measure import WorkerError
from tests.benchmarks import contenders


@pytest.mark.slow
def test_a_worker_answers_call_after_call() -> None:
    with Worker("adds", contenders.adds, 3) as worker:
        calls = [worker.call(value) for value in (1, 10)]
    assert [call.output for call in calls] == [4, 13]
    assert all(call.seconds > 0 for call in calls)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_call_that_does_not_finish_ends_the_process() -> None:
    with Worker("never_finishes", contenders.never_finishes) as worker:
        with pytest.raises(TimeoutError, match=r"did not finish in 0\.5 s"):
            worker.call(1, limit=0.5)
        assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_failures_are_reported() -> None:
    with (
        Worker("fails", contenders.fails) as worker,
        pytest.raises(WorkerError, match="fails: RuntimeError: no such device"),
    ):
        worker.call(1)
    with Worker("ends", contenders.ends) as worker, pytest.raises(WorkerError, match=r"ends: .* status 3"):
        worker.call(1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux, which reports the peak of the resident memory")
def test_the_peak_of_the_memory_can_be_reset() -> None:
    with Worker("allocates", contenders.allocates) as worker:
        large = worker.call(300_000_000).peak_bytes
        after = worker.call(1).peak_bytes
        reset = worker.call(1, reset_peak=True).peak_bytes
    assert large is not None and after is not None and reset is not None
    assert large >= 300_000_000 and after == large and reset < large - 200_000_000
