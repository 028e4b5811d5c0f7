"""Build the corpus: `python -m examples.large_corpus --output build/large_corpus`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from examples.large_corpus.copies import write_copies
from examples.large_corpus.engines import EngineError, missing_programs, write_engines
from examples.large_corpus.manifest import (
    Clip,
    check_disjoint,
    copy_small_corpus,
    read_manifest,
    write_manifest,
)
from examples.large_corpus.packages import PackageError
from examples.large_corpus.people import write_people

PARTS = ("people", "copies", "engines")


def rows_path(output: Path, part: str) -> Path:
    """Manifest of one part, from which `manifest.csv` is assembled."""
    return output / f"{part}.csv"


def read_part(output: Path, part: str) -> list[Clip]:
    """Rows of one part; none if it was not built."""
    path = rows_path(output, part)
    return read_manifest(path) if path.exists() else []


def build_part(output: Path, part: str, cache: Path, used: frozenset[str]) -> list[Clip]:
    """Write the clips of one part; returns their rows."""
    if part == "people":
        return write_people(output, used, cache)
    if part == "copies":
        return write_copies(output, read_part(output, "people"))
    return write_engines(output, cache, people=read_part(output, "people"))


def build(output: Path, parts: Sequence[str]) -> list[Clip]:
    """Build the parts and write `manifest.csv` of all parts that were built so far.

    Raises:
        ValueError: A speaker is in eval and in train or dev.
    """
    small = copy_small_corpus(output)
    used = frozenset(row.source for row in small)
    for part in parts:
        write_manifest(rows_path(output, part), build_part(output, part, output / "packages", used))
    rows = small + [row for part in PARTS for row in read_part(output, part)]
    check_disjoint(rows)
    write_manifest(output / "manifest.csv", rows)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.large_corpus", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("build/large_corpus"), help="folder of the corpus")
    parser.add_argument("--only", choices=PARTS, help="build this part alone; the manifest lists all that exist")
    options = parser.parse_args(arguments)
    parts = [options.only] if options.only else PARTS
    missing = missing_programs() if "engines" in parts else []
    if missing:
        parser.exit(2, f"{parser.prog}: this machine lacks {', '.join(missing)}; install them and try again\n")
    try:
        rows = build(options.output, parts)
    except (EngineError, PackageError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print(f"{options.output / 'manifest.csv'}: {len(rows)} clips")


if __name__ == "__main__":
    main()
