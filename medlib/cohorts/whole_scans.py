"""Whole chest CTs with a tumour, outlined or boxed, from a table and archives."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medlib.cohorts.tables import read_table
from medlib.errors import DataError
from medlib.images.dicom import read_series
from medlib.images.image_files import read_image, read_mask
from medlib.images.volume import Volume

TABLE = "cases.csv"
COLUMNS = ("case", "licence", "image_file", "mask_file")
BOX_COLUMNS = ("slice_index_ascending_z", "xmin", "xmax", "ymin", "ymax")
SAME_PLACE_MM = 0.1


@dataclass(frozen=True)
class RealScan:
    """One whole scan.

    Attributes
    ----------
    case_id : str
    licence : str
        Of the images.
    volume : Volume
    tumour : ndarray of bool, shape (z, y, x)
        Inside the tumour; for a scan with boxes, inside any of them.
    outlined : bool
        False where there are only boxes: those hold the tumour and more.
    """

    case_id: str
    licence: str
    volume: Volume
    tumour: NDArray[np.bool_]
    outlined: bool


def read_scan_table(folder: Path) -> pd.DataFrame:
    """Read the table of a folder of whole scans; without `patient`, each is a patient's only one.

    Raises
    ------
    DataError
        If it lacks a column or names a file that is not there.
    """
    table = read_table(folder / TABLE, COLUMNS, (*COLUMNS, "patient"))
    stated = table["patient"] if "patient" in table else table["case"]
    table["patient"] = stated.fillna(table["case"])
    for row in table.itertuples():
        for name in (row.image_file, row.mask_file):
            if not (folder / row.case / name).is_file():
                raise DataError(
                    f"{folder / row.case} lacks {name}; fetch it, or take the row out of {TABLE}"
                )
    return table


def read_scan(folder: Path, row: pd.Series) -> RealScan:
    """Read one scan of `read_scan_table`.

    Raises
    ------
    DataError
        If an archive does not hold one CT series, or a box lies on a slice that is not there.
    """
    case = folder / row["case"]
    volume = _read_volume(case / row["image_file"], row["case"])
    mask_file = case / row["mask_file"]
    outlined = mask_file.suffix != ".csv"
    if not outlined:
        tumour = _inside_boxes(mask_file, volume)
    elif mask_file.name.endswith(".nrrd"):
        mask = read_image(mask_file)
        if mask.hu.shape == volume.hu.shape and not np.allclose(
            mask.affine, volume.affine, atol=SAME_PLACE_MM
        ):
            raise DataError(f"{mask_file}: lies elsewhere than its CT; give the mask of this CT")
        tumour = mask.hu > 0
    else:
        tumour = read_mask(mask_file, volume) > 0
    if tumour.shape != volume.hu.shape:
        raise DataError(
            f"{mask_file}: the mask has shape {tumour.shape}, the CT {volume.hu.shape}; give the "
            "mask of this CT"
        )
    return RealScan(row["case"], str(row["licence"]), volume, tumour, outlined)


def _read_volume(path: Path, case_id: str) -> Volume:
    if not path.name.endswith(".tar.xz"):
        return read_image(path, case_id)
    with TemporaryDirectory() as folder:
        try:
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DataError(f"{path}: not a readable archive; fetch it again") from error
        found = read_series(Path(folder))
    if len(found) != 1:
        raise DataError(f"{path} holds {len(found)} CT series; expected one")
    return found[0]


def _inside_boxes(path: Path, volume: Volume) -> NDArray[np.bool_]:
    """Fill boxes slice by slice; corners belong to them."""
    boxes = read_table(path, BOX_COLUMNS, unique=False)
    for name in BOX_COLUMNS:
        if not pd.api.types.is_numeric_dtype(boxes[name]):
            raise DataError(f"{path}: the column {name} holds more than numbers; mend it")
    inside = np.zeros(volume.hu.shape, dtype=bool)
    for box in boxes.itertuples():
        z = int(box.slice_index_ascending_z)
        if not 0 <= z < len(inside):
            raise DataError(f"{path}: a box lies on slice {z} of {len(inside)}; mend the table")
        inside[z, int(box.ymin) : int(box.ymax) + 1, int(box.xmin) : int(box.xmax) + 1] = True
    return inside
