"""pytest plugin (``-p book.nbval_plugin``): nbval compares text and nothing else.

HTML, drawings and evidence records travel beside the text that says the same; comparing them too
would make every change of style a failure.
"""

from __future__ import annotations

import pytest

COMPARED = {"stdout", "text/plain"}


class _AllBut:
    """A collection that holds everything except a few names."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def __contains__(self, name: object) -> bool:
        return name != "data" and name not in self.names


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Set what nbval skips, the way its documentation shows."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare = _AllBut(COMPARED)
