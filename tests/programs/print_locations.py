"""Print where the package, `spectra_jax.convert` and a top-level `convert` are found, a line each."""

import importlib.util

import spectra_jax
import spectra_jax.convert

print(spectra_jax.__file__)
print(spectra_jax.convert.__file__)
print(importlib.util.find_spec("convert") is not None)
print(spectra_jax.convert.convert.__name__, spectra_jax.audio.NUM_SAMPLES)
