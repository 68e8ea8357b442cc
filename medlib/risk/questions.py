"""Which question each metric answers, so that nobody reads one for another."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """One row of the evaluation table."""

    metric: str  # as clinicians and engineers call it
    question: str
    keys: tuple[str, ...]  # in `medlib.risk.metrics.METRICS`


QUESTIONS = (
    Question("Dice / IoU", "How well do the marked voxels match the readers'?", ("dice", "iou")),
    Question(
        "Sensitivity / recall",
        "How many of the lesions that are there are found?",
        ("lesion_sensitivity",),
    ),
    Question(
        "False-negative rate",
        "How many of them pass unseen?",
        ("lesion_false_negative_rate",),
    ),
    Question(
        "False alarms a scan",
        "How much needless looking does finding them cost?",
        ("false_alarms_per_scan",),
    ),
    Question(
        "Review pass rate (simulated)",
        "How many marked regions could a reviewer accept as they are?",
        ("simulated_review_pass_rate",),
    ),
)
