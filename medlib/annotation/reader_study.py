"""The agreement of the LIDC-IDRI readers as tables: a row a nodule, a pair, a reader or a scan.

Every table carries `patient_id`, so that intervals can be taken over patients.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medlib import progress
from medlib.annotation import agreement, lidc, nodules, policies, surface
from medlib.annotation.nodules import Nodule
from medlib.annotation.table_cache import database_key, stored_tables
from medlib.images.volume import sphere_diameter_mm

DIAMETER_EDGES_MM = (0.0, 6.0, 10.0, 20.0, np.inf)
DIAMETER_LABELS = ("< 6 mm", "6 to 10 mm", "10 to 20 mm", ">= 20 mm")
STAPLE_STEP = 3  # STAPLE takes longer than all the rest: every third nodule is enough to compare
DETECTION = ["hits", "misses", "false_positives"]

Row = dict[str, object]


def nodule_table() -> pd.DataFrame:
    """Return a row a nodule with the columns of `_facts`, oversized clusters left out.

    All other tables of nodules carry these columns too.
    """
    return _measured()["nodules"]


def pair_table() -> pd.DataFrame:
    """Return a row a pair of readers of one nodule, with `agreement.PairAgreement` and `iou_3d`.

    For nodules of four readers also with `surface.SurfaceDistances`.
    """
    return _with_iou(_measured()["pairs"])


def oversized_pair_table() -> pd.DataFrame:
    """Return a row a pair of outlines of an oversized cluster, which no other table holds."""
    return _with_iou(_measured()["oversized"])


def policy_table() -> pd.DataFrame:
    """Return a row a nodule and policy of `policies.LABEL_POLICIES`; STAPLE for every third nodule.

    `voxels` is the sum of a soft label, `volume_over_mean` that over the readers' mean volume,
    `dice_with_reader` the mean over those who drew the nodule, soft where the label is.
    """
    return _measured()["policies"].merge(nodule_table(), on="origin", validate="many_to_one")


def majority_table() -> pd.DataFrame:
    """Return a row a reader of a four-reader nodule: `agreement.MajorityAgreement`, `iou_3d`."""
    return _with_iou(_measured()["majority"])


def alone_table() -> pd.DataFrame:
    """Return a row a nodule with the panel's counts of `agreement.lesion_detection`."""
    table = nodule_table()
    counted = [agreement.lesion_detection(n) for n in table["n_readers"]]
    return table.join(pd.DataFrame(counted, columns=DETECTION, index=table.index))


def detection_table() -> pd.DataFrame:
    """Return a row a scan: the sums of `alone_table`, and `n_reads`, the readers summed over."""
    by_scan = alone_table().groupby("scan_id")[DETECTION].sum()
    scans = lidc.scans()[["patient_id"]].join(by_scan).fillna(dict.fromkeys(DETECTION, 0))
    scans[DETECTION] = scans[DETECTION].astype(int)
    return scans.assign(n_reads=lidc.PANEL_SIZE).reset_index()


def miss_table() -> pd.DataFrame:
    """Return a row a reader and nodule that at least two others drew; `missed` is 0 or 1."""
    table = alone_table()
    parts = [
        table.loc[table.index.repeat(table[column])].assign(missed=missed)
        for column, missed in (("hits", 0), ("misses", 1))
    ]
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)


def rating_table(rating: str) -> pd.DataFrame:
    """Return a row a nodule with two to four readers: how many gave category 1, 2, ..."""
    marked = [nodule for nodule in nodules.nodules() if 2 <= nodule.n_readers <= 4]
    given: dict[int, int] = lidc.reader_annotations()[rating].to_dict()
    categories = range(1, max(given.values()) + 1)
    counts = [
        np.bincount([given[i] for i in nodule.annotation_ids], minlength=len(categories) + 1)[1:]
        for nodule in marked
    ]
    who = pd.DataFrame([[n.origin, n.patient_id] for n in marked], columns=["origin", "patient_id"])
    return who.join(pd.DataFrame(counts, columns=list(categories)))


