"""From trials to windows of samples, decoded by threads while the devices compute."""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Float

from spectra_jax import audio
from spectra_jax.audio.speech import SpeechTrack, has_detector, load_detector
from spectra_jax.data.text import open_plain_file
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError, TooLongError
from spectra_jax.inference.prefetch import prefetch
from spectra_jax.inference.results import CERTIFIED, Result
from spectra_jax.inference.windows import FIRST_WINDOW, WindowPolicy, WindowScores, WindowSpan, aggregate_logits
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.spectra import POOLS

# A clip takes milliseconds to decode, and libsndfile and numpy hold Python's lock for few of them.
DECODER_THREADS = min(os.cpu_count() or 1, 8)
# Windows of a clip that a thread decodes at a time: 4 MB.
_WINDOWS_AT_ONCE = 16
# How far the resampling filter looks ahead at most: ten samples at the slowest rate.
_FILTER_SECONDS = 20 / audio.MIN_RATE


@dataclass
class DecodedTrial:
    """A trial as decoded, and the scores of its windows, or why it is refused."""

    trial: Trial
    window: Float[np.ndarray, " samples"] | None = None
    """The first one, where `decode_trial` computed it and the clip can be scored."""
    seconds: float | None = None
    sha256: str | None = None
    expected_windows: int | None = None
    """How many there are by the file's header, which may be wrong; set where every window is scored."""
    spans: list[WindowSpan] = field(default_factory=list)
    """Where each window is in the clip."""
    speech_seconds: float | None = None
    """Seconds of speech in the clip; None where they were not measured."""
    detector: str | None = None
    """The name of the voice activity detector; None without one."""
    file_sha256: str | None = None
    """SHA-256 of the file's bytes, where that was requested and there is a file."""
    error: str | None = None
    scores: list[WindowScores] = field(default_factory=list)

    @property
    def scored_share(self) -> float:
        """How much of it is scored, from 0 to 1, as far as that is known."""
        return min(len(self.scores) / self.expected_windows, 1.0) if self.expected_windows else 0.0

    def result(self, window_policy: WindowPolicy = FIRST_WINDOW) -> Result:
        """The trial's result, from the scores of all its windows."""
        if self.error is not None:
            return self._skipped(self.error)
        logits = np.stack([scores.logits for scores in self.scores])
        not_finite = ~np.isfinite(logits).all(axis=1)
        if not_finite.any():
            return self._skipped(describe_not_finite(logits[not_finite.argmax()]))
        clip_logits, chosen = aggregate_logits(logits, window_policy.aggregate, [span.counts for span in self.spans])
        flags = {
            "silent": all(self.spans[index].is_silent for index in chosen),
            "no speech": window_policy.aggregate == "speech-mean" and not any(span.counts for span in self.spans),
            CERTIFIED: any(self.scores[index].certified for index in chosen),
        }
        result = Result(
            self.trial,
            (float(clip_logits[0]), float(clip_logits[1])),
            self.seconds,
            flags=tuple(name for name, holds in flags.items() if holds),
            sha256=self.sha256,
            window_scores=None if window_policy.hop is None else tuple(map(float, logits[:, 1])),
        )
        gaps = np.stack([self.scores[index].rank_gaps for index in chosen]).min(axis=0, initial=math.inf)
        # A gap is infinite where pools have one node and rank nothing.
        if not len(gaps) or not np.isfinite(gaps.min()):
            return result
        return replace(result, rank_gap=float(gaps.min()), rank_gap_pool=POOLS[int(gaps.argmin())])

    def _skipped(self, error: str) -> Result:
        return Result(self.trial, None, self.seconds, error=error, sha256=self.sha256)


def describe_not_finite(logits: Float[np.ndarray, " 2"]) -> str:
    """Why a clip with such logits has no score."""
    return f"the network's logits are not finite: {logits.tolist()}"


class Window(NamedTuple):
    """A window of a clip on its way through the network.

    Attributes:
      clip: which it is of.
      samples: None for a clip that is refused, which has one such window.
      last: whether it is the clip's last one.
    """

    clip: DecodedTrial
    samples: Float[np.ndarray, " samples"] | None
    last: bool


def decode_trial(trial: Trial, config: SpectraConfig) -> DecodedTrial:
    """Decode a trial and compute its first window; a clip that cannot be scored is refused with its reason."""
    clip = _without_content(trial)
    clip.window = next(_windows(clip, trial, config, FIRST_WINDOW), None)
    return clip


