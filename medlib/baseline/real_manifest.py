"""Which real CT a run learned from and was tested on: a row a file, with its checksum.

`python -m tools real-manifest` writes it to ``data_manifests/real_ct.csv``. The evidence card of
a run states one checksum over all of it, which the table gives again without the images.
"""

from __future__ import annotations

import hashlib

import pandas as pd

from medlib.cohorts import nodule_volumes, whole_scans
from medlib.cohorts.cohort import REAL_PARTS, Cohort
from medlib.errors import DataError
from medlib.files import sha256_of
from medlib.paths import MANIFESTS

FILE = MANIFESTS / "real_ct.csv"
# How a volume of interest lies in its series: the reader of another copy can cut it again.
PLACE = ("series_instance_uid", "scan_offset_xyz", "shape_xyz")
COLUMNS = ("file", "sha256", "patient_id", "split", "licence", *PLACE)


def manifest(real: Cohort) -> pd.DataFrame:
    """List the tables of the real CT and every file that they name, with columns `COLUMNS`.

    Raises DataError if a file cannot be read.
    """
    windows, scans = REAL_PARTS
    of_part = {
        part: real.table[real.table["part"] == part].to_dict("records") for part in REAL_PARTS
    }
    rows = [{"file": f"{windows}/{nodule_volumes.TABLE}"}, {"file": f"{scans}/{whole_scans.TABLE}"}]
    for column in nodule_volumes.FILES:
        for row in of_part[windows]:
            known = {name: row.get(name, "") for name in ("patient_id", "split", "licence", *PLACE)}
            rows.append({"file": f"{windows}/{row[column]}", **known})
    for row in of_part[scans]:
        known = {name: row[name] for name in ("patient_id", "split", "licence")}
        rows += [
            {"file": f"{scans}/{row['case']}/{row[name]}", **known}
            for name in ("image_file", "label_file")
        ]
    for row in rows:
        path = real.folder / row["file"]
        try:
            row["sha256"] = sha256_of(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    return pd.DataFrame(rows, columns=list(COLUMNS)).fillna("")


def checksum(table: pd.DataFrame) -> str:
    """Return the SHA-256 over the names and the checksums of all files of a manifest."""
    total = hashlib.sha256()
    for row in table.itertuples():
        total.update(row.file.encode())
        total.update(bytes.fromhex(row.sha256))
    return total.hexdigest()
