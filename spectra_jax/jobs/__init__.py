"""Scoring runs of any size: in parts that are complete or absent, resumed after any interruption.

    run = BulkRun(Store("scores/"), collect(["corpus/"]), Scorer("org/model"))
    for part in run: print(part)
    run.merge()

    scores/run.json                what the run is: model, precision, input, versions, command
    scores/inputs.parquet          size and modification time of each trial's file when the run was started
    scores/parts/part-000000.parquet   one part: a fixed number of trials in input order, written atomically
    scores/replaced/part-000000.parquet  a copy of a part that was damaged, or whose inputs changed, before it was
                                   written again
    scores/scores.txt              the Arena's score file of all parts, in input order, written after the last part

Each file that is read back has a checksum. A damaged part is scored again, and a damaged `inputs.parquet` is written
again; a damaged `run.json` is refused. `scores.txt` is written anew from the parts whenever the command ends.

Any number of processes can share a run. Each scores its own parts, and they do not communicate.

| module | holds |
| --- | --- |
| `run` | `BulkRun`: the trials, the scorer and the folder together; scores the missing parts |
| `record` | `run.json`: what the run is, and whether the folder belongs to it |
| `inputs` | `inputs.parquet`: which input files have changed |
| `parts` | the parquet files of the parts: written, checked, missing |
| `merge` | `scores.txt`, and the reasons of skipped trials, from all parts |
| `scoring` | scoring as results, to a file or into a run's folder, with a summary |
| `scorer_options` | the arguments of a `Scorer`, to load it in this process or on another node |
| `store` | a folder or URL whose files are written atomically |
| `checksummed` | parquet files with a checksum of all their bytes |
| `distributed` | the index of this process among those of `jax.distributed` |
| `ray` | a stage for Ray Data, and a cluster that scores the parts of a run |
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spectra_jax.errors import SkipLimitError
    from spectra_jax.jobs.parts import SCHEMA, read_part
    from spectra_jax.jobs.run import BulkRun, Part
    from spectra_jax.jobs.store import Store

__all__ = ["SCHEMA", "BulkRun", "Part", "SkipLimitError", "Store", "read_part"]

# Each public name, and the module that defines it.
_PUBLIC = {
    "SCHEMA": "spectra_jax.jobs.parts",
    "BulkRun": "spectra_jax.jobs.run",
    "Part": "spectra_jax.jobs.run",
    "SkipLimitError": "spectra_jax.errors",
    "Store": "spectra_jax.jobs.store",
    "read_part": "spectra_jax.jobs.parts",
}
# Reached as attributes too, as if they had been imported with the package.
_SUBMODULES = frozenset({"checksummed", "inputs", "merge", "parts", "record", "run", "store"})


def __getattr__(name: str) -> Any:
    # A run's files need pyarrow, which takes a tenth of a second to import. Scoring a few clips does not.
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_PUBLIC[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
