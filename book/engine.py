"""Papermill's own engine, which also says which code cell it has come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from papermill.engines import NBClientEngine, papermill_engines

ENGINE = "medlib"


class WatchedEngine(NBClientEngine):  # type: ignore[misc]  # papermill has no types
    """Call ``on_cell(number)`` whenever a code cell starts; numbers count from 1."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, *, on_cell: Callable[[int], None], **kwargs: Any
    ) -> Any:
        """Execute the notebook that `nb_man` manages."""
        start = nb_man.cell_start
        number = 0

        def cell_start(cell: Any, *arguments: Any, **options: Any) -> None:
            nonlocal number
            if cell.cell_type == "code":
                number += 1
                on_cell(number)
            start(cell, *arguments, **options)

        nb_man.cell_start = cell_start
        return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)


papermill_engines.register(ENGINE, WatchedEngine)
