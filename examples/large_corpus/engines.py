"""Spoof clips of the text-to-speech engines of `engines.toml`.

Every engine comes from packages of the table. Debian's are unpacked and run where they lie; they need the shared
libraries of ALSA and PulseAudio (`apt-get install libasound2 libpulse0`). Python engines run in a scratch environment,
as they need other versions of NumPy than the project. A clip passes through the same chain as a recording.
"""

from __future__ import annotations

import ctypes.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import soundfile as sf

from examples.large_corpus import chain
from examples.large_corpus.chain import ChainError
from examples.large_corpus.copies import read_prepared
from examples.large_corpus.manifest import Clip, clip_row, split_of_clip
from examples.large_corpus.packages import DEFAULT_CACHE, Package, read_packages, unpack_package

FOLDER = Path(__file__).parent
TABLE = FOLDER / "engines.toml"
TEXTS = FOLDER / "texts.toml"
WORKER = FOLDER / "engine_worker.py"
REQUIREMENTS = FOLDER / "engines_requirements.txt"
GNUSPEECH = FOLDER / "gnuspeech.mjs"
SANOTTS = FOLDER / "sanotts.mjs"

FESTIVAL_ENCODINGS = {"it": "latin-1", "fi": "latin-1", "ca": "latin-1", "cs": "iso-8859-2", "en": "ascii"}
ESPEAK_RATE = 165  # words in a minute at speed 1
JOINED_SHARE = 0.5  # of the sounds, as of the recordings, which are often joined from prompts of one word
WORD = 0.7  # seconds of a joined piece
MOST_JOINED = 6
CANNOT_START = 127  # exit status of the dynamic linker where a shared library is missing
LOUDEST_FLAT = 0.02  # share of samples at the greatest magnitude above which a sound counts as clipped


class EngineError(Exception):
    """An engine could not be prepared or did not speak."""


@dataclass(frozen=True)
class Voice:
    """One voice of an engine.

    Attributes:
        name: Part of the speaker's identifier.
        clips: How many sentences the voice reads.
        texts: Key of the sentences in texts.toml; the language of the voice.
        first: Number of the first sentence; after the last one comes the first again.
        voice: Name of the voice in the engine, if it is not `name`.
        language: Language in the notation of the engine, where it asks for one.
        source: Speaker whose sounds a vocoder takes, instead of sentences.
        license: Licence of the voice, if it is not the engine's.
        options: Settings of the engine, used in turn.
    """

    name: str
    clips: int
    texts: str = ""
    first: int = 0
    voice: str = ""
    language: str = ""
    source: str = ""
    license: str = ""
    options: Sequence[Mapping[str, float]] = field(default_factory=lambda: [{}])


@dataclass(frozen=True)
class Engine:
    """One text-to-speech engine.

    Attributes:
        name: Identifier; the attack in the manifest.
        kind: `neural` or `classic`.
        family: What kind of synthesis it is.
        runner: Key of `RUNNERS`.
        split: `train`, of which every sixth clip is in dev, or `eval`.
        license: Licence of the voices, as an SPDX expression.
        packages: Names of the packages it needs.
        voices: Its voices.
        copies_recordings: For a vocoder, which half of the recordings of the training speakers it copies, too: `first`
            or `second`.
    """

    name: str
    kind: str
    family: str
    runner: str
    split: str
    license: str
    packages: tuple[str, ...]
    voices: tuple[Voice, ...]
    copies_recordings: str = ""


@dataclass(frozen=True)
class Job:
    """One sound that an engine is to make.

    Attributes:
        utterance_id: Identifier of the clip.
        engine: Engine that speaks.
        voice: Voice that it speaks with.
        number: Number of the clip among those of the voice.
        text: Sentence; empty for a vocoder.
        out: Path of the sound file.
        options: Settings of the engine.
        source: Path of the sound that a vocoder copies.
    """

    utterance_id: str
    engine: Engine
    voice: Voice
    number: int
    text: str
    out: Path
    options: Mapping[str, float] = field(default_factory=dict)
    source: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """The job for a program of another environment."""
        entry: dict[str, Any] = {"engine": self.engine.name, "text": self.text, "out": str(self.out), **self.options}
        entry |= {"voice": self.voice.voice or self.voice.name, "language": self.voice.language}
        if self.source:
            entry["source"] = str(self.source)
        return entry


