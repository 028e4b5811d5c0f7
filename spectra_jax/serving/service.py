"""The network's state, from its loading to the end of the service, and what the routes need of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from threading import Thread
from typing import Any, Literal, get_args

import numpy as np

from spectra_jax import __version__
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError, RequestError
from spectra_jax.inference.detect import DEFAULT_HOP, DetectionSettings
from spectra_jax.inference.detection import Detection
from spectra_jax.inference.recordings import trial_of
from spectra_jax.inference.scorer import Scorer
from spectra_jax.inference.windows import Aggregate, parse_window_policy
from spectra_jax.serving.batching import Batcher
from spectra_jax.serving.downloads import UrlPrefix, download
from spectra_jax.serving.problems import unavailable
from spectra_jax.serving.settings import MIN_HOP, ServiceSettings
from spectra_jax.serving.telemetry import Metrics, log
from spectra_jax.serving.uploads import Body, Buffered

State = Literal["starting", "ready", "stopping", "failed"]
PARAMETERS = {
    "threshold": "Label the recording, and find the segments, that score below this number, or below a threshold in "
    "circulation: published-code or published-readme.",
    "windows": f"hop=S, a window every S seconds (at least {MIN_HOP:g}), or first, the first window alone. "
    f"Default: hop={DEFAULT_HOP:g}.",
    "aggregate": f"How the score follows from the windows' scores: {', '.join(get_args(Aggregate))}. Default: "
    "speech-mean, or first where only the first window is scored.",
}
_DOWNLOADS = 4


class Service:
    """A network and what surrounds it while requests come.

    Args:
      settings: see `ServiceSettings`.
      load: the scorer, loaded. It is called in a thread, since it takes seconds to minutes.
      model: its name.
      on_failure: called where the network could not be loaded.

    Attributes:
      state: `starting` until the network is compiled and has scored a recording; `stopping` once no more are taken.
      model: the network's name in responses.
      failure: why the network could not be loaded.
      num_cancelled: how many requests were not finished when the service ended.

    Raises:
      InputError: a calibration or a prefix that cannot be used, or an unknown threshold.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        load: Callable[[], Scorer],
        model: str,
        on_failure: Callable[[], None] = lambda: None,
    ):
        self.settings = settings
        self.state: State = "starting"
        self.failure: Exception | None = None
        self.num_cancelled = 0
        self.buffered = Buffered(settings.max_buffered_bytes)
        self.metrics = Metrics(lambda: self.queue_depth, lambda: self.buffered.total)
        self._load, self.model = load, model
        self.on_failure = on_failure
        self._prefixes = [UrlPrefix.of(text) for text in settings.allowed_urls]
        self._default = DetectionSettings.of(
            threshold=settings.threshold,
            calibration=settings.calibration,
            spoof_prior=settings.spoof_prior,
            model=model,
        )
        self._scorer: Scorer | None = None
        self._batcher: Batcher | None = None
        self._downloads = ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="spectra-jax-download")
        self._pages = ThreadPoolExecutor(1, thread_name_prefix="spectra-jax-page")
        self._num_pages = 0

    def start(self) -> None:
        """Start loading the network."""
        Thread(target=self._start, name="spectra-jax-load", daemon=True).start()

    def _start(self) -> None:
        settings = self.settings
        try:
            self._scorer = self._load()
            _ = self.system
            batcher = Batcher(
                self._scorer,
                max_wait=settings.max_wait_ms / 1000,
                max_queue=settings.max_queue,
                max_seconds=settings.max_seconds,
                decoder_threads=settings.decoder_threads,
                on_batch=self.metrics.batch_windows.observe,
            )
            # The first recording loads what is loaded when it is first needed, such as the voice activity detector.
            noise = np.random.default_rng(0).uniform(-0.1, 0.1, 16_000).astype(np.float32)
            batcher.submit(trial_of(noise, 16_000), self._default).detection.result()
        except Exception as error:
            self.state, self.failure = "failed", error
            log("the network could not be loaded", logging.ERROR, error)
            self.on_failure()
            return
        self._batcher = batcher
        if self.state == "starting":
            self.state = "ready"
            log("ready", model=self.model, weights_sha256=self.system["weights_sha256"])

    def refuse_new(self) -> None:
        """Take no more recordings; those in flight are scored."""
        if self.state in ("starting", "ready"):
            self.state = "stopping"

    def stop(self) -> None:
        """Drop what is not scored and end the threads."""
        self.refuse_new()
        if self._batcher is not None:
            self._batcher.stop()
        for pool in (self._downloads, self._pages):
            pool.shutdown(wait=False, cancel_futures=True)

    @property
    def queue_depth(self) -> int:
        """Recordings that are decoded, scored, drawn or waiting."""
        return self._num_pages + (0 if self._batcher is None else self._batcher.queue_depth)

    @cached_property
    def system(self) -> dict[str, Any]:
        """What scored, as plain values. Known once the network is loaded."""
        assert self._scorer is not None
        identity = self._scorer.identity()
        known = {key: identity[key] for key in ("weights_sha256", "precision", "batch_size")}
        return {"spectra_jax": __version__, "model": self.model} | known

    def check_ready(self) -> Batcher:
        """What scores.

        Raises:
          RequestError: the network is not loaded yet, the service is stopping, or its queue is full.
        """
        if self._batcher is None or self.state != "ready":
            raise unavailable({"starting": "the network is being loaded"}.get(self.state, "the service is stopping"))
        self._batcher.check_capacity(self._num_pages)
        return self._batcher

    def detection_settings(self, parameters: Mapping[str, str]) -> DetectionSettings:
        """The settings of a request, from its parameters.

        Args:
          parameters: by the names in `PARAMETERS`.

        Raises:
          RequestError: an unknown parameter, or a value that it cannot have.
        """
        if unknown := set(parameters) - set(PARAMETERS):
            raise RequestError(422, f"unknown parameter {min(unknown)[:100]!r}: there are {', '.join(PARAMETERS)}")
        threshold: Any = parameters.get("threshold") or self._default.threshold
        windows, aggregate = parameters.get("windows") or f"hop={DEFAULT_HOP}", parameters.get("aggregate") or None
        try:
            policy = parse_window_policy(windows, aggregate)
            if policy.hop is not None and policy.hop < MIN_HOP:
                raise ValueError(f"hop = {policy.hop:g}: at least {MIN_HOP:g} s are expected")
            return DetectionSettings.of(
                policy,
                threshold,
                self._default.calibration,
                self._default.spoof_prior,
                self._default.model,
            )
        except (InputError, ValueError) as error:
            raise RequestError(422, str(error)) from error

    async def trial_of(self, body: Body) -> Trial:
        """The recording that a request sent or named.

        Raises:
          RequestError: its URL is not permitted, or cannot be read.
        """
        if body.content is not None:
            return trial_of(body.content, name=body.name)
        assert body.url is not None
        read = partial(
            download,
            body.url,
            self._prefixes,
            max_bytes=self.settings.max_bytes,
            max_seconds=self.settings.body_seconds,
        )
        content = await asyncio.get_running_loop().run_in_executor(self._downloads, read)
        self.buffered.add(len(content))
        body.num_bytes += len(content)
        return trial_of(content, name=body.url)

    async def detect(self, trial: Trial, settings: DetectionSettings) -> Detection:
        """Score a recording. Where this is cancelled, work on it ends.

        Raises:
          RequestError: it cannot be scored, or there is no capacity.
        """
        batcher = self.check_ready()
        job = batcher.submit(trial, settings)
        try:
            detection = await asyncio.wrap_future(job.detection)
        finally:
            batcher.drop(job)
        self.metrics.audio_seconds.inc(detection.seconds or 0.0)
        return detection

    async def render(self, detection: Detection, trial: Trial) -> str:
        """The page about a recording, as `spectra-jax inspect --html` writes it. It counts for the queue until then.

        Raises:
          RequestError: the extra `report` is not installed.
        """
        from spectra_jax.reporting.inspection_page import InspectionContext, render_inspection

        context = InspectionContext(self.model, self.system["weights_sha256"], self.system["precision"])
        draw = partial(render_inspection, [detection], [trial], context)
        self._num_pages += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pages, draw)
        except InputError as error:
            raise RequestError(501, str(error)) from error
        finally:
            self._num_pages -= 1
