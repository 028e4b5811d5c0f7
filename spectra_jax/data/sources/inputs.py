"""Which source reads an input that a user names."""

from __future__ import annotations

import os
from collections.abc import Sequence

from spectra_jax.data.sources import arena
from spectra_jax.data.sources.files import Files, IdRule
from spectra_jax.data.sources.manifests import SUFFIXES, Manifest, PathList
from spectra_jax.data.sources.remote import RemoteFiles, is_url, suffix
from spectra_jax.data.sources.source import Source
from spectra_jax.data.sources.trials import Trials
from spectra_jax.data.sources.webdataset import Shards, is_shards
from spectra_jax.data.trial import MAX_CLIP_BYTES
from spectra_jax.errors import InputError

_HUB_DATASETS = "hf://datasets/"


def collect(
    inputs: Sequence[str | os.PathLike[str]], *, ids: IdRule = "stem", max_clip_bytes: int = MAX_CLIP_BYTES
) -> Trials:
    """The trials of all `inputs`, in the order given.

    Each input is one of:
      - a manifest, see `spectra_jax.data.sources.manifests`: a `.csv`, `.tsv`, `.jsonl` or `.parquet` with a column
        `path`, and optionally `utterance_id` and `label`. The files that it lists need not exist.
      - a dataset in the Arena's layout: a folder with `data/test-*.parquet`, a `.parquet` file, or one of the Hub:
        `SpeechAntiSpoofingBenchmarks/NAME[@revision]` or `hf://datasets/org/name[@revision]`.
      - tar shards in WebDataset's layout, see `spectra_jax.data.sources.webdataset`: `name.tar`, or many at once as
        `name-{000..099}.tar` or `name-*.tar`.
      - any other file, whatever its extension.
      - a folder: its audio files by extension, those of its subfolders included, hidden ones excluded, sorted by path.
        Other files are counted: see `Trials.skipped_inputs`.
      - a glob pattern: the audio files by extension that it matches, sorted by path. `**` matches any number of
        folders. If a file or folder of exactly this name exists, it is taken instead.
      - a URL of any of these that fsspec knows, such as `s3://`, `gs://`, `hf://` or `https://`: see
        `spectra_jax.data.sources.remote`.
      - `-`: a path or URL a line on standard input.

    Args:
      inputs: see above; at least one.
      ids: the id of a trial without one in a manifest: the file's name without its extension, or its path as given
        (with `/` between folders; in a manifest, as written there). If files have the same name, their ids are their
        paths relative to the folder given, or otherwise their paths as given.
      max_clip_bytes: the largest clip that is read into memory, from a URL or a tar shard.

    Raises:
      InputError: an input that does not exist, matches nothing or has no audio files; a manifest that cannot be read,
        naming the line; a damaged tar shard; ids that are empty, or shared and stated by a manifest.
    """
    if not inputs:
        raise InputError("no input: give audio files, folders, glob patterns, manifests (.csv, .tsv) or datasets")
    sources = [open_source(os.fspath(one), ids, max_clip_bytes) for one in inputs]
    return Trials(sources, max_clip_bytes=max_clip_bytes)


def open_source(name: str, ids: IdRule = "stem", max_clip_bytes: int = MAX_CLIP_BYTES) -> Source:
    """The source that reads one input; arguments and errors as for `collect`."""
    if name == "-":
        return PathList.from_standard_input(ids)
    exists = os.path.exists(name)  # noqa: PTH110
    if not exists and name.startswith((_HUB_DATASETS, f"{arena.ORGANISATION}/")):
        dataset, _, revision = name.removeprefix(_HUB_DATASETS).partition("@")
        return arena.open_hub(dataset, revision or None)
    if is_shards(name):
        return Shards(name, ids, max_clip_bytes)
    if (exists or is_url(name)) and (shards := arena.find_shards(name)):
        return arena.Dataset.from_shards(name, shards)
    if suffix(name) in SUFFIXES and (is_url(name) or os.path.isfile(name)):  # noqa: PTH113
        return Manifest(name, ids)
    return RemoteFiles(name, ids) if is_url(name) else Files(name, ids)
