"""Scoring on a Ray cluster: a stage for Ray Data, and a cluster that scores the parts of a bulk run.

    import ray
    from spectra_jax.jobs.ray import SpectraScorer

    clips = ray.data.read_binary_files("s3://bucket/clips/", include_paths=True)
    scores = clips.map_batches(SpectraScorer, fn_constructor_kwargs={"model": "org/model"}, batch_format="pyarrow",
                               batch_size=64, concurrency=4, num_gpus=1)
    scores.drop_columns(["bytes"]).write_parquet("s3://bucket/scores/")

Needs the extra `ray`. Ray schedules the work, and repeats it when it fails or when a node dies.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, Self

import pyarrow as pa

from spectra_jax import hub
from spectra_jax.data.sources import Trials
from spectra_jax.data.sources.remote import is_url
from spectra_jax.data.trial import Trial
from spectra_jax.errors import InputError, StoppedError
from spectra_jax.inference.windows import FIRST_WINDOW, WindowPolicy
from spectra_jax.jobs.parts import SCHEMA, row
from spectra_jax.jobs.run import BulkRun, Part
from spectra_jax.jobs.scorer_options import ScorerOptions
from spectra_jax.jobs.store import Store
from spectra_jax.messages import count

# The columns of a part that describe the trial rather than its result. A stage adds the others to its rows.
_TRIAL_COLUMNS = ("index", "utterance_id", "source", "label", "stamp")
_ADDED = pa.schema([field for field in SCHEMA if field.name not in _TRIAL_COLUMNS])


class SpectraScorer:
    """An actor of a Ray Data stage: loads and compiles the network once, then scores one batch a call.

    A batch has a column `path`, of audio that the actor's node can read (or its URL); or `bytes`, of an audio file's
    content, with `path` only for messages. These and all other columns are passed through, and `score` (higher = more
    bona fide), `logit_spoof`, `logit_bonafide`, `seconds`, `sha256`, `flags`, `error`, `smallest_rank_gap`,
    `rank_gap_pool` and `window_scores` are added, as in the parts of `spectra_jax.jobs`. Clips that cannot be scored
    have an `error`, and no score: null, or NaN where the stage is given numpy arrays.

    Args:
      model, precision, batch_size, diagnostics, certify: see `spectra_jax.Scorer`. Only clips of one batch of the stage
        go through the network together, so its size is best a multiple of `batch_size`.
      window_policy: which windows of a clip are scored.
      listening: the former name of `window_policy`, accepted with a DeprecationWarning for one release.
    """

    def __init__(
        self,
        model: str | Path = hub.PUBLISHED,
        *,
        precision: str = "float32",
        batch_size: int = 8,
        diagnostics: bool = False,
        certify: bool = False,
        window_policy: WindowPolicy = FIRST_WINDOW,
        listening: WindowPolicy | None = None,
    ):
        if listening is not None:
            warnings.warn(
                "SpectraScorer(listening=...) is now window_policy=...; the old name will be removed in the next "
                "release",
                DeprecationWarning,
                stacklevel=2,
            )
            window_policy = listening
        options = ScorerOptions(
            str(model), precision, batch_size, num_devices=1, diagnostics=diagnostics, certify=certify
        )
        self._scorer = options.load()
        self._window_policy = window_policy

    def __call__(self, batch: pa.Table | Mapping[str, Any]) -> pa.Table | dict[str, Any]:
        """Score a batch.

        Returns a table if the batch is one (`batch_format="pyarrow"`), otherwise a dictionary of arrays.

        Raises:
          ValueError: neither a column `path` nor `bytes`.
        """
        results = self._scorer.score_trials(_trials_of(batch), window_policy=self._window_policy)
        added = pa.Table.from_pylist([row(index, result) for index, result in enumerate(results)], schema=_ADDED)
        if isinstance(batch, pa.Table):
            for name in added.column_names:
                batch = batch.append_column(name, added[name])
            return batch
        return {**batch, **{name: added[name].to_numpy() for name in added.column_names}}


def _trials_of(batch: pa.Table | Mapping[str, Any]) -> Iterator[Trial]:
    """One trial for each row, with the row's index as its id."""
    names = batch.column_names if isinstance(batch, pa.Table) else list(batch)
    columns = {
        name: batch[name].to_pylist() if isinstance(batch, pa.Table) else batch[name]
        for name in ("path", "bytes")
        if name in names
    }
    if not columns:
        raise ValueError("a column `path` or `bytes` is needed, of audio files")
    size = len(next(iter(columns.values())))
    paths, contents = columns.get("path", ["audio"] * size), columns.get("bytes", [None] * size)
    return (
        Trial(str(index), str(path) if content is not None or is_url(path) else Path(path), content=content)
        for index, (path, content) in enumerate(zip(paths, contents, strict=True))
    )


