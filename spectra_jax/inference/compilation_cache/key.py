"""What identifies a compiled network besides its own facts: code, versions, settings and the host."""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

import flax
import jax
import jaxlib.version
import numpy as np

import spectra_jax

# Environment variables that change what XLA, Flax or a device's plug-in does.
_VARIABLES = ("FLAX_", "NPROC", "PJRT_", "TF_", "XLA_")
# Settings of JAX that state only where and what to cache.
_CACHE_SETTINGS = ("jax_compilation_cache", "jax_persistent_cache")


def code_digest(package: Path) -> str | None:
    """SHA-256 over the names and contents of all modules below a directory.

    None where no module can be read, as in a zipped package.
    """
    digest = hashlib.sha256()
    try:
        files = {str(file.relative_to(package)): file.read_bytes() for file in package.rglob("*.py")}
    except OSError:
        return None
    for name in sorted(files):
        digest.update(f"{name} {len(files[name])}\n".encode())
        digest.update(files[name])
    return digest.hexdigest() if files else None


# Computed when this process imports the package: the files on the disk may later be those of another version.
CODE_DIGEST = code_digest(Path(spectra_jax.__file__).parent)
VERSIONS = [sys.version, jax.__version__, jaxlib.version.__version__, flax.__version__, np.__version__]


def cache_key(facts: str) -> str:
    """32 hexadecimal digits over `facts`, this package's code, versions, settings of JAX and XLA, and the host.

    Call it under the settings that the network is traced under.

    Args:
      facts: everything else that the compiled network depends on.
    """
    return hashlib.sha256(repr([facts, CODE_DIGEST, VERSIONS, host(), settings()]).encode()).hexdigest()[:32]


def host() -> list[object]:
    """This CPU, its instructions, and the number of threads: what code is compiled for besides the devices."""
    found: list[object] = [platform.machine(), os.cpu_count()]
    with suppress(AttributeError, OSError):
        found.append(len(os.sched_getaffinity(0)))
    with suppress(OSError), Path("/proc/cpuinfo").open() as file:
        first_core = itertools.takewhile(str.strip, file)
        found += [line for line in first_core if line.startswith(("model name", "flags", "Features"))]
    return found


def settings() -> list[object]:
    """The settings of JAX, XLA and Flax, without those that state where and what to cache."""
    of_jax = sorted((name, value) for name, value in jax.config.values.items() if not name.startswith(_CACHE_SETTINGS))
    variables = sorted((name, value) for name, value in os.environ.items() if name.startswith(_VARIABLES))
    return [of_jax, xla_flags(), variables]


def xla_flags() -> str:
    """The user's flags for XLA: those in `XLA_FLAGS`, or those in the file that it names."""
    flags = os.environ.get("XLA_FLAGS", "").strip()
    if flags and not flags.startswith("-"):
        with suppress(OSError, ValueError):
            return Path(flags).read_text()
    return flags
