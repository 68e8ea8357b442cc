"""What the user sees while chapters execute: a live line on a terminal, else a line a chapter."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text


class _KernelState(ProgressColumn):
    """The line that `medlib.progress` writes inside the kernel."""

    max_refresh = 0.5

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def render(self, task: Task) -> Text:  # noqa: ARG002
        state = self.file.read_text(encoding="utf-8") if self.file.exists() else ""
        return Text(state, style="dim", overflow="ellipsis", no_wrap=True)


class Display:
    """Shows which chapter and cell is executed, and what its kernel writes to `state_file`."""

    def __init__(self, n_chapters: int, state_file: Path) -> None:
        self.n_chapters = n_chapters
        self.state_file = state_file
        self.position = 1
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("cell {task.completed:.0f} of {task.total:.0f}"),
            TimeElapsedColumn(),
            _KernelState(state_file),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )

    @contextmanager
    def chapter(self, name: str, n_cells: int) -> Iterator[None]:
        """Show a chapter while the block executes it."""
        self.state_file.unlink(missing_ok=True)
        description = f"[{self.position}/{self.n_chapters}] {name}"
        self.task = self.progress.add_task(description, total=n_cells)
        try:
            with self.progress:
                yield
        finally:
            self.progress.remove_task(self.task)
            self.state_file.unlink(missing_ok=True)

    def next_cell(self, **_cell: object) -> None:
        """Show that the next code cell starts; a hook of nbclient's."""
        self.progress.advance(self.task)

    def done(self, name: str, outcome: str) -> None:
        """Print the one line that stays."""
        print(f"[{self.position}/{self.n_chapters}] {name}: {outcome}", flush=True)
        self.position += 1