@dataclass(frozen=True)
class Workshop:
    """Where engines are prepared and sounds are written.

    Attributes:
        work: Folder of the corpus's intermediate files.
        cache: Folder of downloaded packages.
        packages: Packages of the table by name.
    """

    work: Path
    cache: Path
    packages: Mapping[str, Package]

    @property
    def raw(self) -> Path:
        """Folder of the sounds as the engines made them."""
        return self.work / "raw"

    def unpack(self, engine: Engine) -> list[Path]:
        """Folders of the engine's unpacked packages, in the order of the table."""
        return [unpack_package(self.packages[name], self.cache).resolve() for name in engine.packages]


def speaker_name(name: str) -> str:
    """Identifier of a voice in the manifest: letters, digits, hyphens and underscores alone."""
    return name.replace("+", "-").replace("@", "-")


def clip_name(speaker: str, number: int) -> str:
    """Identifier of a clip of a voice."""
    return f"{speaker_name(speaker)}_{number:02d}"


def read_engines(table: Path = TABLE) -> list[Engine]:
    """Engines of a TOML file, in its order.

    Raises:
        EngineError: An engine names a package, a runner or sentences that do not exist.
    """
    packages, texts = read_packages(table), read_texts()
    engines = []
    for entry in tomllib.loads(table.read_text(encoding="utf-8"))["engine"]:
        voices = tuple(Voice(**voice) for voice in entry["voices"])
        engine = Engine(**{**entry, "packages": tuple(entry["packages"]), "voices": voices})
        missing = [name for name in engine.packages if name not in packages]
        missing += [voice.texts for voice in voices if not voice.source and voice.texts not in texts]
        missing += [engine.runner] if engine.runner not in RUNNERS else []
        if missing:
            raise EngineError(f"{table}: {engine.name} names {', '.join(missing)}, which the table does not have")
        engines.append(engine)
    return engines


