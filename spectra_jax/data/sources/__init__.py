"""Where trials come from: audio files, folders, patterns, manifests, datasets, tar shards, a list on standard input.

    trials = collect(["clip.flac", "corpus/", "more/**/*.wav", "trials.csv", "shard-{000..099}.tar", "s3://bucket/speech/"])
    len(trials), trials.digest
    for trial in trials.iterate(1000): ...

| module | sources |
| --- | --- |
| `inputs` | `collect`: which source reads an input |
| `trials` | `Trials`: those of several sources, each with an id of its own |
| `files` | audio files, folders, glob patterns |
| `manifests` | tables with a column `path`, and lists of paths on standard input |
| `remote` | URLs |
| `webdataset` | tar shards, which `tar` reads strictly |
| `arena` | datasets in the Arena's parquet layout |

No audio is decoded here. Errors that only decoding can find (a missing file that a manifest lists, a file without
audio) are found by the decoding, and cost one trial each.
"""

from __future__ import annotations

from spectra_jax.data.sources.files import AUDIO_SUFFIXES, IdRule
from spectra_jax.data.sources.inputs import collect, open_source
from spectra_jax.data.sources.skipped import SkippedInputs
from spectra_jax.data.sources.source import InMemory, Source
from spectra_jax.data.sources.trials import Trials

__all__ = ["AUDIO_SUFFIXES", "IdRule", "InMemory", "SkippedInputs", "Source", "Trials", "collect", "open_source"]
