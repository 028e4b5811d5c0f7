"""What runs the network: compiled for batches of one size, its weights on the devices.

    engine = build_engine("demo", Precision.of("float32"), batch_size=8, devices=jax.local_devices())
    in_flight = engine.dispatch(windows)          # returns at once
    scores = engine.collect(windows, in_flight)   # waits

No other module of this package knows how a network is compiled and placed on devices.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Bool, Float

from spectra_jax.checkpoints.load import abstract_inference_model, with_weights
from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.devices import local_devices
from spectra_jax.errors import CompilationCacheError
from spectra_jax.inference.batch_size import total_batch_size
from spectra_jax.inference.compilation_cache import CompilationCache
from spectra_jax.inference.compilation_cache.key import xla_flags
from spectra_jax.inference.prefetch import prefetch
from spectra_jax.model.config import SpectraConfig
from spectra_jax.model.fold import fold_for_inference
from spectra_jax.model.functional import SplitModel, split
from spectra_jax.model.platform import on_devices
from spectra_jax.model.precision import Precision
from spectra_jax.model.rank_gap import GAP_BOUND
from spectra_jax.model.spectra import SpectraAASIST3, split_with_rank_gaps

# How arrays lie on a mesh of one axis: complete on each device, or each device its share of the clips.
_REPLICATED, _BY_CLIP = P(), P("clips")


class BatchScores(NamedTuple):
    """What an engine computes for the windows of a batch.

    Attributes:
      outputs: logits, spoof and bona fide, then each pool's smallest rank gap where the engine computes those.
      certified: which windows were computed again in float64.
    """

    outputs: Float[np.ndarray, "windows outputs"]
    certified: Bool[np.ndarray, " windows"]

    @property
    def logits(self) -> Float[np.ndarray, "windows 2"]:
        return self.outputs[:, :2]

    @property
    def rank_gaps(self) -> Float[np.ndarray, "windows pools"]:
        return self.outputs[:, 2:]


@runtime_checkable  # so that annotations can be checked while the tests run
class Engine(Protocol):
    """What a `Scorer` scores with: any object with these members can be set as `Scorer.engine`."""

    @property
    def model(self) -> SpectraAASIST3:
        """The network, as loaded."""

    @property
    def batch_size(self) -> int:
        """The most windows of one `dispatch`."""

    def dispatch(self, windows: Float[np.ndarray, "windows samples"]) -> Any:
        """Start computing the scores of 1 to `batch_size` windows, without waiting. What it returns is in flight."""

    def collect(self, windows: Float[np.ndarray, "windows samples"], in_flight: Any) -> BatchScores:
        """Wait for the scores of windows, given what `dispatch` returned for them."""


@dataclass(frozen=True)
class CompiledEngine:
    """A network compiled for batches of one size, its weights on the devices. See `build_engine`.

    Attributes:
      model: the network, as loaded.
      batch_size: windows of a batch, over all devices.
      params: leaves of the variables of the network folded for inference, complete on every device.
      executable: (params, windows (batch_size, num_samples)) -> outputs (batch_size, 2), or 2 + 10 with rank gaps.
      windows_sharding: each device's share of the windows.
    """

    model: SpectraAASIST3
    batch_size: int
    params: Sequence[jax.Array]
    executable: jax.stages.Compiled
    windows_sharding: NamedSharding

    def dispatch(self, windows: Float[np.ndarray, "windows samples"]) -> jax.Array:
        """Send windows to the devices; the outputs of a batch, still being computed."""
        missing = self.batch_size - len(windows)
        # Padded with the last clip, which is known to be finite. No row of the batch sees another.
        padded = np.concatenate([windows, np.repeat(windows[-1:], missing, axis=0)]) if missing else windows
        with _x64_mode(self.model.precision):
            placed = jax.device_put(padded.astype(np.float32, copy=False), self.windows_sharding)
            return self.executable(self.params, placed)

    def collect(self, windows: Float[np.ndarray, "windows samples"], in_flight: jax.Array) -> BatchScores:
        return BatchScores(np.asarray(in_flight)[: len(windows)], np.zeros(len(windows), bool))


class CertifyingEngine:
    """An engine that computes windows with a near tie again in float64.

    Args:
      engine: with rank gaps.
      build_exact: the engine in float64, with rank gaps; called when the first near tie is found.
    """

    def __init__(self, engine: Engine, build_exact: Callable[[], Engine]):
        self._engine = engine
        self._build_exact = build_exact
        self._exact: Engine | None = None
        self._building = Lock()

    @property
    def model(self) -> SpectraAASIST3:
        return self._engine.model

    @property
    def batch_size(self) -> int:
        return self._engine.batch_size

    def dispatch(self, windows: Float[np.ndarray, "windows samples"]) -> Any:
        return self._engine.dispatch(windows)

    def collect(self, windows: Float[np.ndarray, "windows samples"], in_flight: Any) -> BatchScores:
        scores = self._engine.collect(windows, in_flight)
        near_ties = scores.rank_gaps.min(axis=1) < GAP_BOUND
        if not near_ties.any():
            return scores
        outputs = scores.outputs.astype(np.float64)
        outputs[near_ties] = np.concatenate([again.outputs for again in run(self._exact_engine(), windows[near_ties])])
        return BatchScores(outputs, near_ties)

    def _exact_engine(self) -> Engine:
        with self._building:
            if self._exact is None:
                self._exact = self._build_exact()
            return self._exact


def run(engine: Engine, windows: Float[np.ndarray, "windows samples"]) -> list[BatchScores]:
    """The scores of any number of windows, batch by batch; the next batch is in flight while one is collected."""
    size = engine.batch_size
    batches = (windows[start : start + size] for start in range(0, len(windows), size))
    dispatched = ((batch, engine.dispatch(batch)) for batch in batches)
    return [engine.collect(batch, in_flight) for batch, in_flight in prefetch(dispatched, 1)]


def build_engine(
    source: str | Path | SpectraAASIST3,
    precision: Precision,
    *,
    batch_size: int | Literal["auto"],
    devices: Sequence[jax.Device] | None = None,
    rank_gaps: bool = False,
    num_clips: int | None = None,
    cache: CompilationCache | None = None,
) -> CompiledEngine:
    """Compile a network for its devices while its weights are read, and put them there.

    Args:
      source: what `spectra_jax.load` takes, or a loaded network.
      precision: a loaded network's own.
      batch_size: see `spectra_jax.inference.batch_size.total_batch_size`.
      devices: all of this process otherwise.
      rank_gaps: compute each pool's smallest rank gap as well.
      num_clips: how many clips there are to score, where that is known.
      cache: of executables; without one the network is compiled.

    Raises:
      CheckpointError: the weights are not those of the network.
      DevicesError: JAX cannot start its devices.
    """
    devices = list(devices or local_devices())
    checkpoint = None if isinstance(source, SpectraAASIST3) else open_checkpoint(source)
    model = source if checkpoint is None else abstract_inference_model(checkpoint.config, precision)
    assert isinstance(model, SpectraAASIST3)
    batch_size = total_batch_size(batch_size, model, precision, devices, num_clips)
    pool = ThreadPoolExecutor(1, thread_name_prefix="spectra-jax-compile")
    try:
        # These settings are the thread's own.
        with _x64_mode(precision), jax.default_device(devices[0]), on_devices(devices[0].platform):
            program = _Program(model, precision, batch_size, devices, rank_gaps)
            # A loaded network may be of a class of the caller's own, which the facts do not identify.
            compiler = _Compiler(program, None if checkpoint is None else cache)
            # Tracing holds Python's lock, and reading beside it would take many times as long. Compiling does not.
            compiling = pool.submit(compiler.load_cached() or compiler.trace())
            if checkpoint is not None:
                model = with_weights(model, checkpoint)
            folded = program.folded if checkpoint is None else fold_for_inference(model)
            params = jax.device_put(jax.tree.leaves(split(folded)[1:]), program.sharding(_REPLICATED))
            try:
                executable = compiling.result()
            except CompilationCacheError:
                executable = compiler.trace()()
    finally:
        # Without waiting, so that damaged weights and Ctrl-C are reported at once.
        pool.shutdown(wait=False)
    return_freed_memory()
    return CompiledEngine(model, batch_size, params, executable, program.sharding(_BY_CLIP))


def _x64_mode(precision: Precision) -> AbstractContextManager[Any]:
    """JAX's mode for a precision, in this thread: threads that load and score may be in different ones."""
    return jax.enable_x64(precision.name == "float64")


