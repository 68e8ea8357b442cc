"""Volumes of interest: a nodule in its surroundings, as each of its readers outlined it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medlib.annotation.case import Case
from medlib.cohorts.tables import read_table
from medlib.errors import DataError
from medlib.images.image_files import read_image, read_mask
from medlib.images.volume import Volume
from medlib.paths import MANIFESTS

TABLE = "lidc_voi.csv"
SPLIT = MANIFESTS / "lidc_idri_split.csv"
FILES = ("ct_file", "readers_file")
COLUMNS = ("voi_id", "patient_id", *FILES, "n_readers")
MERGED = "merged_cluster_gt4_annotations"  # two nodules in one: no agreement to be had
# How the real ones were cut, in plane; along z they end with the nodule.
SMALLEST_PX, MARGIN_PX = 43, 6
Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class Voi:
    """One volume of interest.

    Attributes
    ----------
    voi_id, patient_id : str
    volume : Volume
        On the scan's own grid.
    readers : ndarray of bool, shape (reader, z, y, x)
        What each reader marked. Readers are anonymous; those who drew nothing are not there.
    """

    voi_id: str
    patient_id: str
    volume: Volume
    readers: Masks


def majority(readers: Masks) -> Masks:
    """Return the voxels that more than half of the readers marked.

    Parameters
    ----------
    readers : ndarray of bool, shape (reader, z, y, x)
    """
    return np.asarray(2 * readers.sum(axis=0) > len(readers))


def left_out(readers: Masks) -> Iterator[tuple[Masks, Masks]]:
    """Yield each reader with the majority of the others; nothing where there are fewer than two."""
    if len(readers) < 2:
        return
    for reader in range(len(readers)):
        yield readers[reader], majority(np.delete(readers, reader, axis=0))


def read_voi_table(folder: Path) -> pd.DataFrame:
    """Read the table of a folder of volumes of interest.

    Raises
    ------
    DataError
        If it lacks a column or names a file that is not there.
    """
    table = read_table(folder / TABLE, COLUMNS, ("voi_id", "patient_id", "flag", *FILES))
    if not pd.api.types.is_integer_dtype(table["n_readers"]) or table["n_readers"].min() < 1:
        raise DataError(f"{folder / TABLE}: n_readers has to be a whole number above 0; mend it")
    for column in FILES:
        absent = [name for name in table[column] if not (folder / name).is_file()]
        if absent:
            raise DataError(
                f"{folder} lacks {len(absent)} of the files in column {column}, the first is "
                f"{absent[0]}; fetch them, or take their rows out of {TABLE}"
            )
    return table


def read_voi(folder: Path, row: pd.Series) -> Voi:
    """Read one volume of interest of `read_voi_table`.

    Raises
    ------
    DataError
        If a reader named by the table marked nothing.
    """
    volume = read_image(folder / row["ct_file"], row["patient_id"])
    bits = read_mask(folder / row["readers_file"], volume)
    readers = np.stack([(bits >> reader & 1).astype(bool) for reader in range(row["n_readers"])])
    if not readers.any(axis=(1, 2, 3)).all():
        raise DataError(
            f"{folder / row['readers_file']}: {row['n_readers']} readers are stated and one of "
            f"them marked nothing; mend {TABLE}"
        )
    return Voi(row["voi_id"], row["patient_id"], volume, readers)


def lesion_voi(
    case: Case, label: int, smallest_px: int = SMALLEST_PX, margin_px: int = MARGIN_PX
) -> tuple[slice, slice, slice]:
    """Return the crop around a lesion of a case, as the real volumes of interest were cut.

    Parameters
    ----------
    case : Case
    label : int
        Of `Case.lesion_labels`.
    smallest_px, margin_px : int
        Its least side in plane, and how much more than the outlines it shows on each side.
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


def split_of_patients(patient_ids: pd.Series) -> pd.Series:
    """Look patients of LIDC-IDRI up in the project's split.

    Returns
    -------
    Series of str
        ``train``, ``tune``, ``calibrate``, ``test`` or ``external``; empty for other patients.
    """
    return patient_ids.map(_split()).fillna("")


def patients_of(split: str) -> set[str]:
    """Return the patients of LIDC-IDRI in one part of the project's split."""
    known = _split()
    return set(known.index[known == split])


def _split() -> pd.Series:
    table = pd.read_csv(SPLIT).drop_duplicates("patient_id")
    return table.set_index("patient_id")["split"]
