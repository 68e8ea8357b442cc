from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medlib.gallery.select import ERROR_COLUMNS, FailureRule, SuccessRule
from medlib.risk.matching import Matching

THRESHOLD = 0.5


def lesion(lesion_id, **values):
    base = {
        "case_id": lesion_id.split("-")[0],
        "patient_id": lesion_id.split("-")[0],
        "site": "site-a",
        "split": "test",
        "lesion_id": lesion_id,
        "diameter_mm": 6.0,
        "malignancy": 3.0,
        "n_readers": 3,
        "reader_dice": 0.8,
        "matched_candidate": pd.NA,
        "best_score": np.nan,
        "best_iou": 0.0,
        "dice": np.nan,
        "n_voxels": 100,
    }
    row = base | values
    row["hit"] = float(row["best_score"] >= THRESHOLD)
    return row | {"missed": 1 - row["hit"]} | values


def mark(case_id, candidate_id, outcome, score, **values):
    return {
        "case_id": case_id,
        "patient_id": case_id,
        "site": "site-a",
        "split": "test",
        "candidate_id": candidate_id,
        "outcome": outcome,
        "score": score,
        "diameter_mm": 5.0,
        "dice": np.nan,
        "lesion_id": "",
        "n_voxels": 100,
        "n_reference_voxels": 0,
        "n_ignored_voxels": 0,
        "reported": score >= THRESHOLD,
    } | values


def tables(lesions, candidates=()):
    columns = mark("c", 1, "hit", 1.0)
    return Matching(
        pd.DataFrame(lesions),
        pd.DataFrame(candidates, columns=list(columns)),
        pd.DataFrame(),
    )


def hits(dices, split="test"):
    return [
        lesion(f"c{i:02d}-{split}", best_score=0.9, dice=value, split=split)
        for i, value in enumerate(dices)
    ]


def test_successes_are_ordinary_not_best():
    dices = np.linspace(0.1, 0.9, 9)[::-1]
    chosen = SuccessRule().apply(tables(hits(dices)))
    assert chosen["dice"].tolist() == pytest.approx([0.3, 0.5, 0.7])
    assert chosen["place"].tolist() == [0.25, 0.5, 0.75]


def test_successes_of_each_part_apart_and_never_a_miss():
    rows = [*hits([0.5, 0.6]), *hits([0.1], "external"), lesion("c99-1")]
    chosen = SuccessRule().apply(tables(rows))
    assert chosen["split"].tolist() == ["test", "test", "external"]
    assert chosen["dice"].tolist() == [0.5, 0.6, 0.1]


def test_the_order_of_rows_does_not_matter():
    rows = hits([0.5, 0.5, 0.6, 0.5, 0.7])
    one = SuccessRule().apply(tables(rows))["lesion_id"].tolist()
    assert one == SuccessRule().apply(tables(rows[::-1]))["lesion_id"].tolist()


def test_of_a_few_hits_the_median_stays():
    chosen = SuccessRule().apply(tables(hits([0.4])))
    assert chosen["place"].tolist() == [0.5]
    chosen = SuccessRule().apply(tables(hits([0.4, 0.8])))
    assert chosen[["dice", "place"]].to_numpy().tolist() == [[0.4, 0.5], [0.8, 0.75]]


def test_no_success_at_all():
    assert SuccessRule().apply(tables([lesion("c0-1")])).empty


def test_the_rules_print_their_own_numbers():
    assert "10%, 90%" in SuccessRule((0.1, 0.9)).text
    words = " ".join(
        FailureRule(high_risk_mm=11, low_dice=0.33, readers_agree=0.66, n_shown=7).text
    )
    for number in ("11 mm", "0.33", "0.66", "7 are shown"):
        assert number in words