@dataclass(frozen=True)
class _Program:
    """A network's forward pass for batches of one size on some devices, not yet compiled.

    Attributes:
      network: not folded yet; shapes are enough.
      precision: of the network.
      batch_size: over all devices.
      devices: of one kind.
      rank_gaps: whether the outputs have each pool's smallest one.
    """

    network: SpectraAASIST3
    precision: Precision
    batch_size: int
    devices: Sequence[jax.Device]
    rank_gaps: bool

    @cached_property
    def _mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), ("clips",))

    def sharding(self, spec: P) -> NamedSharding:
        return NamedSharding(self._mesh, spec)

    @cached_property
    def folded(self) -> SpectraAASIST3:
        """The network folded for inference. Tracing needs it; loading a cached executable does not."""
        return fold_for_inference(self.network)

    @cached_property
    def _split(self) -> SplitModel:
        return (split_with_rank_gaps if self.rank_gaps else split)(self.folded)

    @cached_property
    def _arguments(self) -> tuple[list[jax.ShapeDtypeStruct], jax.ShapeDtypeStruct]:
        """Shapes of what the program takes: the leaves of the parameters, and windows."""
        windows = (self.batch_size, self.network.config.num_samples)
        replicated = self.sharding(_REPLICATED)
        return (
            [
                jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated)
                for leaf in jax.tree.leaves(self._split[1:])
            ],
            jax.ShapeDtypeStruct(windows, np.float32, sharding=self.sharding(_BY_CLIP)),
        )

    def lower(self) -> jax.stages.Lowered:
        """Trace the forward pass."""
        forward, params, rest = self._split
        tree = jax.tree.structure((params, rest))

        # Profiles show an executable under the name of its function.
        def spectra(leaves: Sequence[jax.Array], windows: jax.Array) -> jax.Array:
            logits: jax.Array = forward(*jax.tree.unflatten(tree, leaves), windows)
            return logits

        # No device needs another's clips, so nothing is exchanged: each runs the network on its own share. Checking
        # what the values vary over would therefore find nothing, and takes a fifth of the tracing.
        specs = (_REPLICATED, _BY_CLIP)
        sharded = jax.shard_map(spectra, mesh=self._mesh, in_specs=specs, out_specs=_BY_CLIP, check_vma=False)
        return jax.jit(sharded).lower(*self._arguments)

    def facts(self) -> str:
        """Everything that the executable depends on, besides code, versions, settings and the host."""
        devices = [(device.platform, device.device_kind, device.id) for device in self.devices]
        runtime = self.devices[0].client.platform_version
        config: SpectraConfig = self.network.config
        return repr((config, self.precision, self.rank_gaps, self.batch_size, devices, runtime))


