"""In which order a human looks: the priority of a case and the queue it stands in."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any

HIGH_SCORE = 0.85
MEDIUM_SCORE = 0.6
LARGE_MM = 20
PRIORITIES = ("high", "medium", "low")


def review_priority(case: Mapping[str, Any]) -> str:
    """Say how soon a human has to look at a case.

    Parameters
    ----------
    case : mapping
        `lesion_score`, a fraction between 0 and 1, and `size_mm`, the largest diameter in mm.

    Returns
    -------
    str
        ``"high"``, ``"medium"`` or ``"low"``.

    Raises
    ------
    ValueError
        If either is NaN: what was not measured must not sink to the end of the queue.
    """
    if isnan(case["lesion_score"]) or isnan(case["size_mm"]):
        raise ValueError(f"a priority needs a score and a size, got {dict(case)}")
    if case["lesion_score"] >= HIGH_SCORE:
        return "high"
    if case["lesion_score"] >= MEDIUM_SCORE or case["size_mm"] >= LARGE_MM:
        return "medium"
    return "low"
