"""How many nodules there are depends on how near two outlines must come to be one: by how much.

The rule is that of `nodules.cluster_outlines`; only its tolerance is varied.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

from medlib import progress
from medlib.annotation import agreement, lidc, nodules
from medlib.annotation.table_cache import database_key, stored_tables

SLICE_THICKNESS, MM = "slice thickness", "mm"
TOLERANCES = (
    *((SLICE_THICKNESS, times) for times in (0.5, 1.0, 1.5, 2.0)),
    *((MM, distance) for distance in (1.0, 2.5, 5.0)),
)


def tolerance_table() -> pd.DataFrame:
    """Return a row a tolerance: how many nodules there are, and how many readers drew them.

    Returns
    -------
    DataFrame
        `unit` (``"slice thickness"`` or ``"mm"``), `tolerance` in that unit, `nodules`,
        `read_by_1` to `read_by_4`, `oversized` (more outlines than readers), and over the database
        the `miss_rate` of one reader and `false_positives_per_scan` (`agreement.lesion_detection`).
        Measured once (some seconds), then kept on disk.
    """
    key = database_key((sys.modules[__name__],))
    return stored_tables("lidc-tolerance", key, lambda: {"tolerance": _cluster_all()})["tolerance"]


def _cluster_all() -> pd.DataFrame:
    sizes: dict[tuple[str, float], list[int]] = {tolerance: [] for tolerance in TOLERANCES}
    by_scan = lidc.reader_annotations().groupby("scan_id").groups
    scans = lidc.scans().loc[list(by_scan)]
    for scan in progress.track(scans.itertuples(), "clustering tolerances", total=len(scans)):
        points = [
            nodules.outline_points_mm(int(i), scan.pixel_spacing_mm) for i in by_scan[scan.Index]
        ]
        in_mm = {
            (unit, tolerance): tolerance * (scan.slice_thickness_mm if unit != MM else 1.0)
            for unit, tolerance in TOLERANCES
        }
        distance = nodules.smallest_distances(points, max(in_mm.values()))  # once for all
        for tolerance, found in sizes.items():
            found += map(len, nodules.groups_within(distance, in_mm[tolerance]))
    return pd.DataFrame(
        {"unit": unit, "tolerance": tolerance} | _summary(found)
        for (unit, tolerance), found in sizes.items()
    )


def _summary(sizes: list[int]) -> dict[str, float]:
    panel = lidc.PANEL_SIZE
    detected = [agreement.lesion_detection(n) for n in sizes if n <= panel]
    hits, misses, false_positives = np.sum(detected, axis=0)
    return {
        "nodules": len(sizes),
        **{f"read_by_{n}": sizes.count(n) for n in range(1, panel + 1)},
        "oversized": sum(n > panel for n in sizes),
        "miss_rate": misses / (hits + misses),
        "false_positives_per_scan": false_positives / (panel * len(lidc.scans())),
    }
