"""Which score is high enough: the operating point, and what every other choice would have given."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medlib.errors import OverlapError

MAX_FALSE_ALARMS_PER_SCAN = 1.0
RULE = (
    "the lowest lesion score at which the tune part has at most "
    f"{MAX_FALSE_ALARMS_PER_SCAN:g} false alarm a scan"
)

MIN_SENSITIVITY = 0.9
SENSITIVITY_RULE = (
    f"the highest lesion score at which at least {MIN_SENSITIVITY:.0%} of the nodules of the tune "
    "part are reported, searched for in the blocks around them"
)

ALARM_BAR = 2  # false alarms a whole real scan, set before training; no threshold is chosen by it
# False alarms a scan at which LUNA16 reads sensitivity off the curve.
FROC_POINTS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)


def choose_operating_point(
    cases: pd.DataFrame,
    candidates: pd.DataFrame,
    max_false_alarms_per_scan: float = MAX_FALSE_ALARMS_PER_SCAN,
) -> float:
    """Choose the lowest score threshold that keeps false alarms in bounds on the tune part.

    A candidate counts where its score is at least this: 0 where even all of them keep the bound.
    Candidates tied with the first false alarm too many are all left out. The tables are those of
    `Matching`, cut to the tune part: OverlapError at any other row, ValueError without a scan.
    """
    for table in (cases, candidates):
        _check_tune(table)
    if cases.empty:
        raise ValueError("no tune scan to choose the operating point on; give at least one")
    false_alarms = candidates.loc[candidates["outcome"] == "false alarm", "score"]
    allowed = int(max_false_alarms_per_scan * len(cases))
    if len(false_alarms) <= allowed:
        return 0.0
    first_too_many = false_alarms.sort_values(ascending=False).iloc[allowed]
    return float(np.nextafter(float(first_too_many), np.inf))


def choose_for_sensitivity(
    lesions: pd.DataFrame, min_sensitivity: float = MIN_SENSITIVITY
) -> float:
    """Choose the highest score threshold at which enough lesions of the tune part are reported.

    A candidate counts where its score is at least this: 0 where even all of them hit too few. Of a
    lesion without a hit, `best_score` is 0. Raises as `choose_operating_point` does.
    """
    _check_tune(lesions)
    if lesions.empty:
        raise ValueError("no tune lesion to choose the operating point on; give at least one")
    falling = np.sort(lesions["best_score"].to_numpy(dtype=float))[::-1]
    enough = int(np.ceil(round(min_sensitivity * len(falling), 9)))
    return float(falling[enough - 1])


def _check_tune(table: pd.DataFrame) -> None:
    """Refuse other parts: a threshold chosen on test patients flatters the test."""
    others = table[table["split"] != "tune"]
    if len(others):
        raise OverlapError(
            f"patient {others['patient_id'].iloc[0]} of part '{others['split'].iloc[0]}' was "
            "given to choose the operating point; give tune patients only"
        )


def froc(cases: pd.DataFrame, lesions: pd.DataFrame, candidates: pd.DataFrame) -> pd.DataFrame:
    """Trace sensitivity against false alarms a scan over every score threshold.

    The tables are those of `Matching`. Thresholds fall from infinity, where nothing is marked.
    """
    scores = lesions.loc[lesions["status"] == "required", "best_score"].astype(float)
    false_alarms = candidates.loc[candidates["outcome"] == "false alarm", "score"]
    thresholds = np.unique([np.inf, *scores.dropna(), *candidates["score"]])[::-1]
    reached = scores.fillna(-np.inf).to_numpy()  # a lesion never hit reaches no threshold
    n_hit = (reached[None] >= thresholds[:, None]).sum(axis=1)
    n_false = (false_alarms.to_numpy()[None] >= thresholds[:, None]).sum(axis=1)
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "sensitivity": n_hit / len(scores) if len(scores) else np.nan,
            "false_alarms_per_scan": n_false / len(cases) if len(cases) else np.nan,
        }
    )


def sensitivity_at(curve: pd.DataFrame) -> pd.Series:
    """Read the best sensitivity within each of `FROC_POINTS` off a curve; their mean is LUNA16's.

    The curve is taken as steps: only thresholds that exist are counted, nothing is interpolated
    between them.
    """
    found = {
        point: curve.loc[curve["false_alarms_per_scan"] <= point, "sensitivity"].max()
        for point in FROC_POINTS
    }
    return pd.Series(found, name="sensitivity").rename_axis("false_alarms_per_scan")