def decode_windows(
    trials: Iterable[Trial],
    config: SpectraConfig,
    window_policy: WindowPolicy,
    *,
    batch_size: int,
    detailed: bool = False,
) -> Generator[Window]:
    """The windows of trials, in order, decoded by threads ahead of the consumer.

    What is decoded and waits is bounded: a batch, or two clips a thread where batches are smaller. Closing the
    generator stops the threads, each after its present clip or its next windows.

    Args:
      trials: taken only as fast as they are decoded.
      config: of the network.
      window_policy: which windows of each clip.
      batch_size: how many windows the consumer takes at a time.
      detailed: also compute what scores do not depend on: the digests of files, and, with the extra `inspect`, each
        window's share of speech.
    """
    # Where every window of a clip is scored, each clip has many decoded at a time, whatever the batch size.
    num_ahead = 2 * DECODER_THREADS if window_policy.hop is not None else max(batch_size, 2 * DECODER_THREADS)
    pool = ThreadPoolExecutor(DECODER_THREADS, thread_name_prefix="spectra-jax-decode")
    try:
        started = (_DecodingTrial(pool, trial, config, window_policy, detailed) for trial in trials)
        for decoding in prefetch(started, num_ahead):
            yield from decoding.windows()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def decode_detailed(
    trial: Trial, config: SpectraConfig, window_policy: WindowPolicy, *, max_seconds: float = math.inf
) -> tuple[DecodedTrial, Generator[np.ndarray]]:
    """A trial, and its windows (num_samples,), each decoded when it is taken, with all that a detection states.

    Whether the trial is refused, by its `error`, is known only after the last window.

    Args:
      trial: what to decode.
      config: of the network.
      window_policy: which windows.
      max_seconds: of the recording, whatever its header states. No more is decoded.

    Raises:
      TooLongError: from the windows: the recording is longer than `max_seconds`.
    """
    clip = _without_content(trial)
    return clip, _windows(clip, trial, config, window_policy, detailed=True, max_seconds=max_seconds)


