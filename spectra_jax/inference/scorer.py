"""Scoring: windows in, logits out, in compiled batches. The only room that knows of devices."""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from spectra_jax import audio, hub
from spectra_jax.checkpoints.native import abstract_loaded_model, with_weights
from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.data.trial import Trial
from spectra_jax.devices import local_devices
from spectra_jax.errors import InputError
from spectra_jax.inference.batch_size import clips_per_device
from spectra_jax.inference.compilation_cache import CompilationCache, DamagedError, xla_flags
from spectra_jax.inference.prefetch import prefetch
from spectra_jax.inference.results import CERTIFIED, Result
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.precision import Precision
from spectra_jax.model.rank_gap import GAP_BOUND
from spectra_jax.model.spectra import POOLS, SpectraAASIST3, fold_for_inference, split, split_with_rank_gaps

T = TypeVar("T")
Aggregate = Literal["first", "mean", "min", "median"]

# Threads that decode. A clip takes milliseconds, of which libsndfile and numpy hold Python's lock for few.
_DECODERS = min(os.cpu_count() or 1, 8)
# How parameters and windows lie on a mesh of one axis: whole on each device, and each its share of the clips.
_WHOLE, _BY_CLIP = P(), P("clips")


@dataclass(frozen=True)
class WindowPolicy:
    """Which windows of a clip are scored, and what becomes of their scores.

    Attributes:
      hop: seconds from one window's start to the next one's; None for the first window alone, as the network was made
        to be used. The last window is the last whole one; a clip shorter than a window has one.
      aggregate: what the clip gets: the answer to its first window, the mean or the median of all, or the window with
        the lowest score ("min": does any part of the clip sound made?).

    Raises:
      ValueError: no such aggregate, or a hop that is no positive number.
    """

    hop: float | None = None
    aggregate: Aggregate = "first"

    def __post_init__(self) -> None:
        if self.aggregate not in get_args(Aggregate):
            raise ValueError(f"aggregate {self.aggregate!r} is none of {', '.join(get_args(Aggregate))}")
        if self.hop is not None and not (0 < self.hop < math.inf):
            raise ValueError(f"hop = {self.hop}: seconds above 0 are expected")


FIRST_WINDOW = WindowPolicy()


class ScoringProgress(NamedTuple):
    """How far `Scorer.score_trials` has come.

    Attributes:
      trials: scored or refused so far. A recording of which some windows are scored counts as their share of all that
        its header leads to expect, or not at all where its header does not state its length.
      windows: scored so far.
    """

    trials: float
    windows: int


