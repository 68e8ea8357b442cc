"""Tables that people write: read, or refused in one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from medlib.errors import DataError

IDENTITY = ("case_id", "patient_id", "site", "split")  # of a case, in every table of cases


def read_table(
    path: Path, columns: Sequence[str], texts: Sequence[str] = (), *, unique: bool = True
) -> pd.DataFrame:
    """Read a CSV table that has these columns, without an empty cell.

    The first names a row, once if `unique`; `texts` are read as text, even where they look like
    numbers. Any other table is a `DataError`.
    """
    key = columns[0]
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(texts, str))
    except (OSError, ValueError) as error:  # not there, empty, ragged, or not text
        raise DataError(
            f"{path}: not a CSV table ({str(error).splitlines()[0]}); mend it"
        ) from error
    if missing := [column for column in columns if column not in table]:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}; add them")
    if empty := [column for column in columns if table[column].isna().any()]:
        raise DataError(f"{path}: the column {empty[0]} has empty cells; fill them")
    twice = table.loc[table[key].duplicated() & unique, key]
    if table.empty or len(twice):
        once = ", each once" if unique else ""
        found = f"{twice.iloc[0]} stands there twice" if len(twice) else "it has none"
        raise DataError(f"{path}: expected a row for each {key}{once}; {found}; mend it")
    return table
