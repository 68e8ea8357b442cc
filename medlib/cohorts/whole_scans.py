"""Whole chest CTs with an outline, readers' outlines, an algorithms' mask or boxes of a lesion.

`cases.csv` has a row a scan; its files lie in a folder of the case's name. `mask_file` is an
outline, or a table of boxes. Where the table has `label_kind`, it says what `label_file` is, and
`doubtful_file` is a table of boxes around what may be a lesion and was not labelled.

Boxes count slices towards the head. Their rows and columns are those of the DICOM image as it is
stored; of any other file those of the patient seen upright: x to the left, y to the back.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import cc3d
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from medlib.annotation.case import Case, LabelKind, lesion_row, lesion_table
from medlib.annotation.lidc import RATINGS
from medlib.annotation.mask_files import read_label_values
from medlib.annotation.reference import reader_masks
from medlib.cohorts.project_split import split_of
from medlib.cohorts.tables import IDENTITY, read_table
from medlib.errors import DataError
from medlib.files import sha256_of
from medlib.images.dicom import read_series
from medlib.images.image_files import read_image
from medlib.images.image_grids import as_stored, upright
from medlib.images.volume import Volume

TABLE = "cases.csv"
COLUMNS = ("case", "licence", "image_file")
FILES = ("image_file", "label_file", "doubtful_file")
BOX_COLUMNS = ("slice_index_ascending_z", "xmin", "xmax", "ymin", "ymax")
NODULES = "_nodules.csv"
NODULE_COLUMNS = ("slice_min", "slice_max", "row_min", "row_max", "column_min", "column_max")


def open_table(folder: Path) -> pd.DataFrame:
    """Read the table; without `patient`, each scan is a patient's only one."""
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
        if row["label_kind"] != "none" and not isinstance(row.get("label_file"), str):
            raise DataError(
                f"{folder / TABLE}: {row['case']} has the label kind '{row['label_kind']}' and no "
                "label_file; name its file, or say none"
            )
        for path in _files_of(folder, row):
            if not path.is_file():
                raise DataError(
                    f"{path.parent} lacks {path.name}; fetch it, or take the row out of {TABLE}"
                )
    patients = table.get("patient", table["case"]).fillna(table["case"])
    return table.assign(
        case_id=table["case"],
        patient_id=patients,
        site=table.get("source_collection", ""),
        split=split_of(patients, table["case"]),
        is_window=False,
    )


def _files_of(folder: Path, row: pd.Series) -> list[Path]:
    named = [row.get(column) for column in FILES]
    return [folder / row["case"] / name for name in named if isinstance(name, str)]


def fingerprint(folder: Path, row: pd.Series) -> list[str]:
    """Return what a case rests on."""
    return [sha256_of(path) for path in _files_of(folder, row)]


def read_case(folder: Path, row: pd.Series) -> Case:
    """Read one scan."""
    files, kind = folder / row["case"], row["label_kind"]
    volume = _read_volume(files / row["image_file"], row["case"])
    readers, doubtful = np.zeros(volume.hu.shape, dtype=np.uint8), None
    if kind != "none":
        label = files / row["label_file"]
        # Readers' bits as they are; of anything else, whatever is marked is bit 0.
        drawn = (
            _inside_boxes(label, volume) if kind == "boxes" else read_label_values(label, volume)
        )
        readers = (drawn if kind == "readers" else drawn > 0).astype(np.uint8, copy=False)
    if isinstance(row.get("doubtful_file"), str):
        doubtful = _inside_boxes(files / row["doubtful_file"], volume) & (readers == 0)
    labels = (readers > 0).astype(np.uint8)
    rows: list[dict[str, Any]] = []
    if kind == "readers":
        others = str(row.get("other_files")).split(";")
        nodules = [files / name for name in others if name.endswith(NODULES)]
        labels, rows = _nodules(row, readers, volume, nodules[0] if nodules else None)
    elif labels.any():
        # One lesion, in however many pieces. Nobody says how many drew it.
        lesion = lesion_row(row["case"], 1, labels[None] > 0, volume.voxel_volume_mm3)
        rows = [lesion | {"n_readers": np.nan, "origin": row["patient_id"]}]
        if kind == "boxes":  # which hold the lesion and more
            rows[0]["diameter_mm"] = np.nan
    return Case(
        **dict(row[list(IDENTITY)]),
        volume=volume,
        readers=readers,
        lesion_labels=labels,
        lesions=lesion_table(rows),
        label_kind=kind,
        doubtful=doubtful,
    )