class _DecodingTrial:
    """A trial that threads decode: some of its windows at a time, the next ones while those before are scored.

    What is decoded is bounded without any thread that waits for space in a queue.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        trial: Trial,
        config: SpectraConfig,
        window_policy: WindowPolicy,
        detailed: bool,
    ):
        self._clip = _without_content(trial)
        self._windows = _windows(self._clip, trial, config, window_policy, detailed)
        self._pool = pool
        self._next = self._submit()

    def _submit(self) -> Future[list[np.ndarray]]:
        return self._pool.submit(lambda: list(islice(self._windows, _WINDOWS_AT_ONCE)))

    def windows(self) -> Iterator[Window]:
        """Its windows, or one without samples where it is refused."""
        previous: np.ndarray | None = None
        while decoded := self._next.result():
            # Fewer than were requested are the last ones.
            more = len(decoded) == _WINDOWS_AT_ONCE
            if more:
                self._next = self._submit()
            for samples in decoded:
                if previous is not None:
                    yield Window(self._clip, previous, False)
                previous = samples
            if not more:
                break
        yield Window(self._clip, previous if self._clip.error is None else None, True)


def _without_content(trial: Trial) -> DecodedTrial:
    # The file's bytes, or samples, are needed only while it is decoded, and results are kept longer.
    return DecodedTrial(replace(trial, content=None, samples=None))


def _windows(
    clip: DecodedTrial,
    trial: Trial,
    config: SpectraConfig,
    policy: WindowPolicy,
    detailed: bool = False,
    max_seconds: float = math.inf,
) -> Generator[np.ndarray]:
    """Windows (num_samples,) of a clip, computed as they are taken.

    Whether the clip is refused, by `clip.error`, is known only after the last of them.
    """
    try:
        if trial.problem is not None:
            raise audio.AudioError(trial.problem)
        trial = _with_content(trial)
        if detailed:
            clip.file_sha256 = _file_sha256(trial)
        # A detection states that its speech was not measured; scores that depend on it need the detector.
        optional = detailed and not policy.speech_only
        find_speech = has_detector() if optional else policy.needs_detector
        if policy.hop is None and not find_speech:
            windows = _first_window(clip, trial, config, max_seconds)
        else:
            windows = _all_windows(clip, trial, config, policy, find_speech, max_seconds)
        yield from windows
    except audio.AudioError as error:
        clip.error = str(error)


def _first_window(clip: DecodedTrial, trial: Trial, config: SpectraConfig, max_seconds: float) -> Iterator[np.ndarray]:
    keep = config.num_samples / config.sample_rate + _FILTER_SECONDS
    if trial.samples is None and math.isinf(max_seconds):
        decoded = audio.decode(trial.path, trial.content, keep_seconds=keep)
    else:
        with open_trial(trial) as stream:
            decoded = audio.keep_start(_limited(stream, max_seconds, trial), str(trial.path), keep)
    clip.seconds, clip.sha256 = decoded.seconds, decoded.sha256
    if decoded.not_finite:
        raise audio.AudioError(decoded.not_finite)
    window = prepare(decoded.samples, decoded.rate, config)
    end = min(math.ceil(decoded.seconds * config.sample_rate), config.num_samples)
    clip.spans.append(WindowSpan(0, end, end < config.num_samples, audio.is_silent(window)))
    yield window


def _all_windows(
    clip: DecodedTrial,
    trial: Trial,
    config: SpectraConfig,
    policy: WindowPolicy,
    find_speech: bool,
    max_seconds: float,
) -> Iterator[np.ndarray]:
    hop = math.inf if policy.hop is None else policy.hop
    speech = SpeechTrack(load_detector()) if find_speech else None
    with open_trial(trial) as stream:
        blocks = audio.InspectedBlocks(_limited(stream, max_seconds, trial), str(trial.path))
        if stream.expected_samples is not None:
            after_first = stream.expected_samples / stream.rate - config.num_samples / config.sample_rate
            clip.expected_windows = 1 + max(math.ceil(after_first / max(hop, 1 / config.sample_rate)), 0)
        try:
            windows = audio.cut_windows(
                blocks,
                stream.rate,
                hop=hop,
                num_samples=config.num_samples,
                preemphasis=config.preemphasis,
                target_rate=config.sample_rate,
                speech=speech,
                speech_only=policy.speech_only,
            )
            for window in windows:
                clip.spans.append(_span(window, policy, speech))
                yield window.samples
        except audio.AudioError:
            # Decoded to its end nevertheless, for its length and digest. A problem in its samples explains more.
            for _ in blocks:
                pass
            if blocks.not_finite:
                raise audio.AudioError(blocks.not_finite) from None
            raise
        finally:
            if blocks.sha256 is not None:
                clip.seconds, clip.sha256 = blocks.num_samples / stream.rate, blocks.sha256
            if speech is not None:
                clip.speech_seconds, clip.detector = speech.seconds, speech.name
        if blocks.not_finite:
            raise audio.AudioError(blocks.not_finite)


def _limited(stream: audio.AudioStream, max_seconds: float, trial: Trial) -> audio.AudioStream:
    """The same recording; its blocks raise TooLongError as soon as there are more than `max_seconds` of them."""
    if math.isinf(max_seconds):
        return stream

    def blocks() -> Iterator[np.ndarray]:
        num_samples = 0
        for block in stream:
            num_samples += len(block)
            if num_samples > max_seconds * stream.rate:
                raise TooLongError(f"{trial.path}: longer than {max_seconds:g} s; cut it into shorter files")
            yield block

    return replace(stream, blocks=blocks())


def _span(window: audio.AudioWindow, policy: WindowPolicy, speech: SpeechTrack | None) -> WindowSpan:
    share = None if speech is None else speech.share(window.start, window.end)
    is_silent = audio.is_silent(window.samples)
    # A clip that is shorter than a window has nothing else.
    is_short = window.start > 0 and 2 * (window.end - window.start) < len(window.samples)
    has_speech = not is_silent if share is None else share >= policy.min_speech
    return WindowSpan(
        window.start, window.end, window.is_partial, is_silent, share, is_short, has_speech and not is_short
    )


def _file_sha256(trial: Trial) -> str | None:
    """SHA-256 of the bytes of the trial's file; None for samples, and for what is not a file that can be read."""
    if trial.samples is not None:
        return None
    if trial.content is not None:
        return hashlib.sha256(trial.content).hexdigest()
    try:
        with open_plain_file(trial.path) as file:
            return hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()
    # Decoding states what is wrong with the file.
    except (OSError, InputError):
        return None


def open_trial(trial: Trial) -> AbstractContextManager[audio.AudioStream]:
    """The trial's recording, decoded as its blocks are taken. What is at a URL is downloaded.

    Raises:
      AudioError: there is nothing to decode. Further ones as in `spectra_jax.audio.open_stream`.
    """
    if trial.problem is not None:
        raise audio.AudioError(trial.problem)
    trial = _with_content(trial)
    if trial.samples is not None:
        return nullcontext(audio.stream_samples(*trial.samples))
    return audio.open_stream(trial.path, trial.content)


def _with_content(trial: Trial) -> Trial:
    """The trial with the bytes that its URL has, where that is all it has."""
    if isinstance(trial.path, str) and trial.content is None and trial.samples is None:
        return replace(trial, content=_fetch(trial.path, trial.max_bytes))
    return trial


def prepare(clip: np.ndarray, sample_rate: int, config: SpectraConfig) -> Float[np.ndarray, " samples"]:
    """The window of a network of this configuration, of a clip as decoded; see `spectra_jax.audio.prepare`."""
    return audio.prepare(
        clip,
        sample_rate,
        num_samples=config.num_samples,
        preemphasis=config.preemphasis,
        target_rate=config.sample_rate,
    )


def _fetch(url: str, max_bytes: int) -> bytes:
    from spectra_jax.data.sources import remote

    try:
        return remote.fetch(url, max_bytes)
    except InputError as error:
        raise audio.AudioError(str(error)) from error
