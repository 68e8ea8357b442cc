"""Tables that take seconds to measure are measured once and kept on disk."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType

import pandas as pd

from medlib import paths
from medlib.annotation import lidc
from medlib.keys import code_key


def database_key(modules: Iterable[ModuleType]) -> str:
    """Return a key of the annotation database and of what some modules do."""
    database = hashlib.sha256(lidc.database_path().read_bytes()).hexdigest()
    code = code_key(*(module.__name__ for module in modules))
    return hashlib.sha256(f"{database} {code}".encode()).hexdigest()[:16]


def stored_tables(
    name: str, key: str, make: Callable[[], Mapping[str, pd.DataFrame]]
) -> dict[str, pd.DataFrame]:
    """Read tables from ``<paths.DATA>/<name>-<key>/``; make them and put them there if need be.

    They are read back either way, so that the first use and the second see the same digits.

    Parameters
    ----------
    name, key : str
        Of the folder. Another key, another folder.
    make : callable
        Returns the tables by name.
    """
    folder = paths.DATA / f"{name}-{key}"
    if not folder.is_dir():
        tables = make()
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{name}-"))
        for table_name, table in tables.items():
            table.to_csv(beside / f"{table_name}.csv", index=False, float_format="%.6g")
        beside.chmod(0o755)
        try:
            beside.replace(folder)
        except OSError:  # another process was faster
            shutil.rmtree(beside)
    return {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}
