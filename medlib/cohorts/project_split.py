"""Which part of the project a real patient belongs to, wherever the images lie."""

from __future__ import annotations

import pandas as pd

from medlib.paths import MANIFESTS

SPLIT = MANIFESTS / "lidc_idri_split.csv"
# One scan is kept to watch the training by; LUNG1 may only test.
SCANS = {"train": ("Lung_Dx-A0001", "pyradiomics-lung2"), "tune": ("Lung_Dx-A0002",)}


def split_of(patient_ids: pd.Series, scans: pd.Series | None = None) -> pd.Series:
    """Look up patients of LIDC-IDRI, and scans that train or tune by their names.

    All others test. Returns ``train``, ``tune``, ``calibrate``, ``test`` or ``external``.
    """
    found = patient_ids.map(_lidc())
    if scans is not None:
        named = {name: split for split, names in SCANS.items() for name in names}
        found = found.where(found.notna(), scans.map(named))
    return found.fillna("test")


def lidc_patients(split: str) -> set[str]:
    """Return the patients of LIDC-IDRI in one part."""
    known = _lidc()
    return set(known.index[known == split])


def _lidc() -> pd.Series:
    table = pd.read_csv(SPLIT).drop_duplicates("patient_id")
    return table.set_index("patient_id")["split"]
