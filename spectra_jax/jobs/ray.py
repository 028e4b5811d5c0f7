"""Scoring on a Ray cluster: a stage for Ray Data, and bulk runs whose parts a cluster makes.

    import ray
    from spectra_jax.jobs.ray import SpectraScorer

    clips = ray.data.read_binary_files("s3://bucket/clips/", include_paths=True)
    scores = clips.map_batches(SpectraScorer, fn_constructor_kwargs={"model": "org/model"}, batch_format="pyarrow",
                               batch_size=64, concurrency=4, num_gpus=1)
    scores.drop_columns(["bytes"]).write_parquet("s3://bucket/scores/")

Needs the extra `ray`. Scheduling, retries and what becomes of a node that dies are Ray's business.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, Self

import pyarrow as pa

from spectra_jax import hub
from spectra_jax.data.sources import Trials
from spectra_jax.data.sources.remote import is_url
from spectra_jax.data.trial import Trial
from spectra_jax.devices import local_devices
from spectra_jax.errors import InputError, StoppedError
from spectra_jax.inference import compilation_cache as compile_cache
from spectra_jax.inference.results import Result
from spectra_jax.inference.scorer import FIRST_WINDOW, Listening, Scorer, identity
from spectra_jax.jobs import SCHEMA, BulkRun, Part, Store, stretches
from spectra_jax.jobs.parts import row
from spectra_jax.messages import count
from spectra_jax.model.precision import Precision

# What a stage adds to a clip's row: of a part's columns, those that say what came of it.
_GIVEN = ("index", "utterance_id", "source", "label", "stamp")
_ADDED = pa.schema([field for field in SCHEMA if field.name not in _GIVEN])


class SpectraScorer:
    """An actor of a Ray Data stage: loads and compiles once, then scores the batches that come.

    Columns of its input: `path`, of audio that the actor's node can read (or its URL); or `bytes`, of an audio file,
    with `path` only for what messages call it. They and all others are passed through, and `score` (higher = more bona
    fide), `logit_spoof`, `logit_bonafide`, `seconds`, `sha256`, `flags`, `error`, `smallest_rank_gap`, `rank_gap_pool`
    and `window_scores` are added, as in the parts of `spectra_jax.jobs`. Clips that cannot be scored have an `error`,
    and no score: null, or NaN where the stage is given numpy arrays.

    Args:
      model, precision, batch_size, diagnostics, certify: see `spectra_jax.Scorer`. Clips that pass through the network
        together are of one batch of the stage, which is best a multiple of `batch_size`.
      listening: which windows of a clip are scored.
    """

    def __init__(
        self,
        model: str | Path = hub.PUBLISHED,
        *,
        precision: str = "float32",
        batch_size: int = 8,
        diagnostics: bool = False,
        certify: bool = False,
        listening: Listening = FIRST_WINDOW,
    ):
        self._scorer = Scoring(str(model), precision, batch_size, diagnostics, certify).scorer()
        self._listening = listening

    def __call__(self, batch: pa.Table | Mapping[str, Any]) -> pa.Table | dict[str, Any]:
        """Score a batch: a table for a table (`batch_format="pyarrow"`), arrays for arrays.

        Raises:
          ValueError: neither a column `path` nor `bytes`.
        """
        columns = {
            name: batch[name].to_pylist() if isinstance(batch, pa.Table) else batch[name] for name in _names(batch)
        }
        if not columns:
            raise ValueError("a column `path` or `bytes` is needed, of audio files")
        number = len(next(iter(columns.values())))
        paths, contents = columns.get("path", ["audio"] * number), columns.get("bytes", [None] * number)
        trials = (
            Trial(str(place), str(path) if content is not None or is_url(path) else Path(path), content=content)
            for place, (path, content) in enumerate(zip(paths, contents, strict=True))
        )
        results = self._scorer.score_trials(trials, listening=self._listening)
        added = pa.Table.from_pylist([row(place, result) for place, result in enumerate(results)], schema=_ADDED)
        if isinstance(batch, pa.Table):
            for name in added.column_names:
                batch = batch.append_column(name, added[name])
            return batch
        return {**batch, **{name: added[name].to_numpy() for name in added.column_names}}


def _names(batch: pa.Table | Mapping[str, Any]) -> list[str]:
    there = batch.column_names if isinstance(batch, pa.Table) else batch
    return [name for name in ("path", "bytes") if name in there]


@dataclass(frozen=True)
class Scoring:
    """How the parts of a run are scored, by whoever makes them.

    Attributes:
      source: of the weights, by a name that means the same on every node.
      precision, batch_size, diagnostics, certify: see `spectra_jax.Scorer`.
    """

    source: str
    precision: str = "float32"
    batch_size: int = 8
    diagnostics: bool = False
    certify: bool = False

    def scorer(self) -> Scorer:
        """One that is loaded, on one device."""
        scorer = Scorer(
            self.source,
            precision=self.precision,
            batch_size=self.batch_size,
            devices=local_devices()[:1],
            diagnostics=self.diagnostics,
            certify=self.certify,
        )
        with compile_cache.kept(lambda _: None, local_devices()[0].platform) as kept:
            scorer.load(kept=kept)
        return scorer

    def score_trials(self, trials: Iterable[Trial], **options: Any) -> Generator[Result]:
        return self.scorer().score_trials(trials, **options)

    def identity(self) -> dict[str, Any]:
        return identity(
            self.source,
            Precision.of(self.precision),
            self.batch_size,
            diagnostics=self.diagnostics,
            certify=self.certify,
        )


@dataclass(frozen=True)
class Work:
    """What every node has to know of a run, whose store and audio it reaches by the same paths or URLs."""

    folder: str
    working_directory: str
    trials: Trials
    scoring: Scoring
    part_size: int
    listening: Listening

    @classmethod
    def of(cls, run: BulkRun) -> Self:
        if not isinstance(run.scorer, Scoring):
            raise TypeError(f"a run that a cluster makes is begun with a `Scoring`, not {run.scorer!r}")
        return cls(run.store.root, str(Path.cwd()), run.trials, run.scorer, run.part_size, run.listening)


class PartMaker:
    """An actor of a bulk run: makes the parts that it is sent, each whole or not at all."""

    def __init__(self, work: Work):
        # Relative paths mean what they meant where the command was given.
        os.chdir(work.working_directory)
        # Refuses where this node's weights are not those that the run was begun with.
        self._run = BulkRun(
            Store(work.folder),
            work.trials,
            work.scoring.scorer(),
            part_size=work.part_size,
            listening=work.listening,
            # Whether ids may be escaped was decided where the run was started.
            escape_ids=True,
        )

    def __call__(self, batch: Mapping[str, Any]) -> pa.Table:
        # What an actor that died has left is not made twice.
        missing = set(self._run.missing())
        made = [self._run.made(int(part)) for part in batch["part"] if part not in missing]
        for first, last in stretches(sorted(int(part) for part in batch["part"] if part in missing)):
            made += self._run.make(first, last)
        return pa.Table.from_pylist([asdict(part) for part in made], schema=_MADE)


_MADE = pa.schema(
    [
        ("number", pa.int64()),
        ("trials", pa.int64()),
        ("skipped", pa.int64()),
        ("spent", pa.map_(pa.string(), pa.float64())),
    ]
)
# A task for each part would have Ray's actors go through the input from its start for each.
_TASKS_AN_ACTOR = 16


class Cluster:
    """A Ray cluster that makes the parts of bulk runs.

    Args:
      address: of the cluster, as `ray.init` takes it; None for one of this machine, begun now.
      actors: how many score at a time, each with a GPU or, in a cluster without, with the CPUs of a node. As many as
        there are otherwise.

    Raises:
      InputError: no cluster answers there, or Ray is not installed.
    """

    def __init__(self, address: str | None = None, actors: int | None = None):
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise InputError("the engine `ray` needs Ray: pip install 'spectra-jax[ray]'") from error
        _require_answer(address)
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError) as error:
            raise InputError(f"{address}: no Ray cluster answers there: {_reason(error)}") from error
        finally:
            # Ray's own exits at once with the status 15.
            if current_thread() is main_thread():
                signal.signal(signal.SIGTERM, before)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        cpus = [int(node["CPU"]) for node in nodes if node.get("CPU")]
        self._resources = {"num_gpus": 1} if gpus else {"num_cpus": min(cpus, default=1)}
        self.actors = actors or gpus or len(cpus)

    def make(self, run: BulkRun) -> Iterator[Part]:
        """Have this cluster make the missing parts of a run, as they come.

        Raises:
          StoppedError: actors failed, and would again, with what they said; or parts are where nobody finds them.
        """
        import ray

        missing = run.own()
        if not missing:
            return
        # What a run says of itself is enough, and an error is handed on below.
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        ray.data.DataContext.get_current().enable_progress_bars = False
        parts = ray.data.from_items(
            [{"part": part} for part in missing], override_num_blocks=min(len(missing), _TASKS_AN_ACTOR * self.actors)
        )
        made = parts.map_batches(
            PartMaker,
            fn_constructor_args=(Work.of(run),),
            batch_size=None,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=self.actors),
            **self._resources,
        )
        try:
            for part in made.iter_rows():
                yield Part(part["number"], part["trials"], part["skipped"], dict(part["spent"]))
        except ray.exceptions.RayError as error:
            raise StoppedError(f"the cluster gave up: {_reason(error)}") from error
        if lost := set(missing) & set(run.missing()):
            raise StoppedError(
                f"{count(len(lost), 'part')} made and not to be found in {run.store.root}: it has to be a folder, or a "
                "URL, that means the same on every node"
            )


def _require_answer(address: str | None) -> None:
    """See that somebody listens at HOST:PORT: Ray itself goes on asking for minutes."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise InputError(f"{address}: no Ray cluster answers there: {error.strerror or error}") from error


def _reason(error: Exception) -> str:
    """What an actor said last: of its error's text the end, without the traceback before it."""
    _, refused, text = str(error).rpartition(f"{InputError.__name__}: ")
    return text.strip() if refused else [line for line in text.splitlines() if line.strip()][-1].strip()
