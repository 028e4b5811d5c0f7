"""Write the native checkpoint of a model, stop after half of the weights, print "half" and wait for standard input."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from spectra_jax.checkpoints.native import write_native
from spectra_jax.checkpoints.resolve import open_checkpoint

checkpoint = open_checkpoint(sys.argv[1])
middle = list(checkpoint.read)[len(checkpoint.read) // 2]


def waiting(read: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    def wait_and_read() -> np.ndarray:
        sys.stdout.write("half\n")
        sys.stdout.flush()
        sys.stdin.read()
        return read()

    return wait_and_read


read = {path: waiting(function) if path == middle else function for path, function in checkpoint.read.items()}
write_native(replace(checkpoint, read=read), sys.argv[2])
