"""What `medlib evaluate` says of each window and each whole scan, out of the three tables.

Here a candidate that touches a lesion's outline is no false alarm, however little it overlaps; and
all that is reported of a tumour is held against its outline together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from medlib.risk.intervals import bootstrap_mean
from medlib.risk.matching import MIN_IOU, Matching
from medlib.risk.outline_scores import OUTLINE_METRICS, REFERENCE

SIZES_MM = (0, 5, 7, 10, 15, 20, np.inf)  # bins of the diameter, for the table by size
SIZE_MEANS = ("dice", "model_dice_left_out", "reader_dice_left_out")
WINDOW_METRICS = {  # name: unit, words
    **OUTLINE_METRICS,
    "not_reported": (
        "",
        "share of nodules that search and close look do not report at the operating point; they "
        "get the block around the nodule and no hint where in it, and use neither lung field nor "
        "search for masses",
    ),
    "search_alarms": (
        "per volume",
        "candidates reported by that search that touch no reader's outline; undefined where the "
        "block holds annotations of other nodules",
    ),
}
SCAN_METRICS = {
    "hit": ("", f"share of tumours hit: IoU at least {MIN_IOU:g}, or half inside the boxes"),
    "false_alarms": ("per scan", "candidates reported that do not touch the tumour"),
    "doubtful": (
        "per scan",
        "candidates reported where nobody can say what is healthy: neither hit nor false alarm",
    ),
    "dice": ("", "3D Dice of all that is reported and touches the outlined tumour"),
    "tumour_share": ("", "share of the outlined tumour's voxels that is marked"),
    "tumour_in_field": ("", "share of the outlined tumour's voxels that the lung field keeps"),
}


def window_row(case: pd.Series, tables: Matching, threshold: float) -> dict[str, Any]:
    """Return what is known of one window: its row of the cases, and the two tables cut to it."""
    lesion = tables.lesions.iloc[0]
    best = float(np.nan_to_num(lesion["best_score"])) if lesion["status"] == "required" else np.nan
    is_reported = best > 0 and best >= threshold  # 0: no candidate, at any point
    alarms = _scores(tables.candidates[~_touches(tables.candidates)])
    # Where all of it is doubtful two nodules were drawn as one, and there is no other.
    has_others = 0 < case.get("n_doubtful_voxels", 0) < case["n_voxels"]
    n_alarms = sum(alarm >= threshold for alarm in alarms)
    return {
        "voi_id": case["case_id"],
        "patient_id": case["patient_id"],
        "n_readers": int(case["n_readers"]),
        "diameter_mm": case["diameter_mm"],
        "marked_mm3": case["marked_mm3"],
        **{name: case[name] for name in OUTLINE_METRICS},
        "false_alarms": int(case["false_alarms"]),
        "search_score": best,
        "not_reported": np.nan if np.isnan(best) else float(not is_reported),
        "search_alarm_scores": alarms,
        "search_alarms": np.nan if has_others else float(n_alarms),
        "volume_ml": case["volume_ml"],
        "split": case["split"],
        "seconds": case["seconds"],
    }


def scan_row(case: pd.Series, tables: Matching, threshold: float) -> dict[str, Any]:
    """Return what is known of one whole scan.

    ``best_score`` is that of the surest candidate that hits, reported or not; ``hit`` the share of
    its lesions that are. Where there is no lesion, hit, Dice and share are NaN.
    """
    candidates = tables.candidates
    touches, reported = _touches(candidates), candidates["score"] >= threshold
    to_find = tables.lesions[tables.lesions["status"] == "required"]
    hitting = candidates["outcome"].isin(("hit", "duplicate"))
    alarms = ~touches & (candidates["outcome"] == "false alarm")
    together = candidates[reported & touches]
    right = int(together["n_reference_voxels"].sum())
    marked = int((together["n_voxels"] - together["n_ignored_voxels"]).sum())
    size = int(case["n_reference_voxels"])
    has_outline = size > 0 and case["label_kind"] != "boxes"
    found = (to_find["best_score"] >= threshold).mean()
    # A mass in several pieces is hit where the pieces together are.
    if has_outline and len(to_find) == 1 and right / (marked + size - right) >= MIN_IOU:
        found = 1.0
    return {
        "case": case["case_id"],
        "patient_id": case["patient_id"],
        "outlined": case["label_kind"] not in ("boxes", "none"),
        "n_reported": int(reported.sum()),
        "best_score": candidates.loc[hitting, "score"].max(),
        "hit": float(found),
        "false_alarms": int((alarms & reported).sum()),
        "doubtful": int(((candidates["outcome"] == "doubtful") & reported).sum()),
        "false_alarm_scores": _scores(candidates[alarms]),
        "dice": 2 * right / (marked + size) if has_outline else np.nan,
        "tumour_share": right / size if has_outline else np.nan,
        "tumour_in_field": case.get("tumour_in_field", np.nan),
        "seconds": case["seconds"],
    }


def _touches(candidates: pd.DataFrame) -> pd.Series:
    return candidates["n_reference_voxels"] + candidates["n_ignored_voxels"] > 0


def _scores(candidates: pd.DataFrame) -> list[float]:
    return sorted((round(float(score), 6) for score in candidates["score"]), reverse=True)


class Figures(NamedTuple):
    """How cases of one kind are told of."""

    kind: str
    reference: str
    metrics: Mapping[str, tuple[str, str]]
    row: Callable[[pd.Series, Matching, float], dict[str, Any]]


WINDOWS = Figures("volumes of interest", REFERENCE, WINDOW_METRICS, window_row)
SCANS = Figures("whole scans", "outline or boxes", SCAN_METRICS, scan_row)


def summary(cases: pd.DataFrame, figures: Figures) -> dict[str, Any]:
    """Estimate each metric over the rows of `Figures.row`; of windows by size and split too."""
    if cases.empty:
        return {"n_cases": 0}
    parts = {
        "n_cases": len(cases),
        "n_patients": int(cases["patient_id"].nunique()),
        **_estimates(cases, figures),
    }
    if figures is WINDOWS:
        parts["by_size"] = by_size(cases)
        parts["by_split"] = {
            str(split): {"n_cases": len(group), **_estimates(group, figures)}
            for split, group in cases.groupby("split")
        }
    return parts


def _estimates(cases: pd.DataFrame, figures: Figures) -> dict[str, Any]:
    return {
        name: vars(bootstrap_mean(cases, name, unit=unit))
        for name, (unit, _) in figures.metrics.items()
    }


def by_size(cases: pd.DataFrame) -> list[dict[str, Any]]:
    """Count and average windows by diameter."""
    bins = pd.cut(cases["diameter_mm"], list(SIZES_MM), right=False)
    return [
        {
            "diameter_mm": f"{size.left:g} to {size.right:g}",
            "n": len(group),
            **{name: float(group[name].mean()) for name in SIZE_MEANS},
            **{name: int(group[name].sum()) for name in ("missed", "not_reported")},
        }
        for size, group in cases.groupby(bins, observed=True)
    ]
