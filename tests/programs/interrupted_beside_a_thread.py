"""A command that is interrupted while a thread is busy until standard input ends, as JAX's compiler is for a minute."""

import signal
import sys
from concurrent.futures import ThreadPoolExecutor

from spectra_jax import cli
from spectra_jax.data import sources


def interrupted(*_: object, **__: object) -> None:
    ThreadPoolExecutor(1).submit(sys.stdin.buffer.read)
    signal.raise_signal(signal.SIGINT)


signal.signal(signal.SIGINT, signal.default_int_handler)
sources.collect = interrupted  # type: ignore[assignment]
sys.argv = ["spectra-jax", "score", "--model", "demo", "clips/"]
cli.main()
