"""Progress of long work: a bar on a terminal, one line in a file inside a notebook.

A notebook's output is part of the book, so nothing that moves may be printed there. `python -m book
build` names a file in ``MEDLIB_PROGRESS_FILE``, the kernel writes its state into it, and the
builder shows it beside the chapter's name.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import TypeVar

from rich.progress import Progress

T = TypeVar("T")

PROGRESS_FILE = "MEDLIB_PROGRESS_FILE"
MIN_SECONDS_BETWEEN_WRITES = 0.5


def on_terminal() -> bool:
    """Tell whether somebody watches: what moves may be shown."""
    return sys.stderr.isatty() and PROGRESS_FILE not in os.environ


class Bar:
    """A bar that is moved from outside, for a loop that is not ours."""

    def __init__(self, description: str, total: int | None) -> None:
        self.description, self.total = description, total
        self.last_write = 0.0
        self._shown = Progress(transient=True) if on_terminal() else None
        if self._shown:
            self._shown.start()
            self._task = self._shown.add_task(description, total=total)

    def move(self, done: int, detail: str = "") -> None:
        """Show that so many steps are done, and how it stands."""
        now = time.monotonic()
        if self._shown:
            words = f"{self.description}{detail and f' ({detail})'}"
            self._shown.update(self._task, completed=done, description=words)
        elif (path := os.environ.get(PROGRESS_FILE)) and (
            done == self.total or now - self.last_write > MIN_SECONDS_BETWEEN_WRITES
        ):
            Path(path).write_text(f"{self.description} {done}/{self.total or '?'}")
            self.last_write = now

    def close(self) -> None:
        """Take the bar away."""
        if self._shown:
            self._shown.stop()


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield `items`, showing how far they are; `total` counts them where they have no length."""
    bar = Bar(description, len(items) if total is None and isinstance(items, Sized) else total)
    try:
        for done, item in enumerate(items, start=1):
            yield item
            bar.move(done)
    finally:
        bar.close()
