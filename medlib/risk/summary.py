"""From metrics to a sentence that a project can act on."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan

from medlib.scope import GATES

TOO_MANY_MISSED = (
    "False negatives are currently too high, so it is not suitable as a high-risk assistance "
    "system yet."
)
RECALL_TOO_LOW = "Recall is still too low; continue improving lesion detection first."
PRELIMINARILY_USABLE = (
    "The metrics are preliminarily usable, but human review and clinical validation are still "
    "required."
)
UNDEFINED = (
    "The metrics are undefined, for no lesion was there to be found; nothing can be said about "
    "the risk."
)


def risk_summary(metrics: Mapping[str, float | None]) -> str:
    """Say in a sentence what `sensitivity` and `false_negative_rate` mean for use.

    False negatives are judged first, because a missed lesion costs most. An undefined metric (NaN,
    or the null of a stored file) passes no gate.
    """
    missed, found = metrics["false_negative_rate"], metrics["sensitivity"]
    if missed is None or found is None or isnan(missed) or isnan(found):
        return UNDEFINED
    if not GATES["false_negative_rate"].passes(missed):
        return TOO_MANY_MISSED
    if not GATES["sensitivity"].passes(found):
        return RECALL_TOO_LOW
    return PRELIMINARILY_USABLE
