"""Tables that take seconds to measure are measured once and kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType

import pandas as pd

from medlib import paths
from medlib.annotation import lidc
from medlib.files import put_in_place, sha256_of
from medlib.keys import code_key, digest


def database_key(modules: Iterable[ModuleType]) -> str:
    """Return a key of the annotation database and of what some modules and their imports do."""
    code = code_key(*(module.__name__ for module in modules))
    return digest(sha256_of(lidc.database_path()), code)[:16]


def stored_tables(
    name: str, key: str, make: Callable[[], Mapping[str, pd.DataFrame]]
) -> dict[str, pd.DataFrame]:
    """Read tables by name from ``<paths.DATA>/<name>-<key>/``; make them there if need be.

    They are read back either way, so that the first use and the second see the same digits.
    """
    folder = paths.DATA / f"{name}-{key}"
    if not folder.is_dir():
        tables = make()
        with put_in_place(folder) as beside:
            beside.mkdir()
            for table_name, table in tables.items():
                table.to_csv(beside / f"{table_name}.csv", index=False, float_format="%.6g")
    return {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}
