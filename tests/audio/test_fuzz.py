"""Damaged and cut clips and datasets: each is read or refused, in bounded time and memory, and nothing else."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from spectra_jax.audio import decode
from spectra_jax.errors import AudioError
from tests.arena.test_arena import SCHEMA, row

RECORDINGS = Path(__file__).parents[1] / "recordings"

# In a process of its own, which a crash of a decoder ends and whose memory can be told.
FUZZ = r"""
import random, resource, struct, sys, time
from pathlib import Path
from spectra_jax import audio
from spectra_jax.data.sources import collect
from spectra_jax.errors import InputError

folder, number = Path(sys.argv[1]), int(sys.argv[2])
originals = sorted(folder.glob("original.*"))
# What a field of a header may promise.
LARGE = [b"\xff\xff\xff\xff", struct.pack("<I", 2**31), struct.pack(">I", 2**31 - 1), b"\0\0\0\0", b"\x7f\xff\xff\xff"]

def mutated(data, random):
    data = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 8, 64])):
        # Headers and footers are where the damage is done.
        near = random.choice([len(data), 128, 128, -256])
        place = random.randrange(near) if near > 0 else max(len(data) + random.randrange(near, 0), 0)
        match random.randrange(6):
            case 0: data[place : place + 1] = random.randbytes(1)
            case 1: data[place : place + 4] = random.choice(LARGE)
            case 2: data[min(place, len(data) - 1)] ^= 1 << random.randrange(8)
            case 3: del data[place : place + random.randrange(1, 64)]
            case 4: data[place:place] = random.randbytes(random.randrange(1, 64))
            case 5: del data[max(place, 16) :]
        if not data:
            break
    return bytes(data)

def attempt(file):
    if file.suffix == ".parquet":
        return [trial.content and audio.decode(trial.path, trial.content) for trial in collect([file])]
    return audio.decode(file, keep_seconds=5)

for original in originals:
    attempt(original)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
outcomes, slowest = {"read": 0, "refused": 0}, (0.0, None)
for seed in range(number):
    original = originals[seed % len(originals)]
    file = folder / f"mutated{original.suffix}"
    file.write_bytes(mutated(original.read_bytes(), random.Random(seed)))
    begun = time.monotonic()
    try:
        attempt(file)
        outcomes["read"] += 1
    except (audio.AudioError, InputError) as error:
        assert str(error), seed
        outcomes["refused"] += 1
    except Exception as error:
        raise SystemExit(f"seed {seed}, {original.suffix}: {type(error).__name__}: {error}")
    slowest = max(slowest, (time.monotonic() - begun, seed))
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(outcomes["read"], outcomes["refused"], slowest[0], slowest[1], grown)
"""
NUMBER = 2000


def test_two_thousand_mutants(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=8000) * 0.1
    for suffix in ("wav", "flac", "ogg", "mp3", "caf", "w64", "aiff"):
        soundfile.write(tmp_path / f"original.{suffix}", noise, 16000)
    for name in ("fragmented.mp4", "voice_memo.m4a", "live.webm", "old.wma", "short.amr", "adts_named.mp3", "alac.caf"):
        shutil.copy(RECORDINGS / name, tmp_path / f"original.{name}")
    clips = [(tmp_path / f"original.{suffix}").read_bytes() for suffix in ("flac", "wav")]
    rows = [row(place, audio={"bytes": clip, "path": ""}) for place, clip in enumerate(clips)]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), tmp_path / "original.parquet")
    run = subprocess.run(
        [sys.executable, "-c", FUZZ, tmp_path, str(NUMBER)], capture_output=True, text=True, timeout=900
    )
    assert run.returncode == 0, run.stderr[-3000:]
    read, refused, slowest, _, grown = map(float, run.stdout.split())
    assert read + refused == NUMBER
    assert min(read, refused) > NUMBER / 10, "nearly all were read, or nearly all refused, so the damage was no test"
    # Half a second of audio takes milliseconds; a hang takes until the timeout.
    assert slowest < 20
    # Blocks of a megasample, at most 1024 channels: 4 MB each as decoded, and pyarrow's own.
    assert grown < 200


def test_a_header_that_promises_two_thousand_million_frames_is_not_believed(tmp_path: Path) -> None:
    """Nor are there so many samples: what there is is heard, or the clip is refused as cut short."""
    soundfile.write(tmp_path / "a.wav", np.zeros(1000), 16000, subtype="PCM_16")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = (2**31 - 2**20).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    measure = (
        "import resource, sys; from spectra_jax import audio\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: audio.decode(sys.argv[1])\n"
        "except audio.AudioError as error: print(error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    )
    run = subprocess.run(
        [sys.executable, "-c", measure, tmp_path / "a.wav"], capture_output=True, text=True, check=True
    )
    reason, grown = run.stdout.splitlines()
    assert "cut short: 2,000 of the 2,146,435,072 bytes" in reason
    assert float(grown) < 50


# Where a container cannot tell that its end is missing, and how many of the cuts below it may let pass: at the end of a
# sample in one that states no length, of a frame in a stream of frames, of a fragment, or of a page without a mark.
CANNOT_TELL = {"PAF", "PVF", "IRCAM"}
AT_FRAMES = {
    "short.gsm": 8,
    "short.amr": 8,
    "adts_named.mp3": 3,
    "vbr_noxing.mp3": 3,
    "cat_mp3.mp3": 3,
    "fragmented.mp4": 2,
}
# Kinds of data and of instruments that are not decoded here.
NOT_DECODED = {"MAT4", "MAT5", "MPC2K", "RAW", "SD2", "SDS", "WVE", "XI"}


def cuts(content: bytes) -> list[int]:
    """Where to cut: near both ends, where headers and trailers are, and here and there."""
    size = len(content)
    inside = np.random.default_rng(0).integers(1, size, 40)
    return sorted(
        {*range(1, min(100, size), 7), *map(int, inside), *(size - k for k in (1, 2, 3, 4, 8, 44, 512) if k < size)}
    )


def passed(content: bytes) -> list[int]:
    """The cuts at which a part of a recording is taken for a whole one."""
    whole = decode("whole", content).num_samples
    found = []
    for cut in cuts(content):
        try:
            decoded = decode("cut", content[:cut])
        except AudioError:
            continue
        if decoded.num_samples < whole:
            found.append(cut)
    return found


@pytest.mark.parametrize("container", sorted(set(soundfile.available_formats()) - NOT_DECODED))
def test_no_part_of_a_recording_is_taken_for_the_whole(container: str) -> None:
    noise = np.random.default_rng(0).normal(size=3000) * 0.1
    for subtype in soundfile.available_subtypes(container):
        file = io.BytesIO()
        try:
            soundfile.write(file, noise, 16000, format=container, subtype=subtype)
        except soundfile.LibsndfileError:
            continue  # Named, but not written.
        if container in CANNOT_TELL:
            assert decode("whole", file.getvalue()).num_samples == 3000
        else:
            assert passed(file.getvalue()) == [], subtype


@pytest.mark.parametrize("name", sorted(path.name for path in RECORDINGS.iterdir() if path.suffix != ".md"))
def test_no_part_of_a_compressed_recording_is_taken_for_the_whole(name: str) -> None:
    assert len(passed((RECORDINGS / name).read_bytes())) <= AT_FRAMES.get(name, 0)