@dataclass(frozen=True)
class RunDescription:
    """A bulk run as its actors open it. Each node reaches its store and audio by the same paths or URLs.

    Attributes:
      folder: path or URL of the run.
      working_directory: to which relative paths refer.
      trials, scorer, part_size, window_policy: see `BulkRun`.
    """

    folder: str
    working_directory: str
    trials: Trials
    scorer: ScorerOptions
    part_size: int
    window_policy: WindowPolicy

    @classmethod
    def of(cls, run: BulkRun) -> Self:
        if not isinstance(run.scorer, ScorerOptions):
            raise TypeError(f"a run that a cluster scores takes `ScorerOptions` as its scorer, not {run.scorer!r}")
        return cls(run.store.root, str(Path.cwd()), run.trials, run.scorer, run.part_size, run.window_policy)

    def open(self) -> BulkRun:
        """Open the run in this process, and load the network.

        Raises:
          InputError: this node's weights are not those that the run was started with.
        """
        return BulkRun(
            Store(self.folder),
            self.trials,
            self.scorer.load(),
            part_size=self.part_size,
            window_policy=self.window_policy,
            # Whether ids may be escaped was decided where the run was started.
            escape_ids=True,
        )


class PartActor:
    """An actor of a bulk run: scores the parts whose numbers it is sent."""

    def __init__(self, description: RunDescription):
        # Relative paths are resolved against the directory in which the command was started.
        os.chdir(description.working_directory)
        self._run = description.open()

    def __call__(self, batch: Mapping[str, Any]) -> pa.Table:
        numbers = sorted(int(number) for number in batch["part"])
        # Parts that an actor completed before it died are not scored twice.
        missing = set(self._run.missing())
        parts = [self._run.completed(number) for number in numbers if number not in missing]
        parts += self._run.score_parts(number for number in numbers if number in missing)
        return pa.Table.from_pylist([asdict(part) for part in parts], schema=_PARTS)


_PARTS = pa.schema(
    [
        ("number", pa.int64()),
        ("trials", pa.int64()),
        ("skipped", pa.int64()),
        ("stage_seconds", pa.map_(pa.string(), pa.float64())),
    ]
)
# One task per part would make each actor read the input from its start for every part.
_TASKS_AN_ACTOR = 16


class Cluster:
    """A Ray cluster that scores the parts of bulk runs.

    Args:
      address: of the cluster, as `ray.init` takes it; None to start one on this machine.
      actors: how many score at a time, each with a GPU or, in a cluster without GPUs, with the CPUs of a node. None for
        as many as the cluster has GPUs, or else nodes.

    Raises:
      InputError: no cluster responds at the address, or Ray is not installed.
    """

    def __init__(self, address: str | None = None, actors: int | None = None):
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise InputError("the engine `ray` needs Ray: pip install 'spectra-jax[ray]'") from error
        _check_connection(address)
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError) as error:
            raise InputError(f"{address}: no Ray cluster responds at this address: {_reason(error)}") from error
        finally:
            # Ray's own handler exits at once with the status 15.
            if current_thread() is main_thread():
                signal.signal(signal.SIGTERM, before)
        nodes = _node_resources()
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        cpus = [int(node["CPU"]) for node in nodes if node.get("CPU")]
        self._num_gpus = 1 if gpus else None
        self._num_cpus = None if gpus else min(cpus, default=1)
        self.actors = actors or gpus or len(cpus)

    def score_parts(self, run: BulkRun) -> Iterator[Part]:
        """Score the pending parts of a run, and yield them in the order in which they are completed.

        Raises:
          StoppedError: actors failed, and would fail again; or parts are not found in the run's folder afterwards.
        """
        import ray

        pending = run.pending()
        if not pending:
            return
        # The run reports its progress itself, and errors are passed on below.
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        ray.data.DataContext.get_current().enable_progress_bars = False
        numbers = ray.data.from_items(
            [{"part": part} for part in pending], override_num_blocks=min(len(pending), _TASKS_AN_ACTOR * self.actors)
        )
        scored = numbers.map_batches(
            PartActor,
            fn_constructor_args=(RunDescription.of(run),),
            batch_size=None,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=self.actors),
            num_cpus=self._num_cpus,
            num_gpus=self._num_gpus,
        )
        try:
            for part in scored.iter_rows():
                yield Part(part["number"], part["trials"], part["skipped"], dict(part["stage_seconds"]))
        except ray.exceptions.RayError as error:
            raise StoppedError(f"the cluster gave up: {_reason(error)}") from error
        if lost := set(pending) & set(run.missing()):
            raise StoppedError(
                f"{count(len(lost), 'part')} scored, but not in {run.store.root}: every node must reach the run's "
                "folder under this path or URL"
            )


def _node_resources() -> list[dict[str, float]]:
    """What each living node of the cluster has, such as "CPU" and "GPU"."""
    import ray

    nodes = ray.nodes()  # type: ignore[no-untyped-call, unused-ignore]
    return [node["Resources"] for node in nodes if node["Alive"]]


def _check_connection(address: str | None) -> None:
    """Raise unless HOST:PORT accepts connections: Ray itself keeps trying for minutes.

    Raises:
      InputError: HOST:PORT accepts no connection.
    """
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"{address}: no Ray cluster responds at this address: {reason}") from error


def _reason(error: Exception) -> str:
    """The last line of an actor's error, or the complete message of an InputError, without the traceback before it."""
    _, refused, text = str(error).rpartition(f"{InputError.__name__}: ")
    return text.strip() if refused else [line for line in text.splitlines() if line.strip()][-1].strip()
