"""Detection by the hit rule of the LUNA16 challenge, beside this project's own.

A candidate hits a lesion where its centre lies within the lesion's radius of the lesion's centre.
Of several that hit one lesion the surest counts, the others count for nothing, and nothing counts
that hits a lesion which is not required. All others are false alarms. The score is the mean of the
sensitivities at seven rates of false alarms a scan, from 1/8 to 8 (Setio et al., Medical Image
Analysis 42:1-13, 2017). Required by LUNA16 is what at least three of four readers drew, from 3 mm;
`LUNA16` has that, `OWN` what this project requires, which is more. The rule is hard on large
lesions that are marked in part, and on small ones marked beside their centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from medlib.annotation.reference import MIN_READERS
from medlib.risk.intervals import Estimate, bootstrap
from medlib.risk.matching import Matching
from medlib.risk.operating_point import FROC_POINTS

AXES = ("z", "y", "x")


class Required(NamedTuple):
    """Which of this project's required lesions count."""

    min_readers: int
    min_diameter_mm: float


LUNA16 = Required(min_readers=3, min_diameter_mm=3.0)
OWN = Required(min_readers=MIN_READERS, min_diameter_mm=0.0)


def rematched(found: Matching, required: Required = LUNA16) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Judge the candidates of `match_case` anew, by distance; return lesions and candidates.

    Lesions that do not have to be found have the status ``disputed``: no miss and no false alarm.
    Their `best_score` is the highest of the candidates that hit.
    """
    counts = (
        (found.lesions["status"] == "required")
        & (found.lesions["n_readers"] >= required.min_readers)
        & (found.lesions["diameter_mm"] >= required.min_diameter_mm)
    )
    lesions = found.lesions[["case_id"]].assign(
        status=np.where(counts, "required", "disputed"), best_score=-np.inf
    )
    candidates = found.candidates[["case_id", "score"]].assign(outcome="false alarm")
    spacing_mm = found.cases.set_index("case_id")[[f"spacing_{axis}_mm" for axis in AXES]]
    centers = [f"center_{axis}" for axis in AXES]
    for case_id, of_case in found.candidates.groupby("case_id"):
        here = found.lesions[found.lesions["case_id"] == case_id]
        ours, theirs = (table[centers].to_numpy(dtype=float) for table in (of_case, here))
        offsets_mm = (ours[:, None] - theirs) * spacing_mm.loc[case_id].to_numpy(dtype=float)
        distance_mm = np.linalg.norm(offsets_mm, axis=2)
        within = distance_mm <= here["diameter_mm"].to_numpy(dtype=float) / 2
        scores = np.where(within, of_case["score"].to_numpy(dtype=float)[:, None], -np.inf)
        lesions.loc[here.index, "best_score"] = scores.max(axis=0)
        candidates.loc[of_case.index[within.any(axis=1)], "outcome"] = "disputed"
        candidates.loc[of_case.index[within[:, counts[here.index]].any(axis=1)], "outcome"] = "hit"
    return lesions.replace(-np.inf, np.nan), candidates


def luna16(found: Matching, required: Required = LUNA16) -> dict[str, Estimate]:
    """Read sensitivity off the curve at each of `FROC_POINTS`, by their text, and their ``"mean"``.

    Undefined where there is no required lesion.
    """
    lesions, candidates = rematched(found, required)
    to_find = lesions[lesions["status"] == "required"].fillna({"best_score": -np.inf})
    alarms = candidates[candidates["outcome"] == "false alarm"]
    scores = {
        case_id: [
            table.loc[table["case_id"] == case_id, column].to_numpy(dtype=float)
            for table, column in ((to_find, "best_score"), (alarms, "score"))
        ]
        for case_id in found.cases["case_id"]
    }

    def mean_sensitivity(cases: pd.DataFrame, points: Sequence[float]) -> float:
        hits, false = (
            np.concatenate([scores[case_id][part] for case_id in cases["case_id"]])
            for part in (0, 1)
        )
        if not len(hits):
            return float("nan")
        # At a rate of k false alarms in all, what is surer than the (k + 1)-th of them is found.
        falling = np.append(-np.sort(-false), -np.inf)
        last = [min(int(point * len(cases)), len(false)) for point in points]
        return float((hits[:, None] > falling[last]).mean())

    points_of = {f"{point:g}": (point,) for point in FROC_POINTS} | {"mean": FROC_POINTS}
    return {
        name: bootstrap(found.cases, partial(mean_sensitivity, points=points))
        for name, points in points_of.items()
    }
