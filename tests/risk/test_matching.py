from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from medlib.annotation.case import LESION_COLUMNS, Case
from medlib.baseline.candidates import CANDIDATE_COLUMNS, Prediction
from medlib.images.volume import SeriesIdentity, Volume
from medlib.risk.matching import MIN_IOU, concatenate, match_case
from medlib.risk.metrics import (
    ACCEPTED_DICE,
    at_operating_point,
    estimate,
    estimate_by,
    select,
)
from medlib.risk.voxel import count_voxels

SHAPE = (4, 12, 40)


def box(x_from, x_to, y_from=2, y_to=8):
    """Return the indices of a block of the toy grid."""
    return np.s_[1:3, y_from:y_to, x_from:x_to]


def case(lesions, case_id="c0", split="test"):
    """Build a case; each lesion is a list of boxes, one a reader."""
    readers = np.zeros(SHAPE, np.uint8)
    labels = np.zeros(SHAPE, np.uint8)
    rows = []
    for label, boxes in enumerate(lesions, start=1):
        for reader, where in enumerate(boxes):
            readers[where] |= 1 << reader
            labels[where] = label
        rows.append(
            dict.fromkeys(LESION_COLUMNS, 3.0)
            | {"lesion_id": f"{case_id}-{label}", "label": label, "n_readers": len(boxes)}
        )
    identity = SeriesIdentity(case_id, "1.2", "1.2.3")
    volume = Volume(np.zeros(SHAPE, np.float32), np.eye(4), identity)
    table = pd.DataFrame(rows, columns=list(LESION_COLUMNS))
    return Case(case_id, case_id, "site-a", split, volume, readers, labels, table)


def prediction(*marks):
    """Build a prediction; a mark is (score, box)."""
    labels = np.zeros(SHAPE, np.uint16)
    rows = []
    for number, (score, where) in enumerate(marks, start=1):
        labels[where] = number
        rows.append(
            dict.fromkeys(CANDIDATE_COLUMNS, 1.0) | {"candidate_id": number, "score": score}
        )
    table = pd.DataFrame(rows, columns=list(CANDIDATE_COLUMNS))
    return Prediction(np.zeros(SHAPE, np.float16), labels, table)


def both(*where):
    return [list(where) * 2]


def outcomes(matching):
    return matching.candidates["outcome"].tolist()


def test_a_hit_with_its_overlap():
    found = match_case(case(both(box(4, 10))), prediction((0.8, box(6, 12))))
    lesion = found.lesions.iloc[0]
    assert outcomes(found) == ["hit"]
    assert (lesion["best_score"], lesion["matched_candidate"]) == (0.8, 1)
    assert lesion["dice"] == pytest.approx(2 * 4 / 12)
    assert lesion["iou"] == lesion["best_iou"] == pytest.approx(4 / 8)
    assert found.candidates.loc[0, "lesion_id"] == "c0-1"


def test_centres_and_spacing_are_those_of_the_case():
    one_reader_more = [[box(4, 10), box(4, 10), box(4, 16)], [box(20, 24, 4, 8)]]
    made = case(one_reader_more)
    affine = np.diag([0.7, 0.8, 2.5, 1.0])
    made = replace(made, volume=replace(made.volume, affine=affine))
    found = match_case(made, prediction())
    centers = found.lesions[["center_z", "center_y", "center_x"]].to_numpy()
    assert centers.tolist() == [[1.5, 4.5, 6.5], [1.5, 5.5, 21.5]]  # of what two readers drew
    steps = found.cases[["spacing_z_mm", "spacing_y_mm", "spacing_x_mm"]]
    assert steps.to_numpy().tolist() == [pytest.approx([2.5, 0.8, 0.7])]


def test_the_limit_of_a_hit():
    lesion = both(box(0, 10, 0, 10))
    at_limit = match_case(case(lesion), prediction((0.5, box(0, 10, 0, 1))))
    assert at_limit.lesions["best_iou"].iloc[0] == MIN_IOU
    assert outcomes(at_limit) == ["hit"]
    below = match_case(case(lesion), prediction((0.5, box(0, 9, 0, 1))))
    assert outcomes(below) == ["false alarm"]
    assert np.isnan(below.lesions["best_score"].iloc[0])
    assert np.isnan(below.lesions["dice"].iloc[0])
    assert 0 < below.lesions["best_iou"].iloc[0] < MIN_IOU


def test_two_candidates_on_one_lesion_are_a_hit_and_a_duplicate():
    found = match_case(case(both(box(4, 16))), prediction((0.4, box(4, 10)), (0.9, box(10, 15))))
    assert outcomes(found) == ["duplicate", "hit"], "the surer one is the hit"
    assert found.lesions["best_score"].iloc[0] == 0.9


def test_one_candidate_over_two_lesions_hits_the_one_it_overlaps_most():
    readers = [[box(4, 10)] * 2, [box(12, 16)] * 2]
    found = match_case(case(readers), prediction((0.9, box(4, 16))))
    assert outcomes(found) == ["hit"]
    assert found.lesions["best_score"].tolist() == pytest.approx([0.9, np.nan], nan_ok=True)
    assert found.lesions["best_iou"].min() >= MIN_IOU, "the second was touched, but not found"


def test_the_second_candidate_takes_the_lesion_that_is_left():
    readers = [[box(4, 10)] * 2, [box(12, 16)] * 2]
    found = match_case(case(readers), prediction((0.9, box(4, 14)), (0.5, box(14, 16))))
    assert outcomes(found) == ["hit", "hit"]
    assert found.candidates["lesion_id"].tolist() == ["c0-1", "c0-2"]


