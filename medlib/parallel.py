"""A few things at once, in order.

Threads are enough: what takes long here is done by numpy, scipy and torch, which let go of the
interpreter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

AT_ONCE = 2  # each holds a scan and what is computed from it


def in_order(work: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """Yield the work done on each item, in their order; they are taken `AT_ONCE` ahead of it."""
    ahead: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > AT_ONCE:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for waiting in ahead:
                waiting.cancel()
