"""Parts of a cohort: whole patients, never slices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from medlib.errors import OverlapError


def split_patients(
    table: pd.DataFrame,
    fractions: Mapping[str, float],
    seed: int,
    stratify: str | None = None,
    patient_column: str = "patient_id",
) -> pd.Series:
    """Assign every row to a part such that a patient stands in one part only.

    Patients are shuffled, ordered by stratum, and each goes to the part that lags most behind its
    share: so the shares hold in the whole and nearly so in each stratum.

    Parameters
    ----------
    table : DataFrame
        A row an image, a lesion or a case.
    fractions : mapping of str to float
        Name of each part and its share of the patients; they add up to 1.
    seed : int
    stratify : str, optional
        Column whose values the parts should share alike, for instance the site. A patient with
        several values counts with the largest.
    patient_column : str

    Returns
    -------
    Series of str
        The part of each row, index as in `table`.

    Raises
    ------
    ValueError
        If the fractions do not add up to 1.
    """
    if not np.isclose(sum(fractions.values()), 1.0) or min(fractions.values()) < 0:
        raise ValueError(f"fractions must be positive and add up to 1, got {dict(fractions)}")
    patients = np.sort(table[patient_column].unique())
    patients = np.random.default_rng(seed).permutation(patients)
    if stratify is not None:
        stratum = table.groupby(patient_column)[stratify].max()
        patients = stratum.loc[patients].sort_values(kind="stable").index.to_numpy()
    names = list(fractions)
    share = np.array([fractions[name] for name in names])
    count = np.zeros(len(names))
    part = {}
    for number, patient in enumerate(patients, start=1):
        chosen = int(np.argmax(share * number - count))
        count[chosen] += 1
        part[patient] = names[chosen]
    return table[patient_column].map(part).rename("split")


def check_disjoint(
    table: pd.DataFrame, split_column: str = "split", patient_column: str = "patient_id"
) -> None:
    """Check that no patient stands in two parts.

    Parameters
    ----------
    table : DataFrame
        With a column for the patient and one for the part.

    Raises
    ------
    OverlapError
        If a patient stands in more than one part.
    """
    parts = table.groupby(patient_column)[split_column].unique()
    shared = parts[parts.map(len) > 1]
    if len(shared):
        raise OverlapError(
            f"{len(shared)} of {len(parts)} patients stand in more than one part (first: "
            f"{shared.index[0]} in {', '.join(sorted(map(str, shared.iloc[0])))}); expected every "
            "patient in one; split by patient with split_patients"
        )
