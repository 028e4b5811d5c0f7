"""Damage files at random and decode them. Prints how many were decoded, how many were errors, and by how many MiB the
memory grew. A process of its own, which a crash of a decoder ends and whose memory can be measured.

python -m tests.programs.decode_mutants FOLDER NUMBER
"""

from __future__ import annotations

import random
import resource
import struct
import sys
from pathlib import Path

from spectra_jax import audio
from spectra_jax.data.sources import collect
from spectra_jax.errors import InputError

# Lengths and counts that a field of a header may state.
LARGE = [b"\xff\xff\xff\xff", struct.pack("<I", 2**31), struct.pack(">I", 2**31 - 1), b"\0\0\0\0", b"\x7f\xff\xff\xff"]


def mutated(original: bytes, rng: random.Random) -> bytes:
    content = bytearray(original)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        # Mostly in headers and footers.
        near = rng.choice([len(content), 128, 128, -256])
        index = rng.randrange(near) if near > 0 else max(len(content) + rng.randrange(near, 0), 0)
        match rng.randrange(6):
            case 0:
                content[index : index + 1] = rng.randbytes(1)
            case 1:
                content[index : index + 4] = rng.choice(LARGE)
            case 2:
                content[min(index, len(content) - 1)] ^= 1 << rng.randrange(8)
            case 3:
                del content[index : index + rng.randrange(1, 64)]
            case 4:
                content[index:index] = rng.randbytes(rng.randrange(1, 64))
            case 5:
                del content[max(index, 16) :]
        if not content:
            break
    return bytes(content)


def decode(file: Path) -> int:
    """The number of samples of a file, or of the clips of a dataset."""
    if file.suffix == ".parquet":
        return sum(audio.decode(trial.path, trial.content).num_samples for trial in collect([file]) if trial.content)
    return audio.decode(file, keep_seconds=5).num_samples


def main(folder: Path, number: int) -> None:
    originals = sorted(folder.glob("original.*"))
    for original in originals:
        assert decode(original) >= 4000, f"{original} is not decoded completely, undamaged as it is"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    decoded = errors = 0
    for seed in range(number):
        original = originals[seed % len(originals)]
        file = folder / f"mutated{original.suffix}"
        file.write_bytes(mutated(original.read_bytes(), random.Random(seed)))
        try:
            decode(file)
            decoded += 1
        except (audio.AudioError, InputError) as error:
            assert str(error), seed
            errors += 1
        except Exception as error:
            raise SystemExit(f"seed {seed}, {original.suffix}: {type(error).__name__}: {error}") from error
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    sys.stdout.write(f"{decoded} {errors} {grown}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