def coincidence_table(rating: str) -> pd.DataFrame:
    """Return a row a patient: the summed coincidences of a rating, one a pair of categories."""
    table = rating_table(rating)
    counts = table.drop(columns=["origin", "patient_id"]).to_numpy()
    units = pd.DataFrame(agreement.coincidences(counts).reshape(len(table), -1))
    return units.groupby(table["patient_id"]).sum().reset_index()


def alpha(table: pd.DataFrame) -> float:
    """Return the ordinal Krippendorff alpha of a `coincidence_table` or a resample of it."""
    total = table.drop(columns="patient_id").to_numpy().sum(axis=0)
    side = round(len(total) ** 0.5)
    return agreement.ordinal_alpha(total.reshape(side, side))


def _with_iou(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(iou_3d=table["dice_3d"] / (2 - table["dice_3d"]))


def _measure(marked: Sequence[Nodule]) -> dict[str, pd.DataFrame]:
    rows: dict[str, list[Row]] = {
        name: [] for name in ("nodules", "pairs", "oversized", "majority", "policies")
    }
    for nodule in progress.track(marked, "LIDC-IDRI nodules"):
        masks = nodule.reader_masks()
        facts = _facts(nodule, masks)
        pairs = [facts | vars(pair) for pair in agreement.pairwise_agreement(masks)]
        if nodule.is_oversized:
            rows["oversized"] += pairs
            continue
        rows["nodules"].append(facts)
        with_staple = len(rows["nodules"]) % STAPLE_STEP == 0
        rows["policies"] += _policies(nodule.origin, masks, with_staple)
        if nodule.n_readers == lidc.PANEL_SIZE:
            apart = surface.pairwise_surface_distances(masks, nodule.spacing_mm)
            pairs = [pair | vars(one) for pair, one in zip(pairs, apart, strict=True)]
            rows["majority"] += [facts | vars(one) for one in agreement.reader_vs_majority(masks)]
        rows["pairs"] += pairs
    return {name: pd.DataFrame(table) for name, table in rows.items()}


def _facts(nodule: Nodule, masks: NDArray[np.bool_]) -> Row:
    voxels = masks.sum(axis=(1, 2, 3))
    volume_mm3 = float(np.median(voxels) * np.prod(nodule.spacing_mm))
    union = int(masks.any(axis=0).sum())
    return {
        "origin": nodule.origin,
        "patient_id": nodule.patient_id,
        "scan_id": nodule.scan_id,
        "n_readers": nodule.n_readers,
        "diameter_mm": sphere_diameter_mm(volume_mm3),  # of the median volume
        "min_voxels": int(voxels.min()),  # of the smallest reader mask
        # marked by at least two readers, or by the one
        "agreed_voxels": int((masks.sum(axis=0) >= min(2, nodule.n_readers)).sum()),
        "union_over_mean": union / voxels.mean() if union else float("nan"),
        "slice_spacing_mm": nodule.spacing_mm[0],
        **nodule.ratings[["texture", "subtlety"]].median(),
    }


def _policies(origin: str, masks: NDArray[np.bool_], with_staple: bool) -> list[Row]:
    readers = policies.bit_field(masks)
    voxels = masks.sum(axis=(1, 2, 3))
    rows: list[Row] = []
    for name, policy in policies.LABEL_POLICIES.items():
        if name == "STAPLE" and not with_staple:
            continue
        label = policy(readers)
        total = float(label.sum())
        both = total + voxels
        shared = 2.0 * (masks * label).sum(axis=(1, 2, 3))
        overlap = np.divide(shared, both, out=np.full(len(masks), np.nan), where=both > 0)
        rows.append(
            {
                "origin": origin,
                "policy": name,
                "voxels": total,
                "volume_over_mean": total / voxels.mean() if voxels.any() else float("nan"),
                "dice_with_reader": float(overlap.mean()),
            }
        )
    return rows


@functools.cache
def _measured() -> dict[str, pd.DataFrame]:
    key = database_key([sys.modules[__name__]])
    return stored_tables("lidc-reader-study", key, lambda: _measure(nodules.nodules()))