def read_texts(path: Path = TEXTS) -> dict[str, list[str]]:
    """Sentences by language."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def plan_jobs(engine: Engine, texts: Mapping[str, Sequence[str]], raw: Path) -> list[Job]:
    """Every sound of an engine."""
    jobs = []
    for voice in engine.voices:
        speaker = f"{engine.name}_{voice.name}"
        for number in range(voice.clips):
            sentences = texts.get(voice.texts, ())
            text = sentences[(voice.first + number) % len(sentences)] if sentences else ""
            name = clip_name(speaker, number)
            options = voice.options[number % len(voice.options)]
            source = (raw / f"{clip_name(voice.source, number)}.wav").resolve() if voice.source else None
            jobs.append(Job(name, engine, voice, number, text, (raw / f"{name}.wav").resolve(), options, source))
    return jobs


def run_program(command: Sequence[str], **settings: Any) -> None:
    """Run a program and report what it writes to its standard error if it fails.

    Raises:
        EngineError: The program does not exist or cannot start.
    """
    try:
        result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **settings)
    except FileNotFoundError as error:
        raise EngineError(f"{command[0]} is not installed; install it and try again") from error
    lines = result.stderr.decode(errors="replace").strip().splitlines()
    if result.returncode == CANNOT_START:
        raise EngineError(f"{command[0]} cannot start ({lines[-1] if lines else 'no message'})")
    if result.returncode:
        print(f"{Path(command[0]).name} exited with {result.returncode}:", *lines[-8:], sep="\n  ", file=sys.stderr)


def library_path(folders: Sequence[Path]) -> dict[str, str]:
    """Environment in which programs find the shared libraries of unpacked Debian packages."""
    found = sorted({str(path.parent) for folder in folders for path in folder.glob("usr/lib/*/lib*.so*")})
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(found)}


def missing_programs() -> list[str]:
    """What the engines need of the machine and it lacks, with the Debian package or the name of each."""
    programs = [name for name in ("apt-get", "dpkg-deb", "node", "npm") if not shutil.which(name)]
    libraries = {"asound": "libasound2", "pulse-simple": "libpulse0"}
    return programs + [package for name, package in libraries.items() if not ctypes.util.find_library(name)]


def find_file(folders: Sequence[Path], pattern: str) -> Path:
    """The one path below the folders that matches.

    Raises:
        EngineError: None matches.
    """
    for folder in folders:
        for path in sorted(folder.glob(pattern)):
            return path
    raise EngineError(f"no unpacked package has {pattern}; delete the folder of unpacked packages and try again")


def speak_espeak(jobs: Sequence[Job], workshop: Workshop) -> None:
    """eSpeak NG: one call for each sentence."""
    folders = workshop.unpack(jobs[0].engine)
    program = find_file(folders, "usr/bin/espeak-ng")
    data = find_file(folders, "usr/lib/*/espeak-ng-data").parent
    for job in jobs:
        rate = str(round(ESPEAK_RATE * job.options.get("speed", 1.0)))
        command = [str(program), f"--path={data}", "-v", job.voice.name, "-s", rate, "-w", str(job.out), "--stdin"]
        run_program(command, input=job.text.encode(), env=library_path(folders))


def merge_festival(folders: Sequence[Path], target: Path) -> Path:
    """Copy Festival's library, its lexicons and its voices into one folder, as they lie after an installation.

    Scripts that name the folder of an installation name this one instead.
    """
    if not target.exists():
        unfinished = target.with_name(target.name + ".partial")
        shutil.rmtree(unfinished, ignore_errors=True)
        for folder in folders:
            for source in (folder / "usr/share/festival", folder / "usr/lib/festival"):
                if source.exists():
                    # Voices of one package link to files of another.
                    shutil.copytree(source, unfinished, dirs_exist_ok=True, symlinks=True)
        for script in unfinished.rglob("*.scm"):
            if script.is_symlink():  # to a file of this folder, or to one of the machine, which stays as it is
                continue
            script.write_bytes(script.read_bytes().replace(b"/usr/share/festival", str(target).encode()))
        unfinished.rename(target)
    return target


def festival_script(jobs: Sequence[Job]) -> bytes:
    """Scheme program that speaks sentences of one voice."""
    voice = jobs[0].voice
    encoding = FESTIVAL_ENCODINGS.get(voice.texts, "utf-8")
    lines = [f"(voice_{voice.voice})"]
    for job in jobs:
        text = job.text.replace("\\", "").replace('"', "")
        stretch = 1 / job.options.get("speed", 1.0)
        lines.append(f"(Parameter.set 'Duration_Stretch {stretch:.3f})")
        lines.append(f'(utt.save.wave (utt.synth (Utterance Text "{text}")) "{job.out}" \'riff)')
    return "\n".join(lines).encode(encoding, errors="replace")


def speak_festival(jobs: Sequence[Job], workshop: Workshop) -> None:
    """Festival: one call for each voice."""
    engine = jobs[0].engine
    folders = workshop.unpack(engine)
    program = find_file(folders, "usr/bin/festival")
    library = merge_festival(folders, (workshop.work / f"{engine.name}-library").resolve())
    script = workshop.work / "festival.scm"
    for voice in engine.voices:
        spoken = [job for job in jobs if job.voice is voice]
        if not spoken:  # an earlier run wrote all sounds of this voice
            continue
        script.write_bytes(festival_script(spoken))
        command = [str(program), "--datadir", str(library), "--libdir", str(library), "-b", str(script)]
        run_program(command, env=library_path(folders))


def speak_openjtalk(jobs: Sequence[Job], workshop: Workshop) -> None:
    """Open JTalk: one call for each sentence."""
    folders = workshop.unpack(jobs[0].engine)
    program = find_file(folders, "usr/bin/open_jtalk")
    dictionary = find_file(folders, "var/lib/mecab/dic/open-jtalk/naist-jdic")
    model = find_file(folders, "pyopenjtalk/htsvoice/mei_normal.htsvoice")
    for job in jobs:
        command = [str(program), "-x", str(dictionary), "-m", str(model), "-ow", str(job.out)]
        command += ["-r", str(job.options.get("speed", 1.0)), "-fm", str(job.options.get("semitones", 0.0))]
        run_program(command, input=job.text.encode(), env=library_path(folders))


def speak_with_node(
    jobs: Sequence[Job], workshop: Workshop, *, script: Path, modules: Sequence[str], main: str
) -> None:
    """Engines that are compiled to WebAssembly: one call of Node.js for each.

    Args:
        jobs: Of one engine.
        workshop: Where the engine is prepared.
        script: Program that is called with the path of `main` and the jobs.
        modules: Names under which the engine's packages import each other, in their order.
        main: File of the engine's module, below the folder of modules.
    """
    folder = workshop.work / jobs[0].engine.name / "node_modules"
    for name, package in zip(modules, workshop.unpack(jobs[0].engine), strict=True):
        shutil.copytree(package / "package", folder / name, dirs_exist_ok=True)
    run_program(["node", str(script), str(folder / main), str(write_jobs(jobs, workshop))])


def write_jobs(jobs: Sequence[Job], workshop: Workshop) -> Path:
    """File with the jobs for a program of another environment."""
    path = workshop.work / f"{jobs[0].engine.name}-jobs.json"
    entries = [job.to_dict() for job in jobs]
    path.write_text(json.dumps(entries, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def prepare_environment(workshop: Workshop) -> Path:
    """Python of the scratch environment, created at the first call.

    Raises:
        EngineError: It could not be created.
    """
    folder = (workshop.work / "venv-engines").resolve()
    python = folder / "bin" / "python"
    finished = folder / "finished"
    if not finished.exists():
        shutil.rmtree(folder, ignore_errors=True)
        run_program([sys.executable, "-m", "venv", str(folder)])
        run_program([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(REQUIREMENTS)])
        if subprocess.run([str(python), "-c", "import onnxruntime, tensorflow, torch"], capture_output=True).returncode:
            raise EngineError(f"{folder}: pip could not install {REQUIREMENTS}; see its message above, then try again")
        finished.touch()
    return python


def speak_with_worker(jobs: Sequence[Job], workshop: Workshop) -> None:
    """Engines of `engine_worker.py`: one call for each engine."""
    python = prepare_environment(workshop)
    folders = workshop.unpack(jobs[0].engine)
    environment = {**os.environ, "PYTHONPATH": ":".join(map(str, folders)), "PYTHONHASHSEED": "0"}
    run_program([str(python), str(WORKER), str(write_jobs(jobs, workshop))], env=environment)


RUNNERS: dict[str, Callable[[Sequence[Job], Workshop], None]] = {
    "espeak": speak_espeak,
    "festival": speak_festival,
    "openjtalk": speak_openjtalk,
    "gnuspeech": partial(
        speak_with_node,
        script=GNUSPEECH,
        modules=("gnuspeech", "wasm-heap-manager"),
        main="gnuspeech/dist/exports/GnuSpeech.js",
    ),
    "sanotts": partial(speak_with_node, script=SANOTTS, modules=("pi-sano-tts", "eld"), main="pi-sano-tts/engine.js"),
    "worker": speak_with_worker,
}


def speak_jobs(jobs: Sequence[Job], workshop: Workshop) -> None:
    """Make the sounds of one engine's jobs that do not exist from an earlier run."""
    workshop.raw.mkdir(parents=True, exist_ok=True)
    missing = [job for job in jobs if not job.out.exists()]
    if missing:
        RUNNERS[missing[0].engine.runner](missing, workshop)


