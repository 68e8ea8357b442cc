"""Whole chest CTs with an outline, readers' outlines, an algorithms' mask or boxes of a lesion.

`cases.csv` has a row a scan; its files lie in a folder of the case's name. `mask_file` is an
outline, or a table of boxes. Where the table has `label_kind`, it says what `label_file` is, and
`doubtful_file` is a table of boxes around what may be a lesion and was not labelled.
"""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import cc3d
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from medlib.annotation.case import LESION_COLUMNS, Case, LabelKind, lesion_row
from medlib.annotation.lidc import RATINGS
from medlib.cohorts.project_split import split_of
from medlib.cohorts.tables import read_table
from medlib.errors import DataError
from medlib.files import sha256_of
from medlib.images.dicom import read_series
from medlib.images.image_files import read_image, read_mask
from medlib.images.volume import Volume

TABLE = "cases.csv"
COLUMNS = ("case", "licence", "image_file")
FILES = ("image_file", "label_file", "doubtful_file")
BOX_COLUMNS = ("slice_index_ascending_z", "xmin", "xmax", "ymin", "ymax")
NODULES = "_nodules.csv"
NODULE_COLUMNS = ("slice_min", "slice_max", "row_min", "row_max", "column_min", "column_max")


def open_table(folder: Path) -> pd.DataFrame:
    """Read the table; without `patient`, each scan is a patient's only one.

    Raises
    ------
    DataError
        If it lacks a column or names a file that is not there.
    """
    texts = (*COLUMNS, "patient", "mask_file", "label_kind", *FILES, "other_files")
    table = read_table(folder / TABLE, COLUMNS, texts)
    if "label_kind" not in table:
        table = read_table(folder / TABLE, (*COLUMNS, "mask_file"), texts)
        is_table = table["mask_file"].str.endswith(".csv")
        table["label_kind"] = is_table.map({True: "boxes", False: "outline"})
        table["label_file"] = table["mask_file"]
    if strange := sorted(set(table["label_kind"].fillna("")) - set(get_args(LabelKind))):
        raise DataError(
            f"{folder / TABLE} names the label kind '{strange[0]}'; expected "
            f"{', '.join(get_args(LabelKind))}"
        )
    for _, row in table.iterrows():
        for name in _files(row):
            if not (folder / name).is_file():
                where, _, file = name.rpartition("/")
                raise DataError(
                    f"{folder / where} lacks {file}; fetch it, or take the row out of {TABLE}"
                )
    patients = table["patient"] if "patient" in table else table["case"]
    known = split_of(table["case"])
    patients = patients.fillna(table["case"])
    return table.assign(
        case_id=table["case"],
        patient_id=patients,
        site=table.get("source_collection", ""),
        split=known.where(known != "test", split_of(patients)),
        is_window=False,
    )


def _files(row: pd.Series) -> list[str]:
    """Name what a case rests on, from the table's folder on."""
    named = [row.get(column) for column in FILES]
    return [f"{row['case']}/{name}" for name in named if isinstance(name, str)]


def fingerprint(folder: Path, row: pd.Series) -> list[str]:
    """Return what a case rests on."""
    return [sha256_of(folder / name) for name in _files(row)]


def read_case(folder: Path, row: pd.Series) -> Case:
    """Read one scan.

    Raises
    ------
    DataError
        If an archive does not hold one CT series, a mask is not of it, or a box lies on a slice
        that is not there.
    """
    files = folder / row["case"]
    volume = _read_volume(files / row["image_file"], row["case"])
    readers, doubtful = np.zeros(volume.hu.shape, dtype=np.uint8), None
    if row["label_kind"] != "none":
        readers = _read_label(files / row["label_file"], row["label_kind"], volume)
    if isinstance(row.get("doubtful_file"), str):
        doubtful = _inside_boxes(files / row["doubtful_file"], volume) & (readers == 0)
    case = Case(
        case_id=row["case_id"],
        patient_id=row["patient_id"],
        site=row["site"],
        split=row["split"],
        volume=volume,
        readers=readers,
        lesion_labels=(readers > 0).astype(np.uint8),  # one lesion, in however many pieces
        lesions=pd.DataFrame(columns=list(LESION_COLUMNS)),
        label_kind=row["label_kind"],
        doubtful=doubtful,
    )
    if not readers.any():
        return case
    if case.label_kind == "readers":
        others = str(row.get("other_files", "")).split(";")
        tables = [files / name for name in others if name.endswith(NODULES)]
        return _with_nodules(case, tables[0] if tables else None)
    # Nobody says how many drew it, and boxes do not say how large it is.
    unknown = {"n_readers": np.nan, "origin": case.patient_id}
    if case.label_kind == "boxes":
        unknown["diameter_mm"] = np.nan
    lesion = lesion_row(case.case_id, 1, case.drawn_masks(), volume.voxel_volume_mm3, **unknown)
    return replace(case, lesions=pd.DataFrame([lesion], columns=list(LESION_COLUMNS)))


def _with_nodules(case: Case, table: Path | None) -> Case:
    """Tell the nodules of readers apart: by their boxes in a table, or as what hangs together."""
    pieces = cc3d.connected_components(case.readers > 0, connectivity=26)
    nodules = pd.DataFrame(index=range(int(pieces.max())))
    boxes = ndimage.find_objects(pieces)
    if table:
        nodules = read_table(table, ("nodule_id", *NODULE_COLUMNS), ("nodule_id",))
        boxes = [
            tuple(slice(low, high + 1) for low, high in corners.reshape(3, 2))
            for corners in nodules[list(NODULE_COLUMNS)].to_numpy(dtype=int)
        ]
    labels = np.zeros_like(case.lesion_labels)
    for piece in range(1, int(pieces.max()) + 1):
        # Two boxes may overlap: the one that holds more of it, then the tighter one.
        held = [((pieces[box] == piece).sum(), -pieces[box].size) for box in boxes]
        labels[pieces == piece] = held.index(max(held)) + 1
    case = replace(case, lesion_labels=labels)
    rows = []
    for label in np.unique(labels[labels > 0]).tolist():
        row = nodules.iloc[label - 1]
        said = {name: row[f"{name}_median"] for name in RATINGS if f"{name}_median" in row}
        origin = row.get("nodule_id", case.patient_id)
        masks = case.drawn_masks(label)
        voxel_mm3 = case.volume.voxel_volume_mm3
        rows.append(lesion_row(case.case_id, label, masks, voxel_mm3, origin=origin, **said))
    return replace(case, lesions=pd.DataFrame(rows, columns=list(LESION_COLUMNS)))


def _read_label(path: Path, kind: str, volume: Volume) -> NDArray[np.uint8]:
    """Read a bit field of readers as it is, anything else into its first bit."""
    if kind == "boxes":
        return _inside_boxes(path, volume).astype(np.uint8)
    values = read_mask(path, volume)
    return (values if kind == "readers" else values > 0).astype(np.uint8, copy=False)


def _read_volume(path: Path, case_id: str) -> Volume:
    if ".tar" not in path.suffixes:
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
