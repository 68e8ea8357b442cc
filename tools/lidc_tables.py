"""LIDC-IDRI as tables: a row a scan, a row a nodule, and who stands in which part.

Made from the annotation database and from the index of the Imaging Data Commons; kept in
`data_manifests/`, so that nobody who only reads needs either.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist
from sklearn.model_selection import StratifiedGroupKFold

from medlib import progress
from medlib.annotation import lidc, nodules
from medlib.annotation.nodules import Nodule
from medlib.annotation.reference import MIN_READERS
from medlib.cohorts.splits import check_disjoint
from medlib.errors import DataError
from medlib.images.volume import sphere_diameter_mm
from tools import idc
from tools.croissant import columns

COLLECTION_ID = "lidc_idri"
SPLIT_SEED = 0
EXTERNAL = "external"
# Tenths of the internal patients; `test` is never looked at before the end, `calibrate` is apart
# from `tune` so that what is promised of a threshold holds.
TENTHS = {"train": 6, "tune": 1, "calibrate": 1, "test": 2}
INTERNAL_MANUFACTURERS = 2
SIZE_EDGES_MM = (0.0, 6.0, 10.0, 20.0, np.inf)
SIZE_LABELS = ("< 6 mm", "6 to 10 mm", "10 to 20 mm", ">= 20 mm")
NO_NODULE = "no nodule"


def nodule_table() -> pd.DataFrame:
    """Measure every nodule of the database, about 20 s.

    Returns
    -------
    DataFrame
        A row a cluster of outlines (`nodules.cluster_outlines`), by patient and number. Lists
        inside a cell are joined by ``;`` in the order of `annotation_ids`, one a reader; readers
        are anonymous, and the first of one nodule need not be the first of the next. Diameters:
        `diameter_mm` of the sphere with the readers' median volume, `reader_diameters_mm` of the
        sphere with each reader's volume, `reader_axial_diameters_mm` the longest distance of two
        points of one contour. `unresolved` is 1 where a cluster holds more outlines than there
        were readers, since the rule could not part two nodules.
    """
    scans = lidc.scans()
    rows = []
    for nodule in progress.track(nodules.nodules(), "LIDC-IDRI nodules"):
        voxel_mm3 = float(np.prod(nodule.spacing_mm))
        volumes = nodule.reader_masks().sum(axis=(1, 2, 3)) * voxel_mm3
        z_mm = nodule.slice_positions_mm()
        ratings = nodule.ratings
        rows.append(
            {
                "nodule_id": nodule.origin,
                "patient_id": nodule.patient_id,
                "series_instance_uid": scans.at[nodule.scan_id, "series_instance_uid"],
                "n_readers": nodule.n_readers,
                "unresolved": int(nodule.is_oversized),
                "diameter_mm": round(sphere_diameter_mm(float(np.median(volumes))), 2),
                "reader_diameters_mm": _joined(sphere_diameter_mm(v) for v in volumes),
                "reader_axial_diameters_mm": _joined(_axial_diameters_mm(nodule)),
                "lowest_z_mm": round(float(z_mm[0]), 3),
                "highest_z_mm": round(float(z_mm[-1]), 3),
                **{name: ";".join(map(str, ratings[name])) for name in lidc.RATINGS},
                "annotation_ids": ";".join(map(str, nodule.annotation_ids)),
            }
        )
    return pd.DataFrame(rows)


def scan_table(nodule_rows: pd.DataFrame) -> pd.DataFrame:
    """Join the annotation database, the index of IDC and the nodules of each scan.

    A row a CT scan, by patient and series. `n_slices` counts slice positions, `n_files` the files
    to fetch: a few series hold a position twice.

    Raises
    ------
    DataError
        If the two sources do not name the same series and patients.
    """
    known = lidc.scans().set_index("series_instance_uid")
    public = idc.ct_series(COLLECTION_ID)
    if set(known.index) != set(public.index):
        raise DataError(
            f"the annotation database and IDC {idc.VERSION} differ in "
            f"{len(set(known.index) ^ set(public.index))} series of {len(known)}; expected the same"
        )
    table = known.join(public.drop(columns="patient_id"))
    if not table["patient_id"].equals(public["patient_id"].reindex(table.index)):
        raise DataError("the annotation database and IDC give a series to different patients")
    counts = nodule_counts(nodule_rows).reindex(table.index, fill_value=0)
    table = table.join(counts).reset_index()
    table["slice_spacing_mm"] = table["slice_spacing_mm"].round(4)
    return table.sort_values(["patient_id", "series_instance_uid"])[list(columns()["scans"])]


def check_scan_table(scan_rows: pd.DataFrame, nodule_rows: pd.DataFrame) -> None:
    """Check a table of scans against the annotation database, as far as that knows them.

    Raises
    ------
    DataError
        If a series is missing or too many, or its patient, geometry or number of nodules differs.
    """
    table = scan_rows.set_index("series_instance_uid")
    known = lidc.scans().set_index("series_instance_uid")
    known = known.join(nodule_counts(nodule_rows)).fillna(0).round({"slice_spacing_mm": 4})
    if set(table.index) != set(known.index):
        raise DataError(
            f"the table of scans and the annotation database differ in "
            f"{len(set(table.index) ^ set(known.index))} series; restore the table"
        )
    for column in table.columns.intersection(known.columns):
        differ = table[column] != known[column].reindex(table.index)
        if differ.any():
            raise DataError(
                f"the table of scans differs from the annotation database in {column} of "
                f"{int(differ.sum())} scans, first {differ.idxmax()}; restore the table, or make "
                f"it again: {idc.INSTALL}"
            )


def nodule_counts(nodule_rows: pd.DataFrame) -> pd.DataFrame:
    """Count the nodules of each series by how many readers marked them.

    Series without any nodule are absent.
    """
    series = nodule_rows["series_instance_uid"]
    counts = {
        f"n_nodules_{n}_reader{'s' if n > 1 else ''}": nodule_rows["n_readers"].eq(n)
        for n in range(1, lidc.PANEL_SIZE + 1)
    }
    counts["n_unresolved"] = nodule_rows["unresolved"].eq(1)
    return pd.DataFrame(counts).groupby(series).sum()


def split_table(scan_rows: pd.DataFrame, nodule_rows: pd.DataFrame) -> pd.DataFrame:
    """Give every scan its part; `split_collection` has the rule.

    Strata are the manufacturer, the size of the largest nodule that at least two readers marked,
    and whether there are several of them (told apart below 20 mm only: above, they are too few).
    """
    uid = scan_rows["series_instance_uid"]
    size = scan_size_class(uid, nodule_rows)
    required = nodule_rows[nodule_rows["n_readers"] >= MIN_READERS]
    several = uid.map(required["series_instance_uid"].value_counts()).ge(2)
    several &= size.ne(SIZE_LABELS[-1])
    stratum = scan_rows["manufacturer"] + "/" + size + several.map({True: "/several", False: ""})
    table = scan_rows[["patient_id", "series_instance_uid", "manufacturer"]].copy()
    table["split"] = split_collection(table, stratum, seed=SPLIT_SEED)
    return table


def scan_size_class(series_instance_uid: pd.Series, nodule_rows: pd.DataFrame) -> pd.Series:
    """Name the class of each scan's largest nodule of two readers or more, or `NO_NODULE`."""
    required = nodule_rows[nodule_rows["n_readers"] >= MIN_READERS]
    largest_mm = required.groupby("series_instance_uid")["diameter_mm"].max()
    diameter_mm = series_instance_uid.map(largest_mm)
    classes = pd.cut(diameter_mm, SIZE_EDGES_MM, right=False, labels=SIZE_LABELS)
    return classes.astype(object).fillna(NO_NODULE)


