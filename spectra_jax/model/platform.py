"""Code that differs between platforms, and the platform for which a program is traced to run elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import jax
from jax import lax

TargetPlatform = Literal["cpu", "cuda", "rocm", "tpu", "any"]

# A context of JAX's own, so that a trace for one target is never taken from the cache for another. Its value: None, or
# the platform and whether the program is portable.
_target: Any = jax.make_user_context(default_value=None)


@contextmanager
def for_platform(platform: TargetPlatform) -> Iterator[None]:
    """Inside it, the network is traced into a portable program, which does not depend on this process's devices.

    Args:
      platform: on which the program runs. "any": the program contains the code of every platform and selects it when
        it is compiled. A single platform's program contains its own code alone.
    """
    with _target((platform, True)):
        yield


@contextmanager
def on_devices(platform: str) -> Iterator[None]:
    """Inside it, the network is traced for devices of this process, and without the code of other platforms.

    Args:
      platform: of the devices, `jax.Device.platform`.
    """
    with _target((platform, False)):
        yield


def target_platform() -> TargetPlatform | None:
    """The platform of the `for_platform` that is in force in this thread, or None."""
    platform, is_portable = _target.value or (None, False)
    return platform if is_portable else None


def platform_dependent(*args: Any, cpu: Callable[..., Any], default: Callable[..., Any]) -> Any:
    """`cpu(*args)` on CPUs and `default(*args)` elsewhere.

    The choice is left to the compiler (`lax.platform_dependent`), but inside `on_devices`, and inside `for_platform` of
    a single platform, it is made while tracing.
    """
    platform, _ = _target.value or (None, False)
    if platform is None or platform == "any":
        return lax.platform_dependent(*args, cpu=cpu, default=default)
    return cpu(*args) if platform == "cpu" else default(*args)
