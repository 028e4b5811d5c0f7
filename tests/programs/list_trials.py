"""List the trials of an input and iterate over all but the first; print the mebibytes that this took."""

import resource
import sys

from spectra_jax.data.sources import collect

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
trials = collect([sys.argv[1]])
assert sum(1 for _ in trials.iterate(1)) == len(trials) - 1 == 99_999
sys.stdout.write(f"{(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}\n")
