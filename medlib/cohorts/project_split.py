"""Which part of the project a real patient belongs to, wherever the images lie."""

from __future__ import annotations

import pandas as pd

from medlib.paths import MANIFESTS

SPLIT = MANIFESTS / "lidc_idri_split.csv"
# One scan is kept to watch the training by; LUNG1 may only test.
SCANS = {"train": ("Lung_Dx-A0001", "pyradiomics-lung2"), "tune": ("Lung_Dx-A0002",)}


def split_of(names: pd.Series) -> pd.Series:
    """Look up patients of LIDC-IDRI and the scans that train or tune; all others test.

    Returns
    -------
    Series of str
        ``train``, ``tune``, ``calibrate``, ``test`` or ``external``.
    """
    of_scans = {name: split for split, scans in SCANS.items() for name in scans}
    return names.map({**_lidc(), **of_scans}).fillna("test")


def lidc_patients(split: str) -> set[str]:
    """Return the patients of LIDC-IDRI in one part."""
    known = _lidc()
    return set(known.index[known == split])


def _lidc() -> pd.Series:
    table = pd.read_csv(SPLIT).drop_duplicates("patient_id")
    return table.set_index("patient_id")["split"]
