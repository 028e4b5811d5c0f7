"""Decode a file. Prints the error, if there is one, and by how many MiB the memory grew.

python -m tests.programs.decode_memory FILE
"""

from __future__ import annotations

import resource
import sys

from spectra_jax import audio

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    sys.stdout.write(f"{audio.decode(sys.argv[1]).num_samples}\n")
except audio.AudioError as error:
    sys.stdout.write(f"{error}\n")
sys.stdout.write(f"{(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}\n")
