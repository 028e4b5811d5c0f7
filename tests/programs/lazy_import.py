"""Import the package: what is heavy is imported when a name that needs it is first used."""

import sys

import spectra_jax
import spectra_jax.cli

heavy = {"jax", "jaxtyping", "flax", "scipy", "soundfile", "huggingface_hub"} & set(sys.modules)
assert not heavy, f"imported with the package: {heavy}"
from spectra_jax import Scorer, load  # noqa: E402

assert load.__module__ == "spectra_jax.checkpoints.resolve" and Scorer is spectra_jax.Scorer
assert "jax" in sys.modules
