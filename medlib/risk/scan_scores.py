"""How the candidates of a whole real scan stand to its tumour."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medlib.annotation.case import Case
from medlib.baseline.candidates import Prediction
from medlib.images.lungs import lung_field
from medlib.risk.bootstrap import Estimate, bootstrap_mean
from medlib.risk.matching import MIN_IOU

MIN_INSIDE = 0.5  # of a candidate's voxels, where there are only boxes
METRICS = {
    "hit": ("", f"share of tumours hit: IoU at least {MIN_IOU:g}, or half inside the boxes"),
    "false_alarms": ("per scan", "candidates reported that do not touch the tumour"),
    "dice": ("", "3D Dice of all that is reported and touches the outlined tumour"),
    "tumour_share": ("", "share of the outlined tumour's voxels that is marked"),
    "tumour_in_field": ("", "share of the outlined tumour's voxels that the lung field keeps"),
}


def score_scan(scan: Case, found: Prediction, operating_point: float) -> dict[str, Any]:
    """Score the candidates of one whole scan.

    Parameters
    ----------
    scan : Case
    found : Prediction
        On the grid of the scan.
    operating_point : float
        Candidates of a lower score are not reported.

    Returns
    -------
    dict
        ``case``, ``n_reported``, ``best_score`` (of the candidates that hit, reported or not; None
        where none does), ``false_alarm_scores`` (of all candidates that do not touch the tumour,
        reported or not, highest first) and the names of `METRICS`. A candidate that touches the
        tumour is no false alarm; all of them together are held against its outline. Where there is
        no tumour, hit, Dice and share are NaN, and its false alarms are counted.
    """
    reported: list[int] = []
    touching: list[int] = []
    hits: list[float] = []
    alarms: list[float] = []
    tumour, outlined = scan.reference, scan.label_kind != "boxes"
    voxels = np.bincount(found.labels.ravel(), minlength=len(found.candidates) + 1)
    inside = np.bincount(found.labels[tumour], minlength=len(found.candidates) + 1)
    size = int(tumour.sum())
    has_outline = outlined and size > 0
    for candidate in found.candidates.itertuples():
        k = int(candidate.candidate_id)
        if has_outline:
            is_hit = inside[k] / (voxels[k] + size - inside[k]) >= MIN_IOU
        else:
            is_hit = inside[k] / voxels[k] >= MIN_INSIDE
        if is_hit:
            hits.append(float(candidate.score))
        if not inside[k]:
            alarms.append(float(candidate.score))
        if candidate.score >= operating_point:
            reported.append(k)
            if inside[k]:
                touching.append(k)
    right, marked = int(inside[touching].sum()), int(voxels[touching].sum())
    # A mass in several pieces is hit where the pieces together are.
    together = right / (marked + size - right) >= MIN_IOU if has_outline else False
    best = max(hits, default=None)
    hit = float(together or (best is not None and best >= operating_point))
    return {
        "case": scan.case_id,
        "patient_id": scan.case_id,
        "outlined": outlined,
        "n_reported": len(reported),
        "best_score": best,
        "hit": hit if size else float("nan"),
        "false_alarms": len(reported) - len(touching),
        "false_alarm_scores": sorted((round(score, 6) for score in alarms), reverse=True),
        "dice": 2 * right / (marked + size) if has_outline else float("nan"),
        "tumour_share": right / size if has_outline else float("nan"),
        "tumour_in_field": _share_in_field(scan) if has_outline else float("nan"),
    }


def _share_in_field(scan: Case) -> float:
    field = lung_field(scan.volume.hu, scan.volume.spacing_mm)
    return float(field[scan.reference].mean())


def summarise(cases: pd.DataFrame) -> dict[str, Estimate]:
    """Estimate the mean of each metric over scans, resampled by patient."""
    return {name: bootstrap_mean(cases, name, unit=unit) for name, (unit, _) in METRICS.items()}
