"""Bona fide clips of the people of `sources.toml`.

A clip comes from one recording of 1.3 s or more, from a piece of a long recording, or, where prompts are words, from
several prompts of the same person with 150 ms between them. Noisy recordings are left out.
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from examples.large_corpus import chain
from examples.large_corpus.chain import ChainError, Samples
from examples.large_corpus.manifest import Clip, clip_row, split_of_clip
from examples.large_corpus.packages import DEFAULT_CACHE, Package, PackageError, read_packages, unpack_package

SOURCES = Path(__file__).with_name("sources.toml")
LEAST_SNR = 28.0  # dB between the active level and the quietest frames of a recording
JOINED = (1.8, 3.6)  # seconds of joined prompts
MOST_JOINED = 6
LONG = 6.0  # seconds above which a recording is cut into pieces
PIECE = 4.5  # seconds of a piece


@dataclass(frozen=True)
class Person:
    """One speaker of the corpus and where the recordings lie.

    Attributes:
        speaker: Identifier in the manifest.
        package: Name of the package.
        language: ISO 639 code.
        sex: `f`, `m`, or `child`.
        split: `train`, whose clips are shared between train and dev, or `eval`.
        name: Whom to attribute the recordings to.
        files: Pattern of the recordings' paths in the package.
        excluded: Patterns of paths that are not this person, or not speech.
        clips: Greatest number of clips.
        first: Number of the first clip; not 0 where `examples/corpus` already has clips of the speaker.
        least_snr: Noisier recordings are left out, dB.
    """

    speaker: str
    package: str
    language: str
    sex: str
    split: str
    name: str
    files: str
    excluded: tuple[str, ...] = ()
    clips: int = 30
    first: int = 0
    least_snr: float = LEAST_SNR


def read_people(table: Path = SOURCES) -> list[Person]:
    """People of a TOML file, in its order.

    Raises:
        PackageError: Two entries have one identifier, or an entry names a package that the file lacks.
    """
    entries = tomllib.loads(table.read_text(encoding="utf-8"))["person"]
    people = [Person(**{**entry, "excluded": tuple(entry.get("excluded", ()))}) for entry in entries]
    packages = read_packages(table)
    seen: set[str] = set()
    for person in people:
        if person.speaker in seen:
            raise PackageError(f"{table}: two people have the identifier {person.speaker}; rename one")
        if person.package not in packages:
            raise PackageError(f"{table}: {person.speaker} names the package {person.package}, which has no entry")
        seen.add(person.speaker)
    return people


def find_recordings(person: Person, folder: Path, used: frozenset[str] = frozenset()) -> list[Path]:
    """Recordings of a person in the unpacked package, in a random order that depends on the speaker's identifier alone.

    Args:
        person: The person.
        folder: Folder of the unpacked package.
        used: Names of files that `examples/corpus` has clips of.
    """
    found = sorted(
        path
        for path in folder.glob(person.files)
        if path.name not in used
        and not any(fnmatch.fnmatch(path.relative_to(folder).as_posix(), pattern) for pattern in person.excluded)
    )
    order = chain.random_generator(person.speaker, "order").permutation(len(found))
    return [found[index] for index in order]


def signal_to_noise(samples: Samples) -> float:
    """Active level above the quietest 3 % of the frames that are not digital silence, dB."""
    levels = chain.frame_levels(samples)
    levels = levels[levels > -100]
    return chain.active_level(samples) - float(np.percentile(levels, 3)) if len(levels) else 0.0


def read_prompts(person: Person, recordings: list[Path], folder: Path) -> Iterator[tuple[str, Samples]]:
    """Name and samples of each recording, or of each piece of a long one, that is not too noisy."""
    for path in recordings:
        name = path.relative_to(folder).as_posix()
        try:
            samples = chain.decode_file(path)
        except ChainError:
            continue  # a sample rate below 16 kHz, or no sound
        if len(samples) < chain.RATE // 5 or not np.any(samples):
            continue
        limited = chain.band_pass(samples)
        if signal_to_noise(limited) < person.least_snr:
            continue
        if len(samples) > LONG * chain.RATE:
            for number, piece in enumerate(chain.cut_at_pauses(samples, PIECE, search=0.5)):
                yield f"{name}#{number}", piece
        else:
            yield name, samples


def join_short_prompts(prompts: Iterator[tuple[str, Samples]], speaker: str) -> Iterator[tuple[str, Samples]]:
    """Prompts that are long enough for a clip; shorter ones joined, at most `MOST_JOINED` of them."""
    generator = chain.random_generator(speaker, "join")
    names: list[str] = []
    parts: list[Samples] = []
    target = generator.uniform(*JOINED)
    for name, samples in prompts:
        speech = chain.trim_speech(chain.band_pass(samples))
        if len(speech) >= chain.SHORTEST * chain.RATE:
            yield name, samples
            continue
        names.append(name)
        parts.append(samples)
        joined = chain.join_prompts(parts)
        if len(joined) >= target * chain.RATE or len(parts) == MOST_JOINED:
            yield "+".join(names), joined
            names, parts, target = [], [], generator.uniform(*JOINED)


def write_person(person: Person, package: Package, folder: Path, output: Path, used: frozenset[str]) -> list[Clip]:
    """Write the clips of one person; returns their rows."""
    rows: list[Clip] = []
    prompts = read_prompts(person, find_recordings(person, folder, used), folder)
    for source, samples in join_short_prompts(prompts, person.speaker):
        if len(rows) == person.clips:
            break
        utterance_id = f"{person.speaker}_{person.first + len(rows):02d}"
        try:
            speech = chain.prepare_speech(samples, utterance_id)
        except ChainError:
            continue  # too little speech
        split = split_of_clip(person.split, person.first + len(rows))
        clip = chain.finish_clip(speech, utterance_id)
        path = output / split / f"{utterance_id}.flac"
        chain.write_clip(path, clip)
        prepared_path = output / "prepared" / f"{utterance_id}.npy"
        prepared_path.parent.mkdir(parents=True, exist_ok=True)
        np.save(prepared_path, speech.astype(np.float32))
        rows.append(
            clip_row(
                utterance_id,
                path,
                split,
                label="bonafide",
                speaker=person.speaker,
                attack="-",
                pair="",
                source=shorten_source(source),
                seconds=len(clip) / chain.RATE,
                license=package.license,
            )
        )
    return rows


def shorten_source(source: str) -> str:
    """Names of joined recordings without their folders."""
    return "+".join(name.rsplit("/", 1)[-1] for name in source.split("+"))


def write_people(output: Path, used: frozenset[str], cache: Path = DEFAULT_CACHE, table: Path = SOURCES) -> list[Clip]:
    """Write the clips of all people; returns their rows.

    Args:
        output: Folder of the corpus.
        used: Names of files that `examples/corpus` has clips of.
        cache: Folder of the packages.
        table: TOML file of packages and people.
    """
    packages = read_packages(table)
    rows: list[Clip] = []
    for person in read_people(table):
        package = packages[person.package]
        clips = write_person(person, package, unpack_package(package, cache), output, used)
        print(f"{person.speaker}: {len(clips)} clips", flush=True)
        rows += clips
    return rows
