from __future__ import annotations

import math

import pytest

from medlib.review.priority import (
    PRIORITIES,
    case_priority,
    deciding_lesion,
    explained_priority,
    review_priority,
    review_queue,
)


def lesion(score: float, size_mm: float) -> dict[str, float]:
    return {"lesion_score": score, "size_mm": size_mm}


def test_expected_output_of_the_document(capsys):
    cases = [
        {"id": "case-001", "lesion_score": 0.91, "size_mm": 18},
        {"id": "case-002", "lesion_score": 0.44, "size_mm": 5},
        {"id": "case-003", "lesion_score": 0.78, "size_mm": 22},
    ]
    for case in cases:
        print(case["id"], review_priority(case))
    assert capsys.readouterr().out == "case-001 high\ncase-002 low\ncase-003 medium\n"


@pytest.mark.parametrize(
    ("score", "size_mm", "priority"),
    [
        (0.85, 1, "high"),
        (0.8499, 1, "medium"),
        (0.6, 1, "medium"),
        (0.5999, 19.99, "low"),
        (0.5999, 20, "medium"),
        (0.0, 300, "medium"),
        (1.0, 0, "high"),
    ],
)
def test_limits(score, size_mm, priority):
    assert review_priority(lesion(score, size_mm)) == priority


@pytest.mark.parametrize("case", [lesion(math.nan, 30), lesion(0.9, math.nan)])
def test_what_was_not_measured_does_not_sink(case):
    with pytest.raises(ValueError, match="needs a score and a size"):
        review_priority(case)


def test_the_deciding_lesion_has_the_highest_priority_not_the_largest_size():
    small_but_sure, large_but_doubtful = lesion(0.9, 6), lesion(0.3, 40)
    assert deciding_lesion([large_but_doubtful, small_but_sure]) is small_but_sure
    assert deciding_lesion([lesion(0.9, 6), lesion(0.86, 9)]) == lesion(0.86, 9)
    assert deciding_lesion([]) is None
    assert case_priority([]) == "low"
    assert case_priority([large_but_doubtful]) == "medium"


def test_queue_goes_from_high_to_low_then_by_size_and_drops_nobody():
    queue = review_queue(
        {
            "none": [],
            "large": [lesion(0.3, 25)],
            "sure": [lesion(0.95, 4), lesion(0.2, 30)],
            "surer": [lesion(0.86, 12)],
            "small": [lesion(0.3, 5)],
            "middle": [lesion(0.7, 8)],
        }
    )
    assert queue["case_id"].tolist() == ["surer", "sure", "large", "middle", "small", "none"]
    assert queue["position"].tolist() == [1, 2, 3, 4, 5, 6]
    assert queue["priority"].tolist() == ["high", "high", "medium", "medium", "low", "low"]
    last = queue.iloc[-1]
    assert math.isnan(last["lesion_score"])
    assert last["n_lesions"] == 0
    assert last["why"] == "no mark, which rules nothing out"


def test_what_was_not_looked_at_stands_at_the_head_of_the_queue_with_its_reason():
    reason = "no lung was found; the header states BodyPartExamined HEAD"
    queue = review_queue(
        {"sure": [lesion(0.95, 30)], "head": [], "none": [], "belly": []},
        {"head": reason, "belly": "no lung was found", "none": ""},
    )
    assert queue["case_id"].tolist() == ["belly", "head", "sure", "none"]
    assert queue["priority"].tolist() == ["not looked at", "not looked at", "high", "low"]
    assert queue["why"].tolist()[:2] == ["no lung was found", reason]
    assert case_priority([], reason) == "not looked at"
    assert PRIORITIES == ("not looked at", "high", "medium", "low")


def test_empty_queue_keeps_its_columns():
    queue = review_queue({})
    assert len(queue) == 0
    assert {"position", "case_id", "priority", "why"} <= set(queue.columns)


@pytest.mark.parametrize("score", [0.1, 0.59, 0.6, 0.84, 0.85, 1.0])
@pytest.mark.parametrize("size_mm", [3.0, 19.9, 20.0, 50.0])
def test_words_agree_with_the_priority(score, size_mm):
    priority, words = explained_priority(lesion(score, size_mm))
    expected = {
        "score at least 0.85": "high",
        "score at least 0.6": "medium",
        "size at least 20 mm": "medium",
        "score below 0.6, size below 20 mm": "low",
    }
    assert expected[words] == priority == review_priority(lesion(score, size_mm))
