"""The parts of a cohort hold whole patients, never slices."""

from __future__ import annotations

import pandas as pd

from medlib.errors import OverlapError


def check_disjoint(table: pd.DataFrame, patient_column: str = "patient_id") -> None:
    """Raise `OverlapError` if a patient stands in more than one part."""
    parts = table.groupby(patient_column)["split"].unique()
    torn = parts[parts.map(len) > 1]
    if len(torn):
        raise OverlapError(
            f"{len(torn)} of {len(parts)} patients stand in more than one part (first: "
            f"{torn.index[0]} in {', '.join(sorted(map(str, torn.iloc[0])))}); expected every "
            "patient in one; divide the patients, not their images"
        )
