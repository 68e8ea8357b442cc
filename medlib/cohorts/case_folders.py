"""A folder like the phantom: a folder a case, with its CT series and what the readers drew.

cohort.csv                 a row a case
<case_id>/ct/*.dcm         the CT series, one DICOM file a slice
<case_id>/readers.nii.gz   the readers' bit field on the grid of the series
<case_id>/labels.nii.gz    0 outside, k inside the union of all outlines of lesion k
<case_id>/lesions.csv      a row a lesion
<case_id>/receipt.json     checksums; written with a phantom, absent from a folder of one's own
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from medlib.annotation.case import LESION_COLUMNS, Case
from medlib.annotation.mask_files import read_label_values
from medlib.cohorts.phantom_receipts import read_receipt
from medlib.cohorts.tables import IDENTITY, read_table
from medlib.errors import DataError
from medlib.files import sha256_of
from medlib.images.dicom import read_series
from medlib.phantom.cohort_sizes import PARTS

TABLE = "cohort.csv"
FILES = ("readers.nii.gz", "labels.nii.gz", "lesions.csv")


def open_table(folder: Path) -> pd.DataFrame:
    """Read the table, a row a case, and compare the checksums of the small files."""
    table = read_table(folder / TABLE, IDENTITY, ("case_id", "patient_id"))
    if strange := sorted(set(table["split"]) - set(PARTS)):
        raise DataError(
            f"{folder / TABLE} names the split {strange[0]!r}; expected {', '.join(PARTS)}"
        )
    for case_id in table["case_id"]:
        _check_files(folder / case_id)
    return table.assign(label_kind="readers", is_window=False, licence=table.get("licence", ""))


def _check_files(folder: Path) -> None:
    if absent := [name for name in ("ct", *FILES) if not (folder / name).exists()]:
        raise DataError(f"{folder} lacks {', '.join(absent)}; delete the folder and open it again")
    for name, checksum in read_receipt(folder).get("files", {}).items():
        if sha256_of(folder / name) != checksum:
            raise DataError(
                f"{folder / name} has changed since it was made; delete {folder} and "
                f"{folder.parent / 'cohort.json'} to make it again"
            )


def read_case(cohort_folder: Path, row: pd.Series, name: str | None = None) -> Case:
    """Read one case; its folder has its name, where none is given."""
    folder = cohort_folder / (name or row["case_id"])
    found = read_series(folder / "ct")
    if len(found) != 1:
        raise DataError(f"{folder / 'ct'} holds {len(found)} CT series; expected one")
    volume = found[0]
    uid = volume.identity.series_instance_uid
    if row.get("series_instance_uid", uid) != uid:
        raise DataError(
            f"{folder / 'ct'} holds series {uid}, cohort.csv names {row['series_instance_uid']}; "
            "put the series of that case there"
        )
    lesions = pd.read_csv(folder / "lesions.csv", dtype={"lesion_id": str, "origin": str})
    if missing := [column for column in LESION_COLUMNS if column not in lesions]:
        raise DataError(f"{folder / 'lesions.csv'} lacks the columns {', '.join(missing)}")
    readers, labels = (
        read_label_values(folder / name, volume).astype(np.uint8, copy=False) for name in FILES[:2]
    )
    return Case(
        **dict(row[list(IDENTITY)]),
        volume=volume,
        readers=readers,
        lesion_labels=labels,
        lesions=lesions[list(LESION_COLUMNS)],
    )


def fingerprint(cohort_folder: Path, row: pd.Series) -> list[str | bytes]:
    """Return what a case rests on.

    A phantom case has a receipt with checksums of its voxels. A case of one's own has none: there
    its annotations are digested, and its series is known by the UID in the table.
    """
    folder = cohort_folder / row["case_id"]
    if receipt := read_receipt(folder):
        return [json.dumps(receipt["voxels"], sort_keys=True)]
    return [(folder / name).read_bytes() for name in FILES]