class Scorer:
    """Scores speech clips: higher = more bona fide, that is, more likely a person's own speech.

    One shape is compiled, `(batch_size, num_samples)`, while the weights are read; a batch with fewer clips is padded,
    which changes no score beyond rounding. Each device holds all weights and scores an equal share of every batch. With
    `precision="float64"` the scorer runs in JAX's x64 mode and leaves the process's own mode as it is. For a CPU the
    network is compiled at LLVM's level 2, unless `XLA_FLAGS` has an `--xla_backend_optimization_level`.

    Args:
      model: what `spectra_jax.load` takes, or a network that is loaded already.
      precision: float32, tf32, bfloat16 or float64; a loaded network keeps its own.
      batch_size: clips per call of the network, over all devices, at least 1; rounded up to a multiple of the number of
        devices. "auto" goes by the devices' memory: see `spectra_jax.inference.batch_size`.
      devices: of one kind, and of this process; all of `jax.local_devices()` otherwise.
      diagnostics: tell each trial's smallest rank gap and its pool, in the results of `score_trials`.
      certify: score trials whose smallest rank gap is below the bound of `spectra_jax.model.rank_gap` again in
        float64, so that no score depends on device, batch size, compiler or neighbours by more than rounding. Float64
        weights take twice the memory of float32 ones, and are read when the first such trial comes.

    Raises:
      ValueError: an argument that cannot be; `certify` of a network that is loaded already, whose weights may have been
        rounded.
    """

    def __init__(
        self,
        model: str | Path | SpectraAASIST3 = hub.PUBLISHED,
        *,
        precision: Precision | str = "float32",
        batch_size: int | Literal["auto"] = 8,
        devices: Sequence[jax.Device] | None = None,
        diagnostics: bool = False,
        certify: bool = False,
    ):
        if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
            raise ValueError(f'batch_size = {batch_size!r}, but it must be at least 1, or "auto"')
        if devices is not None and len(devices) == 0:
            raise ValueError("devices is empty; leave it out to score on all of this process's devices")
        self.precision = model.precision if isinstance(model, SpectraAASIST3) else Precision.of(precision)
        if certify and isinstance(model, SpectraAASIST3):
            raise ValueError("certify needs the checkpoint, not a loaded network, to read its weights in float64")
        if certify and self.precision.name not in ("float32", "float64"):
            raise ValueError(
                f"certify takes float32, not {self.precision.name}: in a coarser type nearly every trial has a near tie"
            )
        self.source = model
        # In float64 there is nothing to certify.
        self._certifier: Scorer | None = None
        if certify and self.precision.name != "float64":
            self._certifier = Scorer(model, precision="float64", batch_size=1, devices=devices, diagnostics=True)
        self._diagnostics = diagnostics or certify
        self._asked_batch_size = batch_size
        self._asked_devices = devices
        self._loading = Lock()
        self._network: _Network | None = None
        self._cache: CompilationCache | None = None

    def load(self, num_clips: int | None = None, cache: CompilationCache | None = None) -> None:
        """Compile the network, read the weights and put them on the devices; further calls do nothing.

        Scoring does it by itself.

        Args:
          num_clips: how many there are to score, where that is known: no larger batch is compiled for them.
          cache: of compiled networks, from `compilation_cache.use`; without one the network is compiled anew.
        """
        self._loaded(num_clips, cache)

    def unload(self) -> None:
        """Let go of the weights and the compiled network. A later call loads again."""
        self._network = None
        if self._certifier is not None:
            self._certifier.unload()

    @property
    def model(self) -> SpectraAASIST3:
        """The network, loaded if it was not."""
        return self._loaded().model

    @property
    def batch_size(self) -> int:
        """Clips per call of the network, over all devices. Loads the network if it was not."""
        return self._loaded().batch_size

    def identity(self) -> dict[str, Any]:
        """What scores depend on besides the clips, as plain values: weights, architecture, precision, batch size."""
        return identity(
            self.source,
            self.precision,
            self.batch_size,
            diagnostics=self._diagnostics,
            certify=self._certifier is not None,
        )

    def _loaded(self, num_clips: int | None = None, cache: CompilationCache | None = None) -> _Network:
        # One thread loads, and others that score at the same time wait for it.
        with self._loading:
            if self._network is None:
                self._cache = cache
                self._network = self._load(num_clips, cache)
            return self._network

    def _load(self, num_clips: int | None, cache: CompilationCache | None) -> _Network:
        source = self.source
        devices = list(self._asked_devices or local_devices())
        checkpoint = None if isinstance(source, SpectraAASIST3) else open_checkpoint(source)
        shapes = source if checkpoint is None else abstract_loaded_model(checkpoint.config, self.precision)
        assert isinstance(shapes, SpectraAASIST3)
        batch_size = self._batch_size(shapes, devices, num_clips)
        mesh = Mesh(np.array(devices), ("clips",))
        pool = ThreadPoolExecutor(1, thread_name_prefix="spectra-jax-compile")
        try:
            # The mode is the thread's own.
            with jax.enable_x64(self._x64), jax.default_device(devices[0]):
                scoring = fold_for_inference(shapes)
                forward, arguments = self._forward(scoring, batch_size, mesh)
                # A network that is loaded already may be of a class of the caller's own, which no facts tell.
                cache = None if checkpoint is None else cache
                key = "" if cache is None else cache.key(self._facts(shapes.config, batch_size, devices))
                found = None if cache is None else cache.find(key, devices, arguments)

                def traced() -> Callable[[], jax.stages.Compiled]:
                    """What compiles the network, traced now, and keeps it."""
                    lowered, options = forward.lower(*arguments), _compiler_options(devices[0].platform)
                    if cache is None:
                        return partial(lowered.compile, options)
                    return partial(cache.compiled, key, lowered, options)

                # Tracing holds Python's lock, and beside it reading would take many times as long. Compiling does not.
                compiling = pool.submit(found or traced())
                model = shapes
                if checkpoint is not None:
                    model = with_weights(shapes, checkpoint)
                    scoring = fold_for_inference(model)
                params = jax.device_put(jax.tree.leaves(split(scoring)[1]), NamedSharding(mesh, _WHOLE))
                try:
                    compiled = compiling.result()
                except DamagedError:
                    compiled = traced()()
            _give_back_freed_memory()
            return _Network(model, params, compiled, batch_size, NamedSharding(mesh, _BY_CLIP))
        finally:
            # Without waiting: weights that turn out damaged, or Ctrl-C, are told of at once.
            pool.shutdown(wait=False)

    def _forward(
        self, shapes: SpectraAASIST3, batch_size: int, mesh: Mesh
    ) -> tuple[jax.stages.Wrapped, tuple[list[jax.ShapeDtypeStruct], jax.ShapeDtypeStruct]]:
        """The network for the devices of a mesh, and what it takes: the leaves of its parameters, and windows."""
        forward, params = (split_with_rank_gaps if self._diagnostics else split)(shapes)
        leaves, tree = jax.tree.flatten(params)

        # What is compiled is named for it, in profiles.
        def spectra(leaves: Sequence[jax.Array], windows: jax.Array) -> jax.Array:
            return forward(jax.tree.unflatten(tree, leaves), windows)

        # No device needs another's clips, so nothing is exchanged: each runs the network on its own share.
        # So there is nothing to check in what the values vary over, either, which takes a fifth of the tracing.
        mapped = jax.shard_map(spectra, mesh=mesh, in_specs=(_WHOLE, _BY_CLIP), out_specs=_BY_CLIP, check_vma=False)

        def placed(shape: Sequence[int], dtype: Any, spec: P) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

        return jax.jit(mapped), (
            [placed(leaf.shape, leaf.dtype, _WHOLE) for leaf in leaves],
            placed((batch_size, shapes.config.num_samples), np.float32, _BY_CLIP),
        )

    def _facts(self, config: SpectraConfig, batch_size: int, devices: Sequence[jax.Device]) -> str:
        """All that the compiled network goes by, besides code, versions, settings and the host."""
        places = [(device.platform, device.device_kind, device.id) for device in devices]
        runtime = devices[0].client.platform_version
        return repr((config, self.precision, self._diagnostics, batch_size, places, runtime))

    def _batch_size(self, shapes: SpectraAASIST3, devices: Sequence[jax.Device], num_clips: int | None) -> int:
        if self._asked_batch_size == "auto":
            weights = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(split(shapes)[1]))
            memory = [device.memory_stats() for device in devices]
            batch_size = len(devices) * clips_per_device(shapes.config, self.precision, weights, memory)
        else:
            batch_size = self._asked_batch_size
        if num_clips is not None:
            batch_size = min(batch_size, max(num_clips, 1))
        return -(-batch_size // len(devices)) * len(devices)

    @property
    def _x64(self) -> bool:
        # Not the process's mode, which can differ between the threads that load and score.
        return self.precision.name == "float64"

    def prepare(self, clip: np.ndarray, sample_rate: int) -> np.ndarray:
        """The network's window (num_samples,) of a clip as decoded; see `spectra_jax.audio.prepare`."""
        return _prepare(clip, sample_rate, self.model.config)

    def logits(self, windows: np.ndarray) -> np.ndarray:
        """Logits (n, 2), spoof and bona fide, of any number of windows (n, num_samples).

        Raises:
          ValueError: windows of another shape.
        """
        network = self._loaded()
        num_samples = network.model.config.num_samples
        if windows.ndim != 2 or windows.shape[1] != num_samples:
            raise ValueError(f"expected windows of shape (n, {num_samples}), found {windows.shape}")
        return self._answer(windows)[:, :2]

    def diagnosed(self, windows: np.ndarray) -> np.ndarray:
        """Logits and each pool's smallest rank gap, (n, 2 + 10), of windows: see `spectra_jax.split_with_rank_gaps`.

        Raises:
          ValueError: the scorer was not made with `diagnostics` or `certify`.
        """
        if not self._diagnostics:
            raise ValueError("rank gaps need a scorer made with diagnostics=True")
        return self._answer(windows)

    def _answer(self, windows: np.ndarray) -> np.ndarray:
        """What the network says to any number of windows: see `_end`."""
        size = self.batch_size
        batches = (windows[start : start + size] for start in range(0, len(windows), size))
        begun = ((batch, self._begin(batch)) for batch in batches)
        empty = np.empty((0, 2 + len(POOLS) if self._diagnostics else 2), self.precision.dtype)
        return np.concatenate([empty, *(self._end(batch, answer)[0] for batch, answer in prefetch(begun, 1))])

    def _end(self, windows: np.ndarray, begun: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        """The answer to a batch, waited for: (n, 2) logits, with diagnostics (n, 2 + pools) and the rank gaps.

        Beside it which of the windows are certified, (n,) bool.
        """
        answer = np.asarray(begun)[: len(windows)]
        certified = np.zeros(len(windows), bool)
        if self._certifier is not None:
            certified = answer[:, 2:].min(axis=1) < GAP_BOUND
            if certified.any():
                self._certifier.load(cache=self._cache)
                answer = answer.astype(np.float64)
                answer[certified] = self._certifier._answer(windows[certified])
        return answer, certified

    def _begin(self, windows: np.ndarray) -> jax.Array:
        """Send at least one and at most `batch_size` windows to the devices: logits that are still being computed."""
        network = self._loaded()
        missing = network.batch_size - len(windows)
        # The last clip again, since it is known to be finite and no row of the batch sees another.
        padded = np.concatenate([windows, np.repeat(windows[-1:], missing, axis=0)]) if missing else windows
        with jax.enable_x64(self._x64):
            placed = jax.device_put(padded.astype(np.float32, copy=False), network.by_clip)
            return network.forward(network.params, placed)

    def score_batch(self, audios: Sequence[np.ndarray], sample_rates: Sequence[int]) -> list[float]:
        """Scores of clips, as decoded: 1-D or (samples, channels), float or integer PCM, any sample rate.

        Raises:
          AudioError: a clip is empty or holds NaN or infinite samples, or the network's answer to it is not finite.
            Its place in the batch, counted from 0, is named.
          ValueError: not one sample rate for each clip.
        """
        if len(audios) != len(sample_rates):
            raise ValueError(f"{len(audios)} clips, but {len(sample_rates)} sample rates")
        windows = []
        for index, (clip, rate) in enumerate(zip(audios, sample_rates, strict=True)):
            try:
                windows.append(self.prepare(clip, rate))
            except audio.AudioError as error:
                raise audio.AudioError(f"clip {index} of the batch: {error}") from error
        scores = []
        for index, logits in enumerate(self.logits(np.stack(windows)) if windows else ()):
            if not np.all(np.isfinite(logits)):
                raise audio.AudioError(f"clip {index} of the batch: {_no_answer(logits)}")
            scores.append(float(logits[1]))
        return scores

    def score_trials(
        self,
        trials: Iterable[Trial],
        *,
        window_policy: WindowPolicy = FIRST_WINDOW,
        flush_every: int | None = None,
        timer: StageTimer | None = None,
        on_progress: Callable[[ScoringProgress], None] | None = None,
    ) -> Generator[Result]:
        """Decode, score and yield each trial, in order. A clip that cannot be scored yields its reason instead.

        Threads decode ahead while the devices compute. At most two batches are with the devices, and at most one more
        (or, where batches are small, two clips a thread) is decoded; no more trials than that are taken before the
        results of the first are handed on. Where every window is scored, a clip is decoded as its windows are scored,
        so that memory does not grow with its length. Closing the iterator stops the threads, each after its present
        clip or its next windows.

        Args:
          trials: what to score.
          window_policy: which windows of a clip are scored, and what becomes of their scores.
          flush_every: no batch has clips from both sides of a multiple of so many trials: what comes after it does not
            change the scores of what was before, not by rounding either.
          timer: counts the seconds that were spent waiting, and for what.
          on_progress: called after each batch, before its results are yielded: while one long recording is scored, many
            times.
        """
        network = self._loaded()
        size, config = network.batch_size, network.model.config
        timer = StageTimer() if timer is None else timer
        pool = ThreadPoolExecutor(_DECODERS, thread_name_prefix="spectra-jax-decode")
        try:
            begun = (_Decoding(pool, trial, config, window_policy.hop) for trial in timer.timed("listing", trials))
            # Of a clip of which every window is scored many windows are decoded, whatever the batch size.
            decoding = prefetch(begun, 2 * _DECODERS if window_policy.hop is not None else max(size, 2 * _DECODERS))
            pieces = (piece for clip in decoding for piece in clip.pieces())
            groups = _groups(timer.timed("decoding", pieces, without="listing"), size, flush_every)
            begun_groups = ((group, *self._begin_group(group)) for group in groups)
            num_windows = num_trials = 0
            for group, windows, answer in prefetch(begun_groups, 1):
                with timer.for_("device"):
                    answers = iter(() if answer is None else zip(*self._end(windows, answer), strict=True))
                for piece in group:
                    if piece.window is not None:
                        piece.clip.answers.append(next(answers))
                finished = [piece.clip for piece in group if piece.last]
                num_windows += len(windows)
                num_trials += len(finished)
                if on_progress is not None:
                    share = 0.0 if group[-1].last else group[-1].clip.share
                    on_progress(ScoringProgress(num_trials + share, num_windows))
                yield from (clip.result(window_policy) for clip in finished)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _begin_group(self, group: Sequence[_Piece]) -> tuple[np.ndarray, jax.Array | None]:
        """A group's windows, and their logits that are still being computed; None where it has no window."""
        windows = [piece.window for piece in group if piece.window is not None]
        stacked = np.stack(windows) if windows else np.empty((0, 0), np.float32)
        return stacked, self._begin(stacked) if windows else None


def identity(
    source: str | Path | SpectraAASIST3,
    precision: Precision,
    batch_size: int,
    *,
    diagnostics: bool = False,
    certify: bool = False,
) -> dict[str, Any]:
    """The identity of a scorer, see there, which need not be loaded."""
    if isinstance(source, SpectraAASIST3):
        config, digest = source.config, hashlib.sha256()
        for leaf in jax.tree.leaves(split(source)[1]):
            digest.update(np.asarray(leaf).tobytes())
        weights_sha256 = digest.hexdigest()
    else:
        checkpoint = open_checkpoint(source)
        config, weights_sha256 = checkpoint.config, checkpoint.sha256()
    return {
        "weights_sha256": weights_sha256,
        "config": asdict(config),
        "precision": precision.name,
        "batch_size": batch_size,
        "diagnostics": diagnostics,
        "certify": certify,
    }


@dataclass(frozen=True)
class _Network:
    """A network ready to score."""

    model: SpectraAASIST3
    params: Sequence[jax.Array]
    """The leaves of the folded model's parameters, on every device."""
    forward: Callable[[Sequence[jax.Array], jax.Array], jax.Array]
    """Compiled: (params, windows (batch_size, num_samples)) -> logits (batch_size, 2)."""
    batch_size: int
    by_clip: NamedSharding
    """Each device's share of the windows."""


def _compiler_options(platform: str) -> dict[str, str | bool]:
    """On a CPU LLVM's level 2, with which the network is compiled in 0.85 of the time that level 3 takes, and as fast.

    A person who chose a level in `XLA_FLAGS` gets theirs.
    """
    level = "xla_backend_optimization_level"
    return {level: "2"} if platform == "cpu" and level not in xla_flags() else {}


def _give_back_freed_memory() -> None:
    """Have the system get what the compiler let go of, which glibc keeps: 280 MB for the published network."""
    # Other C libraries have no such function.
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _prepare(clip: np.ndarray, sample_rate: int, config: SpectraConfig) -> np.ndarray:
    return audio.prepare(
        clip,
        sample_rate,
        num_samples=config.num_samples,
        preemphasis=config.preemphasis,
        target_rate=config.sample_rate,
    )


# The filter that resamples looks so far ahead at most: ten samples of the slowest rate there is.
_FILTER_SECONDS = 20 / audio.MIN_RATE
# Windows of a clip that a thread decodes at a time: 4 MB.
_DECODED_AT_ONCE = 16


def decode_trial(trial: Trial, config: SpectraConfig) -> DecodedTrial:
    """Decode a trial and make its first window; a clip that cannot be scored is refused with its reason."""
    # Its bytes are needed no longer than this, and results are kept.
    clip = DecodedTrial(replace(trial, content=None))
    clip.window = next(_windows(clip, trial.content, config, None), None)
    return clip


def _windows(
    clip: DecodedTrial, content: bytes | None, config: SpectraConfig, hop: float | None
) -> Iterator[np.ndarray]:
    """Windows (num_samples,) of a clip, made as they are asked for.

    Whether the clip is refused, by `clip.error`, is known only after the last of them.
    """
    path = clip.trial.path
    try:
        if clip.trial.problem is not None:
            raise audio.AudioError(clip.trial.problem)
        if isinstance(path, str) and content is None:
            content = _fetch(path, clip.trial.max_bytes)
        windows = _first_window(clip, content, config) if hop is None else _all_windows(clip, content, config, hop)
        for window in windows:
            clip.silent.append(audio.is_silent(window))
            yield window
    except audio.AudioError as error:
        clip.error = str(error)


def _first_window(clip: DecodedTrial, content: bytes | None, config: SpectraConfig) -> Iterator[np.ndarray]:
    keep = config.num_samples / config.sample_rate + _FILTER_SECONDS
    decoded = audio.decode(clip.trial.path, content, keep_seconds=keep)
    clip.seconds, clip.sha256 = decoded.seconds, decoded.sha256
    if decoded.not_finite:
        raise audio.AudioError(decoded.not_finite)
    yield _prepare(decoded.samples, decoded.rate, config)


def _all_windows(clip: DecodedTrial, content: bytes | None, config: SpectraConfig, hop: float) -> Iterator[np.ndarray]:
    with audio.open_stream(clip.trial.path, content) as stream:
        blocks = audio.InspectedBlocks(stream, str(clip.trial.path))
        if stream.expected_samples is not None:
            left = stream.expected_samples / stream.rate - config.num_samples / config.sample_rate
            clip.expected_windows = 1 + max(int(left / max(hop, 1 / config.sample_rate)), 0)
        try:
            yield from audio.prepare_windows(
                blocks,
                stream.rate,
                hop=hop,
                num_samples=config.num_samples,
                preemphasis=config.preemphasis,
                target_rate=config.sample_rate,
            )
        except audio.AudioError:
            # To its end all the same, for its length and digest; what is wrong with its samples is the better reason.
            for _ in blocks:
                pass
            if blocks.not_finite:
                raise audio.AudioError(blocks.not_finite) from None
            raise
        finally:
            if blocks.sha256 is not None:
                clip.seconds, clip.sha256 = blocks.num_samples / stream.rate, blocks.sha256
        if blocks.not_finite:
            raise audio.AudioError(blocks.not_finite)


class _Decoding:
    """A trial that threads decode: some of its windows at a time, the next ones while those before are scored.

    What is decoded is bounded without any thread waiting for room.
    """

    def __init__(self, pool: ThreadPoolExecutor, trial: Trial, config: SpectraConfig, hop: float | None):
        # Without its bytes: they are needed while it is decoded, and results are kept.
        self._clip = DecodedTrial(replace(trial, content=None))
        self._windows = _windows(self._clip, trial.content, config, hop)
        self._pool = pool
        self._next = self._submit()

    def _submit(self) -> Future[list[np.ndarray]]:
        return self._pool.submit(lambda: list(islice(self._windows, _DECODED_AT_ONCE)))

    def pieces(self) -> Iterator[_Piece]:
        """Its windows, or one piece without a window where it is refused."""
        held: np.ndarray | None = None
        while windows := self._next.result():
            # Fewer than were asked for are the last.
            more = len(windows) == _DECODED_AT_ONCE
            if more:
                self._next = self._submit()
            for window in windows:
                if held is not None:
                    yield _Piece(self._clip, held, False)
                held = window
            if not more:
                break
        yield _Piece(self._clip, held if self._clip.error is None else None, True)


def _fetch(url: str, max_bytes: int) -> bytes:
    from spectra_jax.data.sources import remote

    try:
        return remote.fetch(url, max_bytes)
    except InputError as error:
        raise audio.AudioError(str(error)) from error


def _no_answer(logits: np.ndarray) -> str:
    return f"the network's answer is not finite: logits {logits.tolist()}"


@dataclass
class DecodedTrial:
    """A trial as decoded, and the answers to its windows, or why it is refused."""

    trial: Trial
    window: np.ndarray | None = None
    """The first one (num_samples,), where `decode_trial` made it and the clip can be scored."""
    seconds: float | None = None
    sha256: str | None = None
    expected_windows: int | None = None
    """Where all are scored, as the header has it, which may be wrong."""
    silent: list[bool] = field(default_factory=list)
    """For each window whether it is digital silence."""
    error: str | None = None
    answers: list[tuple[np.ndarray, bool]] = field(default_factory=list)
    """For each window its logits (and rank gaps), and whether they are certified."""

    @property
    def share(self) -> float:
        """How much of it is scored, from 0 to 1, as far as that is known."""
        return min(len(self.answers) / self.expected_windows, 1.0) if self.expected_windows else 0.0

    def result(self, window_policy: WindowPolicy = FIRST_WINDOW) -> Result:
        def refused(error: str) -> Result:
            return Result(self.trial, None, self.seconds, error=error, sha256=self.sha256)

        if self.error is not None:
            return refused(self.error)
        answers = np.stack([answer for answer, _ in self.answers])
        broken = ~np.isfinite(answers[:, :2]).all(axis=1)
        if broken.any():
            return refused(_no_answer(answers[broken.argmax(), :2]))
        logits, chosen = _aggregated(answers[:, :2], window_policy.aggregate)
        remarks = {
            "silent": all(self.silent[chosen]),
            CERTIFIED: any(certified for _, certified in self.answers[chosen]),
        }
        result = Result(
            self.trial,
            (float(logits[0]), float(logits[1])),
            self.seconds,
            flags=tuple(name for name, holds in remarks.items() if holds),
            sha256=self.sha256,
            window_scores=None if window_policy.hop is None else tuple(map(float, answers[:, 1])),
        )
        # A gap is infinite where pools have one node and rank nothing.
        gaps = answers[chosen, 2:].min(axis=0, initial=math.inf)
        if not len(gaps) or not np.isfinite(gaps.min()):
            return result
        return replace(result, rank_gap=float(gaps.min()), rank_gap_pool=POOLS[int(gaps.argmin())])


def _aggregated(logits: np.ndarray, aggregate: Aggregate) -> tuple[np.ndarray, slice]:
    """A clip's logits (2,) from those of its windows (n, 2), and which windows they come from."""
    match aggregate:
        case "mean":
            return logits.mean(axis=0), slice(None)
        case "median":
            return np.median(logits, axis=0), slice(None)
        case "min":
            lowest = int(logits[:, 1].argmin())
        case "first":
            lowest = 0
    return logits[lowest], slice(lowest, lowest + 1)


class _Piece(NamedTuple):
    """A window of a clip on its way through the network; none of a clip that is refused."""

    clip: DecodedTrial
    window: np.ndarray | None
    last: bool


def _groups(pieces: Iterable[_Piece], size: int, flush_every: int | None) -> Iterator[list[_Piece]]:
    """What goes through the network together: `size` windows, or clips that have none."""
    group: list[_Piece] = []
    clips = 0
    for piece in pieces:
        group.append(piece)
        clips += piece.last
        if len(group) == size or (flush_every and piece.last and clips % flush_every == 0):
            yield group
            group = []
    if group:
        yield group


class StageTimer:
    """Seconds that the thread which scores spent waiting, by what for: listing trials, decoding, the device."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("listing", "decoding", "device"), 0.0)

    @contextmanager
    def for_(self, what: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[what] += time.monotonic() - begun

    def timed(self, what: str, items: Iterable[T], *, without: str | None = None) -> Iterator[T]:
        """The same items; the time that each takes to come counts, less what is counted as `without` meanwhile."""
        iterator = iter(items)
        while True:
            begun, other = time.monotonic(), self.seconds[without] if without else 0.0
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                meanwhile = self.seconds[without] - other if without else 0.0
                self.seconds[what] += time.monotonic() - begun - meanwhile
            yield item
