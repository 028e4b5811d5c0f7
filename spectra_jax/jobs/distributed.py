"""The index of this process among those that share a run, by `jax.distributed`."""

from __future__ import annotations

import signal
from threading import current_thread, main_thread

import jax


def join(address: str, process: tuple[int, int] | None = None) -> tuple[int, int]:
    """Have `jax.distributed` agree on the processes' indices, and leave it again.

    Args:
      address: HOST:PORT of the coordinator; "auto" where JAX finds it, as under Slurm, Kubernetes or on TPU pods.
      process: index of this process, from 0, and number of processes; not needed with "auto".

    Returns:
      Index of this process, and number of processes.
    """
    if address == "auto":
        jax.distributed.initialize()
    else:
        index, number = process or (0, 1)
        jax.distributed.initialize(address, number, index)
    process = jax.process_index(), jax.process_count()
    # Nothing else is exchanged. Processes that stay connected would end when one of them dies.
    jax.distributed.shutdown()
    if current_thread() is main_thread():
        # JAX replaced the handler below Python's.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return process