def example():
    return tables(
        [
            lesion("c0-1", diameter_mm=5.0),
            lesion("c0-2", diameter_mm=7.0, best_score=0.3, best_iou=0.5, dice=0.7),
            lesion("c1-1", diameter_mm=4.0, malignancy=4.5, best_iou=0.05),
            lesion("c1-2", diameter_mm=12.0, best_iou=0.2),
            lesion("c2-1", best_score=0.9, matched_candidate=1, dice=0.4),
            lesion("c2-2", best_score=0.9, matched_candidate=2, dice=0.3, reader_dice=0.5),
            lesion("c2-3", best_score=0.9, matched_candidate=3, dice=0.9),
            lesion("c3-1", n_readers=1, reader_dice=np.nan, hit=np.nan, missed=np.nan),
        ],
        [
            mark("c0", 1, "hit", 0.3, lesion_id="c0-2", dice=0.7),
            mark("c2", 1, "hit", 0.9, lesion_id="c2-1", dice=0.4, n_voxels=190),
            mark("c2", 2, "hit", 0.9, lesion_id="c2-2", dice=0.3),
            mark("c2", 3, "hit", 0.9, lesion_id="c2-3", dice=0.9),
            mark("c2", 4, "duplicate", 0.6, lesion_id="c2-3", dice=0.2),
            mark("c3", 1, "disputed", 0.8, lesion_id="c3-1", dice=0.5),
            mark("c3", 2, "false alarm", 0.6),
            mark("c3", 3, "false alarm", 0.7),
            mark("c3", 4, "false alarm", 0.4),
        ],
    )


def test_errors_come_in_the_order_of_the_analysis():
    errors = FailureRule().apply(example(), THRESHOLD)
    assert list(errors.columns) == list(ERROR_COLUMNS)
    assert errors["group"].drop_duplicates().tolist() == list(FailureRule.groups)
    missed = errors[errors["group"] == "missed"]
    assert missed["lesion_id"].tolist() == ["c1-2", "c1-1", "c0-2", "c0-1"]
    assert missed["high_risk"].tolist() == [True, True, False, False]
    alarms = errors[errors["group"] == "false alarm"]
    assert alarms["score"].tolist() == [0.7, 0.6], "the surest first; unreported ones do not count"


def test_causes_by_the_stage_of_the_error():
    errors = FailureRule().apply(example(), THRESHOLD)
    by_lesion = errors[errors["lesion_id"] != ""].set_index(["group", "lesion_id"])
    found = by_lesion[["cause", "change"]].apply(tuple, axis=1).to_dict()
    assert found == {
        ("missed", "c1-2"): ("marked as one with a neighbour", "rule"),
        ("missed", "c1-1"): ("touched, but outlined too badly", "model"),
        ("missed", "c0-2"): ("scored below the operating point", "rule"),
        ("missed", "c0-1"): ("never marked at any score", "data"),
        ("boundary", "c2-1"): ("drawn too large", "rule"),
        ("boundary", "c2-3"): ("marked in pieces", "rule"),
        ("annotation", "c2-2"): ("readers disagree where it ends", "data"),
        ("annotation", "c3-1"): ("drawn by one reader alone", "data"),
    }


@pytest.mark.parametrize(
    ("n_voxels", "cause"),
    [
        (60, "drawn too small"),
        (150, "drawn too large"),
        (100, "wrong place or shape"),
    ],
)
def test_outline_causes(n_voxels, cause):
    rows = tables(
        [lesion("c0-1", best_score=0.9, matched_candidate=1, dice=0.4)],
        [mark("c0", 1, "hit", 0.9, lesion_id="c0-1", dice=0.4, n_voxels=n_voxels)],
    )
    assert FailureRule().apply(rows, THRESHOLD)["cause"].tolist() == [cause]


@pytest.mark.parametrize(
    ("inside", "cause", "change"),
    [
        ({"n_reference_voxels": 5}, "part of a lesion", "model"),
        ({"n_ignored_voxels": 5}, "beside what one reader", "data"),
        ({}, "apart from every lesion", "data"),
    ],
)
def test_false_alarm_causes(inside, cause, change):
    rows = tables([lesion("c0-1")], [mark("c0", 1, "false alarm", 0.9, **inside)])
    alarm = FailureRule().apply(rows, THRESHOLD).set_index("group").loc["false alarm"]
    assert cause in alarm["cause"]
    assert alarm["change"] == change


def test_only_the_first_of_each_group_are_shown():
    rule = FailureRule(n_shown=1)
    shown = rule.shown(rule.apply(example(), THRESHOLD))
    assert shown["group"].tolist() == list(FailureRule.groups)
    assert shown["lesion_id"].iloc[0] == "c1-2"


def test_no_error_at_all():
    rule = FailureRule()
    errors = rule.apply(tables(hits([0.9])), THRESHOLD)
    assert errors.empty
    assert list(errors.columns) == list(ERROR_COLUMNS)
    assert rule.shown(errors).empty
