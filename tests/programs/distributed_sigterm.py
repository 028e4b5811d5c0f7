"""Join and leave `jax.distributed` as its only process, then take a SIGTERM: `python distributed_sigterm.py HOST:PORT`.

The exit status is 7 if Python's handler of the signal is called.
"""

import os
import signal
import sys
import time

from spectra_jax.jobs import distributed

signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
assert distributed.join(sys.argv[1], (0, 1)) == (0, 1)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(1)