class _Compiler:
    """Compiles a program, or loads it from a cache.

    Its methods are called under the settings that the program is traced under; what they return may run in any thread.
    """

    def __init__(self, program: _Program, cache: CompilationCache | None):
        self._program = program
        self._cache = cache
        self._key = "" if cache is None else cache.key(program.facts())

    def load_cached(self) -> Callable[[], jax.stages.Compiled] | None:
        """What loads the cached executable or raises CompilationCacheError; None where there is none."""
        if self._cache is None:
            return None
        return self._cache.find(self._key, self._program.devices)

    def trace(self) -> Callable[[], jax.stages.Compiled]:
        """Trace the program; what compiles it, and stores the executable where there is a cache."""
        options = _compiler_options(self._program.devices[0].platform, self._program.precision)
        lowered = self._program.lower()
        if self._cache is None:
            return partial(lowered.compile, options)
        return partial(self._cache.compile, self._key, lowered, options)


def _compiler_options(platform: str, precision: Precision) -> dict[str, str | bool]:
    """For CPUs LLVM's level 2: the network compiles in 0.85 of the time that level 3 takes, and runs as fast.

    Not with narrower operands than float32: there, level 3 runs 1.08 times as fast. A level that the user chose in
    `XLA_FLAGS` is kept.
    """
    level = "xla_backend_optimization_level"
    return {level: "2"} if platform == "cpu" and not precision.is_half and level not in xla_flags() else {}


def return_freed_memory() -> None:
    """Return memory that the compiler freed to the system. glibc keeps it: 280 MB for the published network."""
    # Other C libraries have no such function.
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
