from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from medlib.errors import DataError, InputError
from medlib.review.decisions import (
    DECISIONS_FILE,
    Decision,
    append_decision,
    case_outcomes,
    read_decisions,
)
from medlib.review.schema import REPORT_FILE, Lesion, ModelIdentity, Report

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def decision(answer: str, uid: str = "1.2.3", lesion_id: int | None = None, **other) -> Decision:
    return Decision(
        **{
            "series_instance_uid": uid,
            "lesion_id": lesion_id,
            "answer": answer,
            "role": "radiologist",
            "reason": "seen",
            "time": NOON,
            **other,
        }
    )


@pytest.fixture
def folder(tmp_path):
    report = Report(
        series_instance_uid="1.2.3",
        model=ModelIdentity(name="toy", sha256="0" * 64),
        operating_point=0.5,
        lesions=(
            Lesion(
                id=1,
                volume_ml=0.5,
                max_diameter_mm=9,
                score=0.7,
                center_xyz_mm=(1, 2, 3),
                slices=(4, 6),
            ),
        ),
        review_priority="medium",
        risk_statement="toy",
        warnings=(),
    )
    (tmp_path / REPORT_FILE).write_text(report.model_dump_json())
    return tmp_path


def test_round_trip_keeps_order_and_never_rewrites(folder):
    first, second = decision("reject", lesion_id=1), decision("confirm", lesion_id=1)
    assert read_decisions(folder) == []
    append_decision(folder, first)
    before = (folder / DECISIONS_FILE).read_bytes()
    append_decision(folder, second)
    after = (folder / DECISIONS_FILE).read_bytes()
    assert after.startswith(before)
    assert read_decisions(folder) == [first, second]
    assert json.loads(before)["answer"] == "reject"


def test_the_answer_must_belong_to_the_report(folder, tmp_path_factory):
    with pytest.raises(InputError, match=r"about series 1\.2\.3"):
        append_decision(folder, decision("confirm", uid="9.9"))
    with pytest.raises(InputError, match="no lesion 2"):
        append_decision(folder, decision("confirm", lesion_id=2))
    with pytest.raises(InputError, match="no report here"):
        append_decision(tmp_path_factory.mktemp("empty"), decision("confirm"))
    assert not (folder / DECISIONS_FILE).exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"answer": "maybe"},
        {"role": ""},
        {"reason": ""},
        {"time": datetime(2026, 1, 2)},
        {"lesion_id": 0},
        {"patient_name": "no such field"},
    ],
)
def test_what_is_not_a_decision(wrong):
    with pytest.raises(ValidationError):
        decision(**{"answer": "confirm", **wrong})


def test_a_damaged_line_is_named(folder):
    append_decision(folder, decision("confirm"))
    with (folder / DECISIONS_FILE).open("a") as file:
        file.write('{"answer": "confirm"}\n')
    with pytest.raises(DataError, match="line 2 is not a decision"):
        read_decisions(folder)


def test_outcomes_count_cases_not_answers():
    decisions = [
        decision("confirm", "1", 1),
        decision("confirm", "1", 2),
        decision("confirm", "1", 3),
        decision("confirm", "2", 1),
        decision("reject", "2", 2),
        decision("escalate", "3"),
        decision("confirm", "4"),
    ]
    outcomes = case_outcomes(decisions).set_index("series_instance_uid")
    assert outcomes["passed"].to_dict() == {"1": True, "2": False, "3": False, "4": True}
    assert outcomes["n_answers"].to_dict() == {"1": 3, "2": 2, "3": 1, "4": 1}


def test_the_last_answer_about_a_lesion_stands():
    changed = [decision("reject", lesion_id=1), decision("confirm", lesion_id=1)]
    assert case_outcomes(changed)["passed"].tolist() == [True]
    assert case_outcomes(changed[::-1])["passed"].tolist() == [False]


def test_nothing_reviewed_has_no_outcome():
    assert case_outcomes([]).empty
