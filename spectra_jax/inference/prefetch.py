"""Work that is begun before its result is asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def ahead(begun: Iterable[T], count: int) -> Iterator[T]:
    """The same items in the same order, each handed on when `count` more have been taken.

    For items that are work under way (a future, an array that a device is still computing): taking one begins it, and
    `count` of them go on while the consumer is busy with, or waits for, the one it was handed. No more than `count`
    wait at any time.
    """
    waiting: deque[T] = deque()
    for item in begun:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()
