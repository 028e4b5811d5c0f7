"""The devices that JAX computes on."""

from __future__ import annotations

import os

import jax

from spectra_jax.errors import DevicesError


def local_devices() -> list[jax.Device]:
    """`jax.local_devices()`: the first call starts them.

    Raises:
      DevicesError: JAX cannot start them; the message names the variable that asks for what is not there.
    """
    try:
        return jax.local_devices()
    # Of a CUDA that is not there, JAX says so with an assertion that has no message.
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split(" (set JAX_PLATFORMS=")[0].rstrip(".")
        reason = reason or "its plug-in is missing or finds no device"
        for variable in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME"):
            if asked := os.environ.get(variable):
                raise DevicesError(
                    f"{variable}={asked!r} asks JAX for a platform that it cannot start here ({reason}): unset the "
                    f"variable to use the best devices found, set it to 'cpu', or install the platform's extra "
                    f"(cuda12, cuda13 or tpu) and driver"
                ) from error
        raise DevicesError(f"JAX cannot start its devices ({reason}): JAX_PLATFORMS=cpu uses the CPU alone") from error
