"""Parts of a cohort: whole patients, never slices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from medlib.errors import OverlapError

EXTERNAL = "external"
# Tenths of the internal patients; `test` is never looked at before the end, `calibrate` is apart
# from `tune` so that what is promised of a threshold holds.
TENTHS = {"train": 6, "tune": 1, "calibrate": 1, "test": 2}
INTERNAL_MANUFACTURERS = 2


def split_collection(table: pd.DataFrame, stratum: pd.Series, seed: int) -> pd.Series:
    """Assign the scans of a collection of several manufacturers to five parts.

    Manufacturers that are not among the two with most scans are held out whole, as ``external``,
    and with them every scan of a patient whom such a scanner has seen. The others are divided by
    patient in tenths by scikit-learn's `StratifiedGroupKFold`: train 6, tune 1, calibrate 1,
    test 2.

    Parameters
    ----------
    table : DataFrame
        A row a scan with `patient_id` and `manufacturer`.
    stratum : Series of str
        What the parts should share alike; index as in `table`.
    seed : int

    Returns
    -------
    Series of str
        The part of each scan, index as in `table`.

    Raises
    ------
    OverlapError
        If a patient stood in two parts.
    """
    # Sorted, so that the order of rows decides nothing.
    ordered = table.assign(stratum=stratum).sort_values(list(table.columns))
    scans = ordered["manufacturer"].value_counts().sort_index().sort_values(kind="stable")
    held_out = scans.index[:-INTERNAL_MANUFACTURERS]
    elsewhere = ordered.loc[ordered["manufacturer"].isin(held_out), "patient_id"].unique()
    internal = ordered[~ordered["patient_id"].isin(elsewhere)]
    parts = [part for part, tenths in TENTHS.items() for _ in range(tenths)]
    folds = StratifiedGroupKFold(n_splits=len(parts), shuffle=True, random_state=seed).split(
        internal, internal["stratum"], groups=internal["patient_id"]
    )
    split = pd.Series(EXTERNAL, index=ordered.index, name="split")
    for part, (_, fold) in zip(parts, folds, strict=True):
        split[internal.index[fold]] = part
    check_disjoint(ordered.assign(split=split))
    return split.reindex(table.index)


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
