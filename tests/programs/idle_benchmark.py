"""Start a worker of the speed benchmark, print its process id, and wait.

python -m tests.programs.idle_benchmark WORK
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.speed.measure import Remote
from benchmarks.speed.network import Network

if __name__ == "__main__":
    worker = Remote(Network("tiny", Path(sys.argv[1])))
    worker.request("memory")
    print(worker.pid, flush=True)
    time.sleep(600)
