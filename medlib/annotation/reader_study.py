"""The agreement of the LIDC-IDRI readers as tables: a row a nodule, a pair, a reader or a scan.

Every table carries `patient_id`, so that intervals can be taken over patients. One pass over the
database (about ten seconds) fills them; it is kept on disk under a key made from the database and
from the code that measures.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from medlib import paths, progress
from medlib.annotation import agreement, lidc, nodules, outlines
from medlib.annotation.nodules import Nodule, equivalent_diameter_mm

DIAMETER_EDGES_MM = (0.0, 6.0, 10.0, 20.0, np.inf)
DIAMETER_LABELS = ("< 6 mm", "6 to 10 mm", "10 to 20 mm", ">= 20 mm")


def nodule_table() -> pd.DataFrame:
    """Return a row a nodule, clusters with more outlines than readers left out.

    Returns
    -------
    DataFrame
        `origin`, `patient_id`, `scan_id`, `n_readers`, `diameter_mm` (of the sphere of the
        readers' median volume), `min_voxels` (of the smallest reader mask), `agreed_voxels`
        (marked by at least two readers, or by the one), `union_over_mean` (volume of the union
        over the readers' mean).
    """
    return _measured()["nodules"]


def pair_table() -> pd.DataFrame:
    """Return a row a pair of readers of one nodule.

    Returns
    -------
    DataFrame
        The columns of `nodule_table` with `dice_3d`, `n_shared_slices`, `dice_2d`.
    """
    return _measured()["pairs"]


def majority_table() -> pd.DataFrame:
    """Return a row a reader of a four-reader nodule against the majority of the other three.

    Returns
    -------
    DataFrame
        The columns of `nodule_table` with `dice_3d`, `voxel_false_negative_rate`.
    """
    return _measured()["majority"]


def detection_table() -> pd.DataFrame:
    """Return a row a scan: each of the four readers against the other three, lesion by lesion.

    Returns
    -------
    DataFrame
        `scan_id`, `patient_id`, `hits`, `misses`, `false_positives` (see
        `agreement.lesion_detection`) and `n_reads`, the readers summed over. Scans on which no
        nodule was outlined have zeros.
    """
    table = nodule_table()
    counted = [agreement.lesion_detection(n) for n in table["n_readers"]]
    columns = ["hits", "misses", "false_positives"]
    by_scan = pd.DataFrame(counted, columns=columns).groupby(table["scan_id"].to_numpy()).sum()
    scans = lidc.scans()[["patient_id"]].join(by_scan).fillna(dict.fromkeys(columns, 0))
    scans[columns] = scans[columns].astype(int)
    return scans.assign(n_reads=lidc.PANEL_SIZE).reset_index()


def rating_table(rating: str) -> pd.DataFrame:
    """Return a row a nodule with two to four readers: how many gave which rating.

    Parameters
    ----------
    rating : str
        One of `lidc.RATINGS`.

    Returns
    -------
    DataFrame
        `origin`, `patient_id`, and a column for each category (1, 2, ...) with its count.
    """
    marked = [nodule for nodule in nodules.nodules() if 2 <= nodule.n_readers <= 4]
    given: dict[int, int] = lidc.reader_annotations()[rating].to_dict()
    categories = range(1, max(given.values()) + 1)
    counts = [
        np.bincount([given[i] for i in nodule.annotation_ids], minlength=len(categories) + 1)[1:]
        for nodule in marked
    ]
    table = pd.DataFrame(counts, columns=list(categories))
    table.insert(0, "origin", [nodule.origin for nodule in marked])
    table.insert(1, "patient_id", [nodule.patient_id for nodule in marked])
    return table


def alpha(table: pd.DataFrame) -> float:
    """Return the ordinal Krippendorff alpha of a `rating_table` or a resample of it."""
    counts = table[[column for column in table.columns if isinstance(column, int)]]
    return agreement.krippendorff_alpha(counts.to_numpy())


def _measure(marked: Sequence[Nodule]) -> dict[str, pd.DataFrame]:
    rows: dict[str, list[dict[str, object]]] = {"nodules": [], "pairs": [], "majority": []}
    for nodule in progress.track(marked, "LIDC-IDRI nodules"):
        masks = nodule.reader_masks()
        voxels = masks.sum(axis=(1, 2, 3))
        volume_mm3 = float(np.median(voxels) * np.prod(nodule.spacing_mm))
        union = int(masks.any(axis=0).sum())
        facts: dict[str, object] = {
            "origin": nodule.origin,
            "patient_id": nodule.patient_id,
            "scan_id": nodule.scan_id,
            "n_readers": nodule.n_readers,
            "diameter_mm": equivalent_diameter_mm(volume_mm3),
            "min_voxels": int(voxels.min()),
            "agreed_voxels": int((masks.sum(axis=0) >= min(2, nodule.n_readers)).sum()),
            "union_over_mean": union / voxels.mean() if union else float("nan"),
        }
        rows["nodules"].append(facts)
        rows["pairs"] += [
            {
                **facts,
                "dice_3d": pair.dice_3d,
                "n_shared_slices": pair.n_shared_slices,
                "dice_2d": pair.dice_2d,
            }
            for pair in agreement.pairwise_agreement(masks)
        ]
        if nodule.n_readers == lidc.PANEL_SIZE:
            rows["majority"] += [
                {
                    **facts,
                    "dice_3d": one.dice_3d,
                    "voxel_false_negative_rate": one.voxel_false_negative_rate,
                }
                for one in agreement.reader_vs_majority(masks)
            ]
    return {name: pd.DataFrame(table) for name, table in rows.items()}


@functools.cache
def _measured() -> dict[str, pd.DataFrame]:
    """Read the tables from disk, or measure them and keep them there."""
    folder = paths.DATA / f"lidc-reader-study-{_key()}"
    if not folder.is_dir():
        tables = _measure([nodule for nodule in nodules.nodules() if not nodule.is_oversized])
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".reader-study-"))
        for name, table in tables.items():
            table.to_csv(beside / f"{name}.csv", index=False, float_format="%.6g")
        try:
            beside.replace(folder)
        except OSError:  # another process was faster
            shutil.rmtree(beside)
    return {name: pd.read_csv(folder / f"{name}.csv") for name in ("nodules", "pairs", "majority")}


def _key() -> str:
    digest = hashlib.sha256(lidc.database_path().read_bytes())
    for module in (lidc, outlines, nodules, agreement):
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()[:16]
