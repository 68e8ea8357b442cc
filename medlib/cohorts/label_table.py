"""The one table that every data set ends in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medlib.cohorts.splits import check_disjoint
from medlib.errors import DataError

COLUMNS = (
    "patient_id",
    "image_id",
    "image_path",
    "mask_path",
    "finding",
    "label",
    "label_weight",
    "site",
    "split",
)
_TEXTS = ("patient_id", "image_id", "image_path", "mask_path", "finding", "site", "split")


def finished(rows: pd.DataFrame | Sequence[dict[str, Any]], source: Path) -> pd.DataFrame:
    """Give a table its columns and types, and check it.

    Parameters
    ----------
    rows : DataFrame or sequence of dict
        With `COLUMNS`.
    source : Path
        Where it was read from, for messages.

    Returns
    -------
    DataFrame
        With `COLUMNS`, texts as pandas strings (missing ones NA), numbers as floats.

    Raises
    ------
    DataError
        If there is no row, or an image stands twice with one finding.
    OverlapError
        If a patient stands in more than one part.
    """
    table = pd.DataFrame(rows, columns=list(COLUMNS)).reset_index(drop=True)
    if table.empty:
        raise DataError(f"{source}: no image found; expected at least one; check the folder")
    table = table.astype(dict.fromkeys(_TEXTS, "string") | {"label": float, "label_weight": float})
    twice = table.duplicated(["image_id", "finding"])
    if twice.any():
        raise DataError(
            f"{source}: {named(table.loc[twice, 'image_id'])} more than once; expected every "
            "image once; remove the copies"
        )
    places = table[["patient_id", "split"]].dropna().drop_duplicates()
    if places["patient_id"].duplicated().any():  # seldom: the full check is slow for many patients
        check_disjoint(places)
    return table


def named(names: Iterable[str], shown: int = 3) -> str:
    """Write names for a message: how many, and the first of them."""
    found = sorted(set(names))
    more = ", ..." if len(found) > shown else ""
    return f"{len(found)} ({', '.join(found[:shown])}{more})"


def read_json(path: Path, expected: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    DataError
        If it is not there or is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; expected {expected}; check the path") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON; expected {expected}; fetch it again") from (
            error
        )
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds no JSON object; expected {expected}; fetch it again")
    return content