def _axial_diameters_mm(nodule: Nodule) -> list[float]:
    """Return the longest distance of two points of one contour, a reader."""
    return [
        nodule.spacing_mm[1]
        * max(pdist(line.points_yx).max(initial=0.0) for line in lidc.contours(annotation))
        for annotation in nodule.annotation_ids
    ]


def _joined(values: Iterable[float]) -> str:
    return ";".join(f"{value:.2f}" for value in values)


def split_collection(table: pd.DataFrame, stratum: pd.Series, seed: int) -> pd.Series:
    """Assign the scans of a collection of several manufacturers to five parts.

    Manufacturers that are not among the two with most scans are held out whole, as ``external``,
    and with them every scan of a patient whom such a scanner has seen. The others are divided by
    patient in tenths by scikit-learn's `StratifiedGroupKFold`: train 6, tune 1, calibrate 1,
    test 2.

    Parameters
    ----------
    table : DataFrame
        A row a scan with `patient_id` and `manufacturer`.
    stratum : Series of str
        What the parts should share alike; index as in `table`.
    """
    # Sorted, so that the order of rows decides nothing.
    ordered = table.assign(stratum=stratum).sort_values(list(table.columns))
    scans = ordered["manufacturer"].value_counts().sort_index().sort_values(kind="stable")
    held_out = scans.index[:-INTERNAL_MANUFACTURERS]
    elsewhere = ordered.loc[ordered["manufacturer"].isin(held_out), "patient_id"].unique()
    internal = ordered[~ordered["patient_id"].isin(elsewhere)]
    parts = [part for part, tenths in TENTHS.items() for _ in range(tenths)]
    folds = StratifiedGroupKFold(n_splits=len(parts), shuffle=True, random_state=seed).split(
        internal, internal["stratum"], groups=internal["patient_id"]
    )
    split = pd.Series(EXTERNAL, index=ordered.index, name="split")
    for part, (_, fold) in zip(parts, folds, strict=True):
        split[internal.index[fold]] = part
    check_disjoint(ordered.assign(split=split))
    return split.reindex(table.index)
