"""Contenders for the tests of `benchmarks/processes.py`: functions of a module, which another process can import."""

from __future__ import annotations

import os
import time
from collections.abc import Callable


def adds(term: int) -> Callable[[int], int]:
    return lambda value: value + term


def never_finishes() -> Callable[[int], None]:
    return lambda _: time.sleep(3600)


def fails() -> Callable[[object], object]:
    raise RuntimeError("no such device")


def ends() -> Callable[[int], None]:
    return lambda _: os._exit(3)


def allocates() -> Callable[[int], int]:
    return lambda size: len(b"\x01" * size)


def fails_for(task: object) -> Callable[[object], object]:
    return fails()
