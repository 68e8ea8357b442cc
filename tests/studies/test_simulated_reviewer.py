from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from medlib.annotation.case import Case
from medlib.images.volume import SeriesIdentity, Volume
from medlib.review.decisions import Answer, Decision
from medlib.review.schema import Lesion, ModelIdentity, Report
from medlib.risk.metrics import ACCEPTED_DICE
from studies.simulated_reviewer import simulated_decisions, simulated_mask

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


def test_the_simulated_mask_redraws_what_was_answered_with_correct():
    def block(*sides: slice) -> np.ndarray:
        mask = np.zeros((4, 12, 12), dtype=bool)
        mask[sides] = True
        return mask

    first, second = block(slice(1, 3), slice(1, 5), slice(1, 5)), block(slice(0, 3), slice(8, 11))
    vessel = block(slice(0, 1), slice(6, 7), slice(6, 8))
    readers = np.where(first | second, 3, 0).astype(np.uint8)
    readers[first & (np.indices(first.shape)[2] == 1)] = 1  # one reader alone
    case = Case(
        *("c", "p", "s", "test"),
        volume=Volume(np.zeros(first.shape, np.float32), np.eye(4), SeriesIdentity("p", "1", "2")),
        readers=readers,
        lesion_labels=(first + 2 * second).astype(np.uint8),
        lesions=pd.DataFrame(),
    )
    model = np.zeros(first.shape, dtype=np.uint16)
    model[1, 1:3, 2:8] = 1
    model[2, 4, 4] = 2  # another piece of the first lesion
    model[vessel] = 3

    def answer(lesion_id: int | None, given: Answer) -> Decision:
        return Decision(
            series_instance_uid="1.2.3",
            lesion_id=lesion_id,
            answer=given,
            role="simulated reviewer",
            reason="toy",
            time=NOON,
        )

    marks = [answer(1, Answer.CORRECT), answer(2, Answer.CORRECT), answer(3, Answer.REJECT)]
    corrected = simulated_mask(case, model, marks)
    np.testing.assert_array_equal(corrected == 1, first & (readers == 3))
    np.testing.assert_array_equal(corrected == 3, vessel)
    assert set(np.unique(corrected)) == {0, 1, 3}
    with_missed = simulated_mask(case, model, [*marks, answer(None, Answer.CORRECT)])
    np.testing.assert_array_equal(with_missed == 4, second)
    np.testing.assert_array_equal(simulated_mask(case, model, []), model)