def join_as_recordings(samples: chain.Samples, utterance_id: str) -> chain.Samples:
    """Speech (n,) as it is, or, for `JOINED_SHARE` of the identifiers, its words with gaps between them.

    Many recordings are of one word and are joined by `chain.join_prompts`. Without the same gaps in synthetic speech, a
    detector would learn the gaps.
    """
    if chain.random_generator(utterance_id, "join").random() >= JOINED_SHARE:
        return samples
    words = chain.cut_at_pauses(chain.trim_speech(chain.band_pass(samples)), WORD, search=0.3)
    return chain.join_prompts(words[:MOST_JOINED])


def check_sound(samples: chain.Samples, name: str) -> None:
    """Raise unless a sound is speech-like.

    Raises:
        ChainError: It is silent, clipped, or much longer than a sentence.
    """
    if not samples.any():
        raise ChainError(f"{name}: it is silent")
    peak = abs(samples).max()
    if (abs(samples) >= 0.999 * peak).mean() > LOUDEST_FLAT:
        raise ChainError(f"{name}: it is clipped")
    if len(samples) > 12 * chain.RATE:
        raise ChainError(f"{name}: it lasts {len(samples) / chain.RATE:.1f} s; the engine did not stop")


def read_sound(job: Job) -> chain.Samples:
    """Sound of a job.

    Raises:
        ChainError: The engine wrote none, or `check_sound` does not accept it.
    """
    if not job.out.exists():
        raise ChainError(f"{job.utterance_id}: the engine wrote no sound")
    samples = chain.decode_file(job.out)
    check_sound(samples, job.utterance_id)
    return samples


