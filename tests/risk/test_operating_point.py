from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medlib.errors import OverlapError
from medlib.risk.operating_point import (
    choose_for_sensitivity,
    choose_operating_point,
    froc,
    sensitivity_at,
)


def cases(n, split="tune"):
    return pd.DataFrame({"patient_id": [f"p{i}" for i in range(n)], "split": split})


def candidates(rows, split="tune"):
    found = pd.DataFrame(rows, columns=["score", "outcome"])
    return found.assign(patient_id="p0", split=split)


def reported(table, threshold):
    kept = table[table["score"] >= threshold]
    return (kept["outcome"] == "false alarm").sum()


FALSE = "false alarm"


def test_the_lowest_threshold_that_keeps_the_bound():
    table = candidates([(0.9, "hit"), (0.8, FALSE), (0.7, FALSE), (0.6, FALSE), (0.55, "hit")])
    threshold = choose_operating_point(cases(2), table)
    assert reported(table, threshold) == 2
    assert threshold > 0.6
    assert threshold == pytest.approx(0.6), "no lower threshold keeps the bound"
    assert reported(table, np.nextafter(threshold, 0)) == 3


def test_few_false_alarms_let_everything_through():
    table = candidates([(0.2, FALSE), (0.1, "hit")])
    assert choose_operating_point(cases(1), table) == 0
    assert choose_operating_point(cases(1), candidates([])) == 0


def test_ties_are_left_out_together():
    table = candidates([(0.9, FALSE), (0.5, FALSE), (0.5, FALSE), (0.5, "hit"), (0.6, "hit")])
    threshold = choose_operating_point(cases(2), table)
    assert reported(table, threshold) == 1
    assert ((table["score"] >= threshold) & (table["outcome"] == "hit")).sum() == 1


def test_duplicates_and_disputed_regions_are_no_false_alarms():
    table = candidates([(0.9, "duplicate"), (0.8, "disputed"), (0.7, FALSE)])
    assert choose_operating_point(cases(1), table) == 0


@pytest.mark.parametrize("part", ["test", "external", "train"])
def test_only_tune_patients_may_choose(part):
    with pytest.raises(OverlapError, match=part):
        choose_operating_point(pd.concat([cases(2), cases(1, part)]), candidates([]))
    with pytest.raises(OverlapError, match=part):
        choose_operating_point(cases(2), candidates([(0.5, FALSE)], part))


def test_without_a_tune_scan_there_is_no_choice():
    with pytest.raises(ValueError, match="no tune scan"):
        choose_operating_point(cases(0), candidates([]))


def nodules(scores, part="tune"):
    return pd.DataFrame({"patient_id": "p", "split": part, "best_score": scores})


def test_enough_lesions_are_reported_and_no_lower_score():
    scores = np.arange(1, 31) / 31
    chosen = choose_for_sensitivity(nodules(scores))
    assert (scores >= chosen).sum() == 27
    assert chosen == scores[3]
    assert choose_for_sensitivity(nodules(scores), 1.0) == scores[0]
    assert choose_for_sensitivity(nodules([0.8, 0.8, 0.3]), 0.6) == 0.8
    assert choose_for_sensitivity(nodules([0.8, 0.0])) == 0  # one has no candidate at all


@pytest.mark.parametrize("part", ["test", "external", "calibrate", "train"])
def test_only_tune_lesions_may_choose(part):
    with pytest.raises(OverlapError, match=part):
        choose_for_sensitivity(pd.concat([nodules([0.5]), nodules([0.6], part)]))
    with pytest.raises(ValueError, match="no tune lesion"):
        choose_for_sensitivity(nodules([]))


def lesions(scores, status="required"):
    return pd.DataFrame({"best_score": scores, "status": status})


def test_froc_by_hand():
    found = candidates(
        [(0.9, "hit"), (0.8, FALSE), (0.7, "hit"), (0.6, "disputed"), (0.5, FALSE), (0.4, FALSE)]
    )
    curve = froc(cases(2), lesions([0.9, 0.7, np.nan]), found)
    assert curve["threshold"].tolist() == [np.inf, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    assert curve["sensitivity"].tolist() == pytest.approx([0, 1 / 3, 1 / 3] + [2 / 3] * 4)
    assert curve["false_alarms_per_scan"].tolist() == [0, 0, 0.5, 0.5, 0.5, 1, 1.5]
    points = sensitivity_at(curve)
    assert points.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3])


def test_froc_never_falls():
    rng = np.random.default_rng(0)
    outcomes = rng.choice(["hit", FALSE, "duplicate", "disputed"], 200)
    found = candidates(list(zip(rng.random(200).round(2), outcomes, strict=True)))
    scores = found.loc[found["outcome"] == "hit", "score"]
    curve = froc(cases(7), lesions([*scores, np.nan, np.nan]), found)
    assert curve["sensitivity"].is_monotonic_increasing
    assert curve["false_alarms_per_scan"].is_monotonic_increasing
    assert curve["sensitivity"].iloc[-1] == pytest.approx(len(scores) / (len(scores) + 2))
    assert sensitivity_at(curve).is_monotonic_increasing


def test_disputed_lesions_are_not_to_be_found():
    curve = froc(cases(1), lesions([0.5, 0.5], ["required", "disputed"]), candidates([]))
    assert curve["sensitivity"].max() == 1


def test_a_method_that_marks_nothing():
    curve = froc(cases(3), lesions([np.nan, np.nan]), candidates([]))
    assert curve["sensitivity"].tolist() == [0]
    assert sensitivity_at(curve).tolist() == [0] * 7


def test_without_lesions_sensitivity_is_undefined():
    curve = froc(cases(3), lesions([]), candidates([(0.5, FALSE)]))
    assert curve["sensitivity"].isna().all()
