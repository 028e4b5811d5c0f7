"""Convert with the given arguments and print the peak memory of this process in kibibytes."""

from __future__ import annotations

import sys
from pathlib import Path

from spectra_jax.convert import convert

_, source, destination, *to = sys.argv
convert(source, destination, "torch" if to == ["torch"] else "native")
# The peak of this program only: `getrusage` would include the memory of the program that started it.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
sys.stdout.write(f"{peak.split()[1]}\n")
