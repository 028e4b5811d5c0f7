"""Work that is started before its result is needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterable[T], count: int) -> Iterator[T]:
    """The same items in the same order, each yielded after `count` more have been taken.

    For items that are work in flight (a future, an array that a device is still computing): taking one starts it, and
    `count` of them run while the consumer is busy with, or waits for, the one that it was given. At most `count` wait
    at any time.
    """
    waiting: deque[T] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()
