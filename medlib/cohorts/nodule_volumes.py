"""Volumes of interest: a nodule in its surroundings, as each of its readers outlined it.

`lidc_voi.csv` has a row a volume and names two NIfTI files for it: the CT, and the readers' bit
field. Out of a whole scan they are cut by `windows_of`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from medlib.annotation.case import LESION_COLUMNS, Case, lesion_row
from medlib.annotation.lidc import RATINGS
from medlib.cohorts.project_split import split_of
from medlib.cohorts.tables import read_table
from medlib.errors import DataError
from medlib.files import sha256_of
from medlib.images.image_files import read_image, read_mask
from medlib.images.volume import Volume

TABLE = "lidc_voi.csv"
FILES = ("ct_file", "readers_file")
COLUMNS = ("voi_id", "patient_id", *FILES, "n_readers")
LICENCE = "CC BY 3.0"  # of LIDC-IDRI
MERGED = "merged_cluster_gt4_annotations"  # two nodules in one: no agreement to be had
# How the real ones were cut, in plane; along z they end with the nodule.
SMALLEST_PX, MARGIN_PX = 43, 6
MIN_READERS = 3
PIXEL_MM = 0.7  # at the median


def open_table(folder: Path) -> pd.DataFrame:
    """Read the table, a row a volume.

    Raises
    ------
    DataError
        If it lacks a column or names a file that is not there.
    """
    table = read_table(folder / TABLE, COLUMNS, ("voi_id", "patient_id", "flag", *FILES))
    if not pd.api.types.is_integer_dtype(table["n_readers"]) or table["n_readers"].min() < 1:
        raise DataError(f"{folder / TABLE}: n_readers has to be a whole number above 0; mend it")
    present = {path.name for path in folder.iterdir()}
    for column in FILES:
        if absent := [name for name in table[column] if name not in present]:
            raise DataError(
                f"{folder} lacks {len(absent)} of the files in column {column}, the first is "
                f"{absent[0]}; fetch them, or take their rows out of {TABLE}"
            )
    return table.assign(
        case_id=table["voi_id"],
        site=table.get("manufacturer", ""),
        split=split_of(table["patient_id"]),
        label_kind="readers",
        is_window=True,
        licence=table.get("licence", LICENCE),
    )


def read_case(folder: Path, row: pd.Series) -> Case:
    """Read one volume; where its surroundings hold other nodules, nobody says where.

    Raises
    ------
    DataError
        If a reader named by the table marked nothing.
    """
    volume = read_image(folder / row["ct_file"], row["patient_id"])
    readers = read_mask(folder / row["readers_file"], volume).astype(np.uint8, copy=False)
    inside = readers > 0
    case = Case(
        case_id=row["case_id"],
        patient_id=row["patient_id"],
        site=row["site"],
        split=row["split"],
        volume=volume,
        readers=readers,
        lesion_labels=inside.astype(np.uint8),
        lesions=pd.DataFrame(columns=list(LESION_COLUMNS)),
        is_window=True,
        doubtful=_doubtful(row, inside),
    )
    masks = case.drawn_masks()
    if len(masks) != row["n_readers"]:
        raise DataError(
            f"{folder / row['readers_file']}: {int(row['n_readers'])} readers are stated and one "
            f"of them marked nothing; mend {TABLE}"
        )
    said = {name: row.get(f"{_in_table(name)}_median", np.nan) for name in RATINGS}
    origin = f"{row['patient_id']}/{row['voi_id'].rsplit('_', 1)[-1]}"
    lesion = lesion_row(row["voi_id"], 1, masks, volume.voxel_volume_mm3, origin=origin, **said)
    return replace(case, lesions=pd.DataFrame([lesion], columns=list(LESION_COLUMNS)))


def _doubtful(row: pd.Series, inside: np.ndarray) -> np.ndarray | None:
    if row.get("flag") == MERGED:
        return np.ones_like(inside)
    return ~inside if row.get("other_annotations_in_voi", 0) > 0 else None


def _in_table(rating: str) -> str:
    return "internalStructure" if rating == "internal_structure" else rating


def fingerprint(folder: Path, row: pd.Series) -> list[str]:
    """Return what a case rests on."""
    return [sha256_of(folder / row[column]) for column in FILES]


def windows_of(case: Case) -> Iterator[Case]:
    """Cut out the lesions that enough readers drew, as the real volumes of interest were cut.

    They are as wide in mm. Other lesions that reach into a window are doubtful there.
    """
    scale = PIXEL_MM / case.volume.spacing_mm[1]
    smallest, margin = round(SMALLEST_PX * scale), round(MARGIN_PX * scale)
    for k in np.flatnonzero(case.lesions["n_readers"] >= MIN_READERS):
        lesion = case.lesions.iloc[[k]]
        label = int(lesion["label"].iloc[0])
        block = lesion_voi(case, label, smallest, margin)
        labels = case.lesion_labels[block]
        own, others = labels == label, (labels > 0) & (labels != label)
        affine = case.volume.affine.copy()
        corner_zyx = np.array([side.start for side in block], dtype=float)
        affine[:3, 3] = case.volume.to_patient_mm(corner_zyx)
        yield replace(
            case,
            case_id=str(lesion["lesion_id"].iloc[0]),
            volume=Volume(case.volume.hu[block].copy(), affine, case.volume.identity),
            readers=np.where(own, case.readers[block], np.uint8(0)),
            lesion_labels=own.astype(np.uint8),
            lesions=lesion.assign(label=1),
            is_window=True,
            doubtful=others if others.any() else None,
        )


def lesion_voi(
    case: Case, label: int, smallest_px: int = SMALLEST_PX, margin_px: int = MARGIN_PX
) -> tuple[slice, slice, slice]:
    """Return the crop around a lesion of a case, as the real volumes of interest were cut.

    `smallest_px` is its least side in plane, `margin_px` how much more than the outlines it shows
    on each side.
    """
    marked = np.argwhere(case.lesion_labels == label)
    low, high = marked.min(axis=0), marked.max(axis=0) + 1
    crop = [slice(int(low[0]), int(high[0]))]
    for axis in (1, 2):
        size = max(smallest_px, int(high[axis] - low[axis]) + 2 * margin_px)
        room = case.lesion_labels.shape[axis] - size
        start = int(np.clip((low[axis] + high[axis] - size) // 2, 0, max(0, room)))
        crop.append(slice(start, start + size))
    return crop[0], crop[1], crop[2]