def describe_source(engine: Engine, packages: Mapping[str, Package]) -> str:
    """Name and version of the package that holds the engine's program or model."""
    package = packages[engine.packages[-1] if engine.runner == "worker" else engine.packages[0]]
    return f"{package.name} {package.version}"


def write_engine(engine: Engine, workshop: Workshop, output: Path) -> Iterator[Clip]:
    """Write the clips of one engine; yields their rows and reports the sounds that are dropped."""
    jobs = plan_jobs(engine, read_texts(), workshop.raw)
    speak_jobs(jobs, workshop)
    for job in jobs:
        try:
            samples = join_as_recordings(read_sound(job), job.utterance_id)
            clip = chain.finish_clip(chain.prepare_speech(samples, job.utterance_id), job.utterance_id)
        except ChainError as error:
            print(f"dropped {error}", file=sys.stderr)
            continue
        split = split_of_clip(engine.split, job.number)
        path = output / split / f"{job.utterance_id}.flac"
        chain.write_clip(path, clip)
        yield clip_row(
            job.utterance_id,
            path,
            split,
            label="spoof",
            speaker=speaker_name(f"{engine.name}_{job.voice.name}"),
            attack=engine.name,
            pair="",
            source=describe_source(engine, workshop.packages),
            seconds=len(clip) / chain.RATE,
            license=job.voice.license or engine.license,
        )


def plan_copies(engine: Engine, people: Iterable[Clip], workshop: Workshop) -> list[tuple[Job, Clip]]:
    """Copies of half of the recordings of the training speakers by a neural vocoder, with the recordings' rows."""
    voice = Voice("recordings", clips=0)
    plan = []
    for row in people:
        number = int(row.utterance_id.rsplit("_", 1)[1])
        # Every sixth recording is in dev: both halves have recordings of train and of dev.
        half = ("first", "second")[(number + number // 6) % 2]
        if row.split == "eval" or engine.copies_recordings != half:
            continue
        name = f"{row.utterance_id}_{engine.name}"
        source, out = ((workshop.raw / f"{stem}.wav").resolve() for stem in (f"{name}_source", name))
        plan.append((Job(name, engine, voice, number, "", out, source=source), row))
    return plan


def write_neural_copies(engine: Engine, people: Iterable[Clip], workshop: Workshop, output: Path) -> Iterator[Clip]:
    """Write the copies of recordings by a neural vocoder, with the noise of their recordings; yields their rows."""
    plan = plan_copies(engine, people, workshop)
    workshop.raw.mkdir(parents=True, exist_ok=True)
    for job, row in plan:
        if job.source and not job.source.exists():
            sf.write(job.source, read_prepared(row, output), chain.RATE, subtype="FLOAT")
    speak_jobs([job for job, _ in plan], workshop)
    for job, row in plan:
        try:
            clip = chain.finish_clip(read_sound(job), row.utterance_id)
        except ChainError as error:
            print(f"dropped {error}", file=sys.stderr)
            continue
        path = output / row.split / f"{job.utterance_id}.flac"
        chain.write_clip(path, clip)
        yield clip_row(
            job.utterance_id,
            path,
            row.split,
            label="spoof",
            speaker=row.speaker,
            attack=engine.name,
            pair=row.utterance_id,
            source=row.source,
            seconds=len(clip) / chain.RATE,
            license=row.license,
        )


def write_engines(
    output: Path,
    cache: Path = DEFAULT_CACHE,
    table: Path = TABLE,
    names: Sequence[str] = (),
    people: Sequence[Clip] = (),
) -> list[Clip]:
    """Write the clips of all engines, or of those named; returns their rows.

    Args:
        output: Folder of the corpus.
        cache: Folder of the packages.
        table: TOML file of packages and engines.
        names: Engines to run; none: all.
        people: Recordings that vocoders among the engines copy.

    Raises:
        EngineError: An engine cannot be prepared, or made no sound at all.
        PackageError: A package cannot be downloaded.
    """
    workshop = Workshop(output, cache, read_packages(table))
    rows: list[Clip] = []
    for engine in read_engines(table):
        if names and engine.name not in names:
            continue
        written = list(write_engine(engine, workshop, output))
        wanted = sum(voice.clips for voice in engine.voices)
        print(f"{engine.name}: {len(written)} of {wanted} clips", file=sys.stderr)
        if not written:
            raise EngineError(f"{engine.name} made no sound; its messages are above")
        rows += written
        if engine.copies_recordings:
            rows += write_neural_copies(engine, people, workshop, output)
    return rows
