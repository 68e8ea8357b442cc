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

from medlib.annotation.case import Case, lesion_row, lesion_table
from medlib.annotation.lidc import RATINGS
from medlib.annotation.mask_files import read_label_values
from medlib.annotation.reference import reader_masks
from medlib.cohorts.project_split import split_of
from medlib.cohorts.tables import IDENTITY, read_table
from medlib.errors import DataError
from medlib.files import sha256_of
from medlib.images.image_files import read_image
from medlib.images.volume import Volume

TABLE = "lidc_voi.csv"
FILES = ("ct_file", "readers_file")
COLUMNS = ("voi_id", "patient_id", *FILES, "n_readers")
LICENCE = "CC BY 3.0"  # of LIDC-IDRI
MERGED = "merged_cluster_gt4_annotations"  # two nodules in one: no agreement to be had
# How the real ones were cut, in plane; along z they end with the nodule.
SMALLEST_PX, MARGIN_PX = 43, 6
PIXEL_MM = 0.7  # at the median
MIN_READERS = 3


def open_table(folder: Path) -> pd.DataFrame:
    """Read the table, a row a volume; every file that it names has to be there."""
    table = read_table(folder / TABLE, COLUMNS, ("voi_id", "patient_id", "flag", *FILES))
    if not pd.api.types.is_integer_dtype(table["n_readers"]) or table["n_readers"].min() < 1:
        raise DataError(f"{folder / TABLE}: n_readers has to be a whole number above 0; mend it")
    for column in FILES:
        if absent := [name for name in table[column] if not (folder / name).is_file()]:
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


def fingerprint(folder: Path, row: pd.Series) -> list[str]:
    """Return what a case rests on."""
    return [sha256_of(folder / row[column]) for column in FILES]


def read_case(folder: Path, row: pd.Series) -> Case:
    """Read one volume.

    Where its surroundings hold other nodules, nobody says where: all of them are doubtful.
    """
    ct, bits = (folder / row[column] for column in FILES)
    volume = read_image(ct, row["patient_id"])
    readers = read_label_values(bits, volume).astype(np.uint8, copy=False)
    masks = reader_masks(readers)
    if masks.any(axis=(1, 2, 3)).sum() != row["n_readers"]:
        raise DataError(
            f"{bits}: {row['n_readers']:.0f} readers are stated and one of them marked nothing; "
            f"mend {TABLE}"
        )
    doubtful = None
    if row.get("flag") == MERGED:
        doubtful = np.ones(readers.shape, dtype=bool)
    elif row.get("other_annotations_in_voi", 0) > 0:
        doubtful = readers == 0
    said = row.rename({"internalStructure_median": "internal_structure_median"})
    known = {name: said.get(f"{name}_median", np.nan) for name in RATINGS}
    known["origin"] = f"{row['patient_id']}/{row['voi_id'].rsplit('_', 1)[-1]}"
    lesion = lesion_row(row["voi_id"], 1, masks, volume.voxel_volume_mm3) | known
    return Case(
        **dict(row[list(IDENTITY)]),
        volume=volume,
        readers=readers,
        lesion_labels=(readers > 0).astype(np.uint8),
        lesions=lesion_table([lesion]),
        is_window=True,
        doubtful=doubtful,
    )


def windows_of(case: Case) -> Iterator[Case]:
    """Cut out the lesions that enough readers drew, as the real volumes of interest were cut.

    They are as wide in mm. Other lesions that reach into a window are doubtful there.
    """
    scale = PIXEL_MM / case.volume.spacing_mm[1]
    smallest, margin = round(SMALLEST_PX * scale), round(MARGIN_PX * scale)
    for _, lesion in case.lesions[case.lesions["n_readers"] >= MIN_READERS].iterrows():
        block = lesion_voi(case, lesion["label"], smallest, margin)
        labels = case.lesion_labels[block]
        own, others = labels == lesion["label"], (labels > 0) & (labels != lesion["label"])
        affine = case.volume.affine.copy()
        corner_zyx = np.array([side.start for side in block], dtype=float)
        affine[:3, 3] = case.volume.to_patient_mm(corner_zyx)
        yield replace(
            case,
            case_id=lesion["lesion_id"],
            volume=Volume(case.volume.hu[block].copy(), affine, case.volume.identity),
            readers=np.where(own, case.readers[block], np.uint8(0)),
            lesion_labels=own.astype(np.uint8),
            lesions=lesion_table([{**lesion, "label": 1}]),
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
