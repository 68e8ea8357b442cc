"""Which real CT a run learned from and was tested on: a row a file, with its checksum.

``python -m tools real-manifest`` writes it. The evidence card of a run states one checksum over all
of it, which the table gives again without the images.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from medlib.cohorts import nodule_volumes as voi
from medlib.cohorts import whole_scans as real_scans
from medlib.errors import DataError
from medlib.paths import MANIFESTS

FILE = MANIFESTS / "real_ct.csv"
# How a volume of interest lies in its series: the reader of another copy can cut it again.
PLACE = ("series_instance_uid", "scan_offset_xyz", "shape_xyz")
COLUMNS = ("file", "sha256", "patient_id", "split", "licence", *PLACE)


def manifest(
    folder: Path, vois: pd.DataFrame, scans: pd.DataFrame, parts: tuple[str, str], licence: str
) -> pd.DataFrame:
    """List the tables and every file that they name.

    Parameters
    ----------
    folder : Path
        Of the real CT.
    vois, scans : DataFrame
        The tables of volumes of interest and of whole scans, with `split`.
    parts : tuple of str
        The folders of both, in `folder`.
    licence : str
        Of the volumes of interest.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`; empty where a file has no such thing.

    Raises
    ------
    DataError
        If a file cannot be read.
    """
    of_vois, of_scans = parts
    rows = [{"file": f"{of_vois}/{voi.TABLE}"}, {"file": f"{of_scans}/{real_scans.TABLE}"}]
    for column in voi.FILES:
        for row in vois.to_dict("records"):
            place = {name: row.get(name, "") for name in PLACE}
            known = {name: row[name] for name in ("patient_id", "split")}
            rows.append({"file": f"{of_vois}/{row[column]}", "licence": licence, **known, **place})
    for row in scans.to_dict("records"):
        known = {"patient_id": row["patient"], "split": row["split"], "licence": row["licence"]}
        rows += [
            {"file": f"{of_scans}/{row['case']}/{row[name]}", **known}
            for name in ("image_file", "mask_file")
        ]
    for row in rows:
        row["sha256"] = _sha256(folder / row["file"])
    return pd.DataFrame(rows, columns=list(COLUMNS)).fillna("")


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def checksum(table: pd.DataFrame) -> str:
    """Return the SHA-256 over the names and the checksums of all files of a manifest."""
    total = hashlib.sha256()
    for row in table.itertuples():
        total.update(row.file.encode())
        total.update(bytes.fromhex(row.sha256))
    return total.hexdigest()


def read_manifest(path: Path = FILE) -> pd.DataFrame:
    """Read a manifest as `manifest` made it."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)