def test_a_disputed_lesion_is_neither_missed_nor_a_false_alarm():
    alone = case([[box(4, 10)]])
    marked = at_operating_point(match_case(alone, prediction((0.9, box(4, 10)))), 0.5)
    assert outcomes(marked) == ["disputed"]
    assert marked.cases.loc[0, ["n_required", "n_missed", "n_false_alarms"]].tolist() == [0, 0, 0]
    assert np.isnan(marked.lesions.loc[0, "hit"])
    assert np.isnan(marked.cases.loc[0, "dice"]), "its voxels are neither right nor wrong"
    unmarked = at_operating_point(match_case(alone, prediction()), 0.5)
    assert unmarked.cases.loc[0, "n_missed"] == 0
    assert np.isnan(estimate("lesion_sensitivity", unmarked).value)


def test_readers_without_a_common_voxel_make_a_disputed_lesion():
    found = match_case(case([[box(4, 8), box(8, 12)]]), prediction())
    assert found.lesions["status"].tolist() == ["disputed"]


def test_the_reference_is_what_two_readers_share():
    found = match_case(case([[box(4, 10), box(6, 12), box(20, 21)]]), prediction((0.9, box(6, 10))))
    assert found.lesions["dice"].iloc[0] == 1
    assert found.lesions["reader_dice"].iloc[0] == pytest.approx((2 * 4 / 12 + 0 + 0) / 3)


def test_far_from_every_lesion():
    found = match_case(case(both(box(4, 10))), prediction((0.9, box(25, 30))))
    assert outcomes(found) == ["false alarm"]
    assert found.candidates["lesion_id"].tolist() == [""]


def test_no_lesion_and_no_candidate():
    found = at_operating_point(match_case(case([]), prediction()), 0.5)
    assert len(found.lesions) == len(found.candidates) == 0
    assert np.isnan(found.cases.loc[0, "dice"])
    assert found.cases.loc[0, "accuracy"] == 1


def test_another_grid_is_refused():
    wrong = Prediction(np.zeros((2, 2, 2)), np.zeros((2, 2, 2), np.uint16), prediction().candidates)
    with pytest.raises(ValueError, match="own grid"):
        match_case(case([]), wrong)


def toy():
    """Two scans: a sure hit, a faint hit, a miss, false alarms, a disputed lesion."""
    first = match_case(
        case([[box(2, 8)] * 3, [box(12, 18)] * 2, [box(24, 30)]]),
        prediction((0.9, box(2, 9)), (0.3, box(13, 18)), (0.7, box(25, 30)), (0.6, box(34, 36))),
    )
    second = match_case(
        case([[box(2, 8)] * 2], "c1", "external"),
        prediction((0.8, box(20, 23)), (0.2, box(26, 28))),
    )
    return concatenate([first, second])


@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5, 0.65, 0.85, 0.95])
def test_voxel_metrics_from_the_tables_are_those_of_the_masks(threshold):
    reference = np.zeros(SHAPE, bool)
    ignored, marked = reference.copy(), reference.copy()
    reference[box(2, 8)] = reference[box(12, 18)] = ignored[box(24, 30)] = True
    for score, where in (
        (0.9, box(2, 9)),
        (0.3, box(13, 18)),
        (0.7, box(25, 30)),
        (0.6, box(34, 36)),
    ):
        marked[where] |= score >= threshold
    expected = count_voxels(reference, marked, ignored).metrics()
    found = at_operating_point(toy(), threshold).cases.loc[0, list(expected)].to_dict()
    assert found == pytest.approx(expected)


def test_the_operating_point_decides_what_counts():
    strict, loose = at_operating_point(toy(), 0.5), at_operating_point(toy(), 0.1)
    assert estimate("lesion_sensitivity", strict).value == pytest.approx(1 / 3)
    assert estimate("lesion_sensitivity", loose).value == pytest.approx(2 / 3)
    assert estimate("lesion_false_negative_rate", strict).value == pytest.approx(2 / 3)
    assert estimate("false_alarms_per_scan", strict).value == 1.0
    assert estimate("false_alarms_per_scan", loose).value == 1.5
    assert strict.lesions["hit_dice"].notna().sum() == 1
    assert estimate("lesion_sensitivity", strict).n == 2, "patients"


def test_simulated_review():
    found = at_operating_point(toy(), 0.5)
    judged = found.candidates.set_index(["case_id", "candidate_id"])["accepted"]
    assert judged["c0"].tolist() == pytest.approx([1, np.nan, np.nan, 0], nan_ok=True)
    assert judged["c1"].tolist() == pytest.approx([0, np.nan], nan_ok=True)
    assert 0 < ACCEPTED_DICE < 1


def test_a_part_is_cut_from_every_table():
    part = select(at_operating_point(toy(), 0.5), split="external")
    assert {len(part.lesions), len(part.cases)} == {1}
    assert set(part.candidates["case_id"]) == {"c1"}
    assert estimate("lesion_sensitivity", part).value == 0


def test_estimates_by_group_keep_order_and_empty_groups():
    found = at_operating_point(toy(), 0.5)
    sizes = pd.Series(["large", "small", "small", "small"], index=found.lesions.index, name="size")
    sizes = sizes.astype(pd.CategoricalDtype(["small", "medium", "large"], ordered=True))
    table = estimate_by("lesion_sensitivity", found, sizes)
    assert table.index.tolist() == ["small", "medium", "large"]
    assert table["rows"].tolist() == [2, 0, 1], "the disputed lesion is in no group"
    assert table["patients"].tolist() == [2, 0, 1]
    assert table["value"].tolist() == pytest.approx([0, np.nan, 1], nan_ok=True)
    assert table["low"].isna().tolist() == [False, True, True]
