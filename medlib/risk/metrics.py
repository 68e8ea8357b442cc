"""The metrics of a run: what each is the mean of, and over which rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from medlib.risk.intervals import Estimate, bootstrap_mean
from medlib.risk.matching import Matching
from medlib.risk.voxel import VoxelCounts

# A marked region passes the simulated review where it agrees with the readers' consensus at least
# as well as all but the most discordant pairs of readers agree with each other: the 5th
# percentile of the pairwise 3D Dice of LIDC-IDRI readers.
ACCEPTED_DICE = 0.56


@dataclass(frozen=True)
class Metric:
    """The mean of a column, resampled by patient."""

    table: Literal["lesions", "candidates", "cases"]
    column: str
    words: str
    unit: str = ""


METRICS = {
    "lesion_sensitivity": Metric("lesions", "hit", "required lesions hit"),
    "lesion_false_negative_rate": Metric("lesions", "missed", "required lesions missed"),
    "false_alarms_per_scan": Metric("cases", "n_false_alarms", "false alarms", "per scan"),
    "matched_dice": Metric("lesions", "hit_dice", "Dice of the lesions hit"),
    "matched_iou": Metric("lesions", "hit_iou", "IoU of the lesions hit"),
    "dice": Metric("cases", "dice", "Dice of all marked voxels of a scan"),
    "iou": Metric("cases", "iou", "IoU of all marked voxels of a scan"),
    "voxel_sensitivity": Metric("cases", "sensitivity", "reference voxels of a scan marked"),
    "voxel_false_negative_rate": Metric(
        "cases", "false_negative_rate", "reference voxels of a scan left out"
    ),
    "voxel_specificity": Metric("cases", "specificity", "other voxels of a scan left alone"),
    "accuracy": Metric("cases", "accuracy", "voxels of a scan that agree"),
    "simulated_review_pass_rate": Metric(
        "candidates", "accepted", f"marked regions with Dice of at least {ACCEPTED_DICE:g}"
    ),
}


# As clinicians and engineers call it, which question it answers, and the names that do: so that
# nobody reads one metric for another.
QUESTIONS = (
    ("Dice / IoU", "How well do the marked voxels match the readers'?", ("dice", "iou")),
    (
        "Sensitivity / recall",
        "How many of the lesions that are there are found?",
        ("lesion_sensitivity",),
    ),
    ("False-negative rate", "How many of them pass unseen?", ("lesion_false_negative_rate",)),
    (
        "False alarms a scan",
        "How much needless looking does finding them cost?",
        ("false_alarms_per_scan",),
    ),
    (
        "Review pass rate (simulated)",
        "How many marked regions could a reviewer accept as they are?",
        ("simulated_review_pass_rate",),
    ),
)


def at_operating_point(matching: Matching, threshold: float) -> Matching:
    """Add to each table what holds once only candidates of this score are reported.

    `hit` and `missed` are NaN for disputed lesions; `accepted`, the simulated review, for what is
    disputed or not reported. The voxel metrics of a scan leave disputed lesions out.
    """
    lesions, candidates = matching.lesions.copy(), matching.candidates.copy()
    required = lesions["status"] == "required"
    hit = lesions["best_score"] >= threshold
    lesions["hit"] = hit.astype(float).where(required)
    lesions["missed"] = 1 - lesions["hit"]
    lesions["hit_dice"] = lesions["dice"].where(hit)
    lesions["hit_iou"] = lesions["iou"].where(hit)

    candidates["reported"] = candidates["score"] >= threshold
    accepted = (candidates["outcome"] == "hit") & (candidates["dice"] >= ACCEPTED_DICE)
    judged = candidates["reported"] & (candidates["outcome"] != "disputed")
    candidates["accepted"] = accepted.astype(float).where(judged)

    cases = _count(matching.cases, lesions, candidates[candidates["reported"]])
    return Matching(lesions, candidates, cases)


def _count(cases: pd.DataFrame, lesions: pd.DataFrame, reported: pd.DataFrame) -> pd.DataFrame:
    cases = cases.copy()

    def per_case(values: pd.Series, case_ids: pd.Series) -> pd.Series:
        sums = values.groupby(case_ids).sum()
        return cases["case_id"].map(sums).fillna(0).astype(int)

    cases["n_hit"] = per_case(lesions["hit"], lesions["case_id"])
    cases["n_missed"] = per_case(lesions["missed"], lesions["case_id"])
    for outcome, column in (("false alarm", "n_false_alarms"), ("duplicate", "n_duplicates")):
        cases[column] = per_case(reported["outcome"] == outcome, reported["case_id"])
    right = per_case(reported["n_reference_voxels"], reported["case_id"])
    marked = per_case(reported["n_voxels"] - reported["n_ignored_voxels"], reported["case_id"])
    reference, counted = cases["n_reference_voxels"], cases["n_voxels"] - cases["n_ignored_voxels"]
    rest = counted - reference - marked + right
    return cases.assign(**VoxelCounts(right, marked - right, reference - right, rest).metrics())


def estimate(name: str, matching: Matching) -> Estimate:
    """Estimate one of `METRICS` over the tables of `at_operating_point`, with its interval."""
    metric = METRICS[name]
    table = getattr(matching, metric.table)
    found = bootstrap_mean(table, metric.column, unit=metric.unit)
    return replace(found, method=f"{metric.words}: {found.method}")


def estimate_by(name: str, matching: Matching, groups: pd.Series) -> pd.DataFrame:
    """Estimate one of `METRICS` in each group of its rows; counts are of where it is defined.

    `groups` has the index of the metric's table; rows without a group (NaN) stay out. A categorical
    keeps its order, and groups without rows stay in.
    """
    metric = METRICS[name]
    table = getattr(matching, metric.table)
    table = table[table[metric.column].notna()]
    found = {}
    for group, rows in table.groupby(groups.reindex(table.index), observed=False):
        mean = bootstrap_mean(rows, metric.column)
        found[group] = (len(rows), mean.n, mean.value, mean.low, mean.high)
    columns = ["rows", "patients", "value", "low", "high"]
    return pd.DataFrame.from_dict(found, orient="index", columns=columns).rename_axis(groups.name)


def select(matching: Matching, **values: str) -> Matching:
    """Cut the tables to the rows where columns have these values: ``split="test"``."""
    tables = (matching.lesions, matching.candidates, matching.cases)
    wanted = pd.Series(values, dtype=object)
    return Matching(*(table[(table[wanted.index] == wanted).all(axis=1)] for table in tables))
