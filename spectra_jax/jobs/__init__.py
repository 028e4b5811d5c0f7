"""Scoring runs of any size: in parts that are whole or not there, and resumed after any interruption.

    run = BulkRun("scores/", collect(["corpus/"]), Scorer("org/model"))
    for part in run: print(part)
    run.merge()

    scores/run.json                what the run is: model, precision, input, versions, command
    scores/inputs.parquet          size and modification time of each trial's file when the run was started
    scores/parts/part-000000.parquet   so many trials in input order, appearing whole or not at all
    scores/replaced/part-000000.parquet  a part that was damaged, or whose inputs changed, before it was made again
    scores/scores.txt              the Arena's score file of all parts, in input order, once all are there

What is read back has a checksum. A damaged part is made again, and so is `inputs.parquet`; a damaged `run.json` is
refused. `scores.txt` is written anew from the parts whenever the command ends.

Any number of processes can share a run, each with parts of its own and nothing to say to each other.
"""

from spectra_jax.errors import SkipLimitError
from spectra_jax.jobs.parts import SCHEMA, read_part
from spectra_jax.jobs.run import BulkRun, Part, stretches
from spectra_jax.jobs.store import Store

__all__ = ["SCHEMA", "BulkRun", "Part", "SkipLimitError", "Store", "read_part", "stretches"]