def _nodules(
    row: pd.Series, readers: NDArray[np.uint8], volume: Volume, table: Path | None
) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    """Tell the nodules of readers apart: by their boxes in a table, or as what hangs together."""
    pieces = cc3d.connected_components(readers > 0, connectivity=26)
    boxes = ndimage.find_objects(pieces)
    nodules = pd.DataFrame(index=range(len(boxes)))
    if table:
        nodules = read_table(table, ("nodule_id", *NODULE_COLUMNS), ("nodule_id",))
        boxes = [
            tuple(slice(low, high + 1) for low, high in corners.reshape(3, 2))
            for corners in nodules[list(NODULE_COLUMNS)].to_numpy(dtype=int)
        ]
    labels = np.zeros(readers.shape, dtype=np.uint8)
    for piece in range(1, int(pieces.max()) + 1):
        # Two boxes may overlap: the one that holds more of it, then the tighter one.
        held = [((pieces[box] == piece).sum(), -pieces[box].size) for box in boxes]
        if not max(held)[0]:
            raise DataError(f"{table}: an outline lies in no nodule's box; give the table of it")
        labels[pieces == piece] = held.index(max(held)) + 1
    rows = []
    for label in np.unique(labels[labels > 0]).tolist():
        said = nodules.iloc[label - 1]
        known = {name: said.get(f"{name}_median", np.nan) for name in RATINGS}
        known["origin"] = said.get("nodule_id", row["patient_id"])
        masks = reader_masks(np.where(labels == label, readers, np.uint8(0)))
        rows.append(lesion_row(row["case"], label, masks, volume.voxel_volume_mm3) | known)
    return labels, rows


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
    """Fill boxes slice by slice, upright; corners belong to them."""
    boxes = read_table(path, BOX_COLUMNS, unique=False)
    for name in BOX_COLUMNS:
        if not pd.api.types.is_numeric_dtype(boxes[name]):
            raise DataError(f"{path}: the column {name} holds more than numbers; mend it")
    is_dicom = bool(volume.sop_instance_uids)
    inside = np.zeros_like(as_stored(volume.hu, volume) if is_dicom else volume.hu, dtype=bool)
    _check_boxes(path, boxes, inside.shape)
    for box in boxes[list(BOX_COLUMNS)].astype(int).itertuples():
        inside[box.slice_index_ascending_z, box.ymin : box.ymax + 1, box.xmin : box.xmax + 1] = True
    return upright(inside, volume) if is_dicom else inside


def _check_boxes(path: Path, boxes: pd.DataFrame, shape_zyx: tuple[int, ...]) -> None:
    z, y, x = shape_zyx
    low, high = boxes[["slice_index_ascending_z", "ymin", "xmin"]], boxes[["ymax", "xmax"]]
    fits = (low >= 0).all(axis=1) & (boxes["slice_index_ascending_z"] < z)
    fits &= (high.to_numpy() >= low[["ymin", "xmin"]]).all(axis=1) & (high < (y, x)).all(axis=1)
    if not fits.all():
        z_, *corners = boxes.loc[~fits, list(BOX_COLUMNS)].iloc[0]
        raise DataError(
            f"{path}: {(~fits).sum()} of {len(boxes)} boxes do not lie on the {z} slices of {y} "
            f"rows and {x} columns, the first on slice {z_:g} with xmin, xmax, ymin, ymax "
            f"{' '.join(f'{c:g}' for c in corners)}; mend the table"
        )
