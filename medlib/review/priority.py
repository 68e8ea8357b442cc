"""In which order a human looks: the priority of a case and the queue it stands in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan, nan
from typing import Any, Literal, get_args

import pandas as pd

HIGH_SCORE = 0.85
MEDIUM_SCORE = 0.6
LARGE_MM = 20
Priority = Literal["not looked at", "high", "medium", "low"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)


def review_priority(case: Mapping[str, Any]) -> Priority:
    """Say how soon a human has to look at a case.

    It has a `lesion_score` between 0 and 1, and `size_mm`, the largest diameter in mm.

    Raises
    ------
    ValueError
        If either is NaN: what was not measured must not sink to the end of the queue.
    """
    return explained_priority(case)[0]


def explained_priority(
    lesion: Mapping[str, Any] | None, not_looked_at: str = ""
) -> tuple[Priority, str]:
    """Return the priority of a case with this deciding lesion, and why, in words.

    `not_looked_at` is the reason why the model saw nothing of it, if it did not.
    """
    if not_looked_at:
        return "not looked at", not_looked_at
    if lesion is None:
        return "low", "no mark, which rules nothing out"
    score, size_mm = lesion["lesion_score"], lesion["size_mm"]
    if isnan(score) or isnan(size_mm):
        raise ValueError(f"a priority needs a score and a size, got {dict(lesion)}")
    if score >= HIGH_SCORE:
        return "high", f"score at least {HIGH_SCORE}"
    if score >= MEDIUM_SCORE:
        return "medium", f"score at least {MEDIUM_SCORE}"
    if size_mm >= LARGE_MM:
        return "medium", f"size at least {LARGE_MM} mm"
    return "low", f"score below {MEDIUM_SCORE}, size below {LARGE_MM} mm"


def deciding_lesion(lesions: Sequence[Mapping[str, float]]) -> Mapping[str, float] | None:
    """Return the lesion by which a case is ranked: highest priority, then largest, then score.

    None where the case holds no lesion.
    """
    return min(
        lesions,
        key=lambda lesion: (
            PRIORITIES.index(review_priority(lesion)),
            -lesion["size_mm"],
            -lesion["lesion_score"],
        ),
        default=None,
    )


def case_priority(lesions: Sequence[Mapping[str, float]], not_looked_at: str = "") -> Priority:
    """Return the priority of a case: that of its deciding lesion, ``"low"`` where it has none."""
    return explained_priority(deciding_lesion(lesions), not_looked_at)[0]


def review_queue(
    lesions_by_case: Mapping[str, Sequence[Mapping[str, float]]],
    not_looked_at: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Put cases into the order in which a human should look at them.

    Every case stays in the queue, those without a lesion too: the priority orders the work and
    takes none of it away. What was not looked at comes first, for the reason given by case; then
    high before medium before low, and the larger first.

    Given are the `lesion_score` and `size_mm` of each case's lesions at the operating point; those
    of the deciding lesion stand in the table, NaN where there is none. `position` counts from 1.
    """
    rows = []
    for case_id, lesions in lesions_by_case.items():
        lesion = deciding_lesion(lesions)
        priority, why = explained_priority(lesion, (not_looked_at or {}).get(case_id, ""))
        measured = (lesion["lesion_score"], lesion["size_mm"]) if lesion else (nan, nan)
        rows.append((case_id, priority, *measured, len(lesions), why))
    queue = pd.DataFrame(
        rows, columns=["case_id", "priority", "lesion_score", "size_mm", "n_lesions", "why"]
    )
    queue["priority"] = pd.Categorical(queue["priority"], categories=PRIORITIES, ordered=True)
    queue = queue.sort_values(
        ["priority", "size_mm", "case_id"], ascending=[True, False, True], ignore_index=True
    )
    queue.insert(0, "position", range(1, len(queue) + 1))
    return queue
