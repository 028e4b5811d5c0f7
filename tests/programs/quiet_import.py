"""Import the package: no PyTorch, no device started, no setting of JAX changed."""

import sys

import jax

before = dict(jax.config.values)
from jax._src import xla_bridge  # noqa: E402

import spectra_jax  # noqa: E402
import spectra_jax.cli  # noqa: E402
import spectra_jax.convert  # noqa: E402, F401

assert not xla_bridge.backends_are_initialized(), "a device was started"
assert dict(jax.config.values) == before, "a JAX setting was changed"
assert not {"torch", "transformers"} & set(sys.modules), "PyTorch was imported"
