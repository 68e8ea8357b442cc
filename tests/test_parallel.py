from __future__ import annotations

import threading
import time

import pytest

from medlib.parallel import AT_ONCE, in_order


def test_results_come_in_the_order_of_the_items():
    def work(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    items = [0.05, 0.0, 0.03, 0.01, 0.0]
    assert list(in_order(work, items)) == items


def test_two_at_once():
    both = threading.Barrier(AT_ONCE, timeout=10)
    assert len(list(in_order(lambda _: both.wait(), range(2 * AT_ONCE)))) == 2 * AT_ONCE


def test_items_are_taken_only_shortly_before_they_are_needed():
    taken: list[int] = []

    def items():
        for k in range(100):
            taken.append(k)
            yield k

    results = in_order(lambda k: k, items())
    assert next(results) == 0
    assert len(taken) <= AT_ONCE + 1
    results.close()
    assert len(taken) <= AT_ONCE + 1


def test_an_error_reaches_the_caller():
    def work(k: int) -> int:
        if k == 2:
            raise ValueError("two")
        return k

    results = in_order(work, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
