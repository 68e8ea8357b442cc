from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest

from medlib.review.schema import Lesion, ModelIdentity, Report
from medlib.review.simulated import simulated_decisions
from medlib.risk.metrics import ACCEPTED_DICE

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def report(n_lesions: int) -> Report:
    lesions = [
        Lesion(
            id=k, volume_ml=1, max_diameter_mm=9, score=0.9, center_xyz_mm=(0, 0, 0), slices=(0, 1)
        )
        for k in range(1, n_lesions + 1)
    ]
    return Report(
        series_instance_uid="1.2.3",
        model=ModelIdentity(name="toy", sha256="0" * 64),
        operating_point=0.5,
        lesions=tuple(lesions),
        review_priority="high",
        risk_statement="toy",
        warnings=(),
    )


def candidates(*rows: tuple[str, float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["outcome", "dice"])
    return table.assign(candidate_id=range(1, len(rows) + 1))


@pytest.mark.parametrize(
    ("outcome", "dice", "answer"),
    [
        ("hit", ACCEPTED_DICE, "confirm"),
        ("hit", ACCEPTED_DICE - 0.001, "correct"),
        ("duplicate", 0.9, "correct"),
        ("disputed", 0.9, "escalate"),
        ("false alarm", float("nan"), "reject"),
    ],
)
def test_a_mark(outcome, dice, answer):
    [found] = simulated_decisions(report(1), candidates((outcome, dice)), 0, NOON)
    assert (found.lesion_id, found.answer, found.simulated) == (1, answer, True)
    assert found.role == "simulated reviewer"


def test_a_missed_lesion_corrects_the_case():
    found = simulated_decisions(report(1), candidates(("hit", 0.9), ("hit", 0.1)), 2, NOON)
    assert [(d.lesion_id, d.answer) for d in found] == [(1, "confirm"), (None, "correct")]
    [empty] = simulated_decisions(report(0), candidates(), 1, NOON)
    assert (empty.lesion_id, empty.answer) == (None, "correct")


def test_a_case_rightly_left_empty_is_confirmed():
    [found] = simulated_decisions(report(0), candidates(), 0, NOON)
    assert (found.lesion_id, found.answer) == (None, "confirm")
