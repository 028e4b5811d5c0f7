"""Batches of windows across requests. One thread runs the network; a bounded pool of threads decodes.

Each recording is decoded a few windows at a time, and the batches take windows of all recordings in turn. So a long
recording delays a short one by a batch, and memory does not grow with a recording's length.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Condition, Thread
from typing import Any, NamedTuple

import numpy as np

from spectra_jax.data.trial import Trial
from spectra_jax.errors import RequestError, TooLongError
from spectra_jax.inference.decoding import DecodedTrial, decode_detailed
from spectra_jax.inference.detect import DetectionSettings, build_detection
from spectra_jax.inference.detection import Detection
from spectra_jax.inference.engine import Engine
from spectra_jax.inference.scorer import Scorer
from spectra_jax.inference.windows import WindowScores
from spectra_jax.serving.problems import busy, unavailable

_WINDOWS_AT_ONCE = 8
"""Windows of a recording that a thread decodes at a time, 2 MB, or a batch where batches are larger."""


class Job:
    """A recording on its way through the decoder and the network.

    Attributes:
      detection: the future result; a `RequestError` where the recording cannot be scored.
      windows_at_once: how many windows a thread decodes at a time, and until how many wait.
    """

    def __init__(
        self, clip: DecodedTrial, windows: Generator[np.ndarray], settings: DetectionSettings, windows_at_once: int
    ):
        self.detection: Future[Detection] = Future()
        # Running, so that a caller cannot cancel it: to complete a cancelled future raises an error in the thread.
        self.detection.set_running_or_notify_cancel()
        self.clip, self.windows, self.settings, self.windows_at_once = clip, windows, settings, windows_at_once
        # Guarded by the batcher's lock.
        self.decoded: deque[np.ndarray] = deque()
        self.num_in_flight = 0
        self.is_decoding = self.is_exhausted = self.is_over = False

    @property
    def wants_decoding(self) -> bool:
        return not (self.is_over or self.is_exhausted or self.is_decoding) and len(self.decoded) < self.windows_at_once

    @property
    def is_scored(self) -> bool:
        return self.is_exhausted and not self.decoded and not self.num_in_flight


class _InFlight(NamedTuple):
    """A batch that the network computes: whose windows, their samples, what the engine returned, and since when."""

    jobs: list[Job]
    samples: np.ndarray
    outputs: Any
    start: float


class Batcher:
    """Scores recordings of many callers together.

    Args:
      scorer: loaded. From now on no other thread may score with it.
      max_wait: how long a decoded window waits for others of its batch while the network is idle, in seconds. While
        other recordings are being decoded, it waits as long as a batch takes, if that is longer.
      max_queue: how many recordings it has at a time.
      max_seconds: length of a recording.
      decoder_threads: how many recordings are decoded at a time.
      on_batch: called with the number of windows of each batch, in the thread of the network.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        max_wait: float,
        max_queue: int,
        max_seconds: float,
        decoder_threads: int,
        on_batch: Callable[[int], None] = lambda _: None,
    ):
        self._engine: Engine = scorer.engine
        self._config = self._engine.model.config
        self._max_wait, self._max_queue, self._max_seconds = max_wait, max_queue, max_seconds
        self._on_batch = on_batch
        self._changed = Condition()
        self._jobs: set[Job] = set()
        # Those with decoded windows, and those that a thread is to decode, in the order of their turns.
        self._turns: deque[Job] = deque()
        self._to_decode: deque[Job] = deque()
        self._num_decoded = self._num_decoding = 0
        # Fewer than a batch would leave it half empty for a recording that is alone.
        self._windows_at_once = max(_WINDOWS_AT_ONCE, self._engine.batch_size)
        self._most_decoded = max(4 * self._engine.batch_size, decoder_threads * self._windows_at_once)
        self._waiting_since: float | None = None
        # How long the last batch took.
        self._batch_seconds = 0.0
        self._is_stopped = False
        self._pool = ThreadPoolExecutor(decoder_threads, thread_name_prefix="spectra-jax-decode")
        self._thread = Thread(target=self._score, name="spectra-jax-score", daemon=True)
        self._thread.start()

    @property
    def queue_depth(self) -> int:
        """Recordings that are decoded, scored or waiting."""
        return len(self._jobs)

    def check_capacity(self, others: int = 0) -> None:
        """Raise the problem of a recording that comes when the queue is full.

        Args:
          others: how many recordings in the queue are no longer here.
        """
        if len(self._jobs) + others >= self._max_queue:
            raise busy(f"{self._max_queue:,} recordings are in work or waiting, which is the most")

    def submit(self, trial: Trial, settings: DetectionSettings) -> Job:
        """Start scoring a recording.

        Args:
          trial: the recording.
          settings: how its scores become a detection.

        Raises:
          RequestError: the queue is full, or the batcher is stopped.
        """
        clip, windows = decode_detailed(trial, self._config, settings.window_policy, max_seconds=self._max_seconds)
        job = Job(clip, windows, settings, self._windows_at_once)
        with self._changed:
            if self._is_stopped:
                raise unavailable("the service is shutting down")
            self.check_capacity()
            self._jobs.add(job)
            self._to_decode.append(job)
            self._start_decoding()
        return job

    def drop(self, job: Job) -> None:
        """Stop work on a recording whose caller no longer waits. Windows in flight are computed nevertheless."""
        with self._changed:
            if job in self._jobs:
                self._remove(job)

    def stop(self) -> None:
        """Drop what is not scored and end the threads."""
        with self._changed:
            self._is_stopped = True
            dropped = list(self._jobs)
            for job in dropped:
                self._remove(job)
            self._changed.notify_all()
        for job in dropped:
            job.detection.set_exception(unavailable("the service is shutting down"))
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._thread.join()

    def _remove(self, job: Job) -> None:
        """Forget a job, with the lock held. What still runs for it finds that it is over."""
        job.is_over = True
        self._jobs.discard(job)
        self._num_decoded -= len(job.decoded)
        if job.decoded:
            job.decoded.clear()
            self._turns.remove(job)
            if not self._turns:
                self._waiting_since = None
        if not job.is_decoding:
            job.windows.close()
        self._start_decoding()

    def _start_decoding(self) -> None:
        """Give the threads what they are to decode, within the bound on decoded windows; with the lock held."""
        while self._to_decode and not self._is_stopped:
            reserved = self._num_decoded + (self._num_decoding + 1) * self._windows_at_once
            if reserved > self._most_decoded:
                return
            job = self._to_decode.popleft()
            if job.wants_decoding:
                job.is_decoding = True
                self._num_decoding += 1
                self._pool.submit(self._decode, job)

    def _decode(self, job: Job) -> None:
        """Decode the next windows of a job, in a thread of the pool."""
        problem: RequestError | None = None
        windows: list[np.ndarray] = []
        try:
            windows = list(islice(job.windows, job.windows_at_once))
            if job.clip.error is not None:
                problem = RequestError(400, job.clip.error)
        except TooLongError as error:
            problem = RequestError(422, str(error))
        except Exception as error:
            problem = _internal(error)
        with self._changed:
            self._num_decoding -= 1
            job.is_decoding = False
            job.is_exhausted = len(windows) < job.windows_at_once
            if job.is_over:
                job.windows.close()
            elif problem is None:
                self._add_windows(job, windows)
            self._start_decoding()
            scored = job.is_scored
        if problem is not None:
            self._fail(job, problem)
        elif scored:
            self._complete(job)

    def _add_windows(self, job: Job, windows: list[np.ndarray]) -> None:
        """Let decoded windows wait for the network, with the lock held."""
        if windows:
            if not job.decoded:
                self._turns.append(job)
            job.decoded.extend(windows)
            self._num_decoded += len(windows)
            self._waiting_since = self._waiting_since or time.monotonic()
            self._changed.notify_all()
        if job.wants_decoding:
            self._to_decode.append(job)

    def _score(self) -> None:
        """Run the network until the batcher is stopped, in its thread. The next batch is in flight beside one."""
        in_flight: _InFlight | None = None
        while True:
            group = self._take(wait=in_flight is None)
            if group is None:
                return
            dispatched = self._dispatch(group) if group else None
            if in_flight is not None:
                self._collect(in_flight)
            in_flight = dispatched

    def _take(self, wait: bool) -> list[tuple[Job, np.ndarray]] | None:
        """The windows of the next batch, a window of each job in turn.

        Args:
          wait: until a batch is full or has waited long enough. Otherwise it is taken only if it is full: beside a
            batch in flight, one that is not full would cost as much and be finished no earlier.

        Returns:
          At most a batch; None where the batcher is stopped.
        """
        size = self._engine.batch_size
        with self._changed:
            idle_since = time.monotonic()
            while not self._is_stopped and self._num_decoded < size:
                if not wait:
                    return []
                left = None
                if self._waiting_since is not None:
                    # A batch costs the same whether it is full or not: those that are being decoded are worth a wait.
                    patience = max(self._max_wait, self._batch_seconds) if self._num_decoding else self._max_wait
                    left = max(self._waiting_since, idle_since) + patience - time.monotonic()
                    if left <= 0:
                        break
                self._changed.wait(left)
            if self._is_stopped:
                return None
            group: list[tuple[Job, np.ndarray]] = []
            while self._turns and len(group) < size:
                job = self._turns.popleft()
                group.append((job, job.decoded.popleft()))
                job.num_in_flight += 1
                if job.decoded:
                    self._turns.append(job)
                if job.wants_decoding:
                    self._to_decode.append(job)
            self._num_decoded -= len(group)
            self._waiting_since = time.monotonic() if self._turns else None
            self._start_decoding()
            return group

    def _dispatch(self, group: list[tuple[Job, np.ndarray]]) -> _InFlight | None:
        jobs = [job for job, _ in group]
        self._on_batch(len(group))
        try:
            samples = np.stack([window for _, window in group])
            start = time.monotonic()
            return _InFlight(jobs, samples, self._engine.dispatch(samples), start)
        except Exception as error:
            self._fail_all(jobs, error)
            return None

    def _collect(self, batch: _InFlight) -> None:
        """Wait for a batch, and complete the jobs whose last windows it has."""
        try:
            scores = self._engine.collect(batch.samples, batch.outputs)
        except Exception as error:
            self._fail_all(batch.jobs, error)
            return
        self._batch_seconds = time.monotonic() - batch.start
        complete: list[Job] = []
        with self._changed:
            for job, *row in zip(batch.jobs, scores.logits, scores.rank_gaps, scores.certified, strict=True):
                logits, rank_gaps, certified = row
                job.num_in_flight -= 1
                job.clip.scores.append(WindowScores(logits, rank_gaps, bool(certified)))
                if job.is_scored and not job.is_over:
                    complete.append(job)
        for job in complete:
            self._complete(job)

    def _complete(self, job: Job) -> None:
        try:
            detection = build_detection(job.clip, self._config, job.settings)
        except Exception as error:
            self._fail(job, _internal(error))
            return
        if detection.error is not None:
            self._fail(job, RequestError(400, detection.error))
        elif self._end(job):
            job.detection.set_result(detection)

    def _fail_all(self, jobs: list[Job], error: Exception) -> None:
        for job in set(jobs):
            self._fail(job, _internal(error))

    def _fail(self, job: Job, problem: RequestError) -> None:
        if self._end(job):
            job.detection.set_exception(problem)

    def _end(self, job: Job) -> bool:
        """Remove a job; whether its caller still waits."""
        with self._changed:
            waits = job in self._jobs
            if waits:
                self._remove(job)
            return waits


def _internal(error: Exception) -> RequestError:
    """The problem of an error that should not happen. Its text is for the log alone."""
    problem = RequestError(500, "the recording could not be scored, by an error of the service; its log has the cause")
    problem.__cause__ = error
    return problem
