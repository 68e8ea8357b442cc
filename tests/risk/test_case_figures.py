from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from medlib.annotation.case import LESION_COLUMNS, Case
from medlib.baseline.candidates import CANDIDATE_COLUMNS, Prediction
from medlib.images.volume import SeriesIdentity, Volume
from medlib.risk.case_figures import WINDOWS, by_size, scan_row, summary, window_row
from medlib.risk.matching import match_case
from medlib.risk.outline_scores import score_outline

SHAPE = (4, 20, 20)
TUMOUR = np.s_[1:3, 4:12, 4:12]  # 128 voxels
VOLUME = Volume(np.zeros(SHAPE, np.float32), np.eye(4), SeriesIdentity("p", "", ""))


def case(bits: np.ndarray, kind: str, **options) -> Case:
    row = dict.fromkeys(LESION_COLUMNS, np.nan) | {"lesion_id": "one-1", "label": 1, "origin": ""}
    lesions = pd.DataFrame([row] if bits.any() else [], columns=list(LESION_COLUMNS))
    labels = (bits > 0).astype(np.uint8)
    return Case(
        "one", "one", "s", "test", VOLUME, bits, labels, lesions, label_kind=kind, **options
    )


def scan(*, outlined: bool = True, has_tumour: bool = True, **options) -> Case:
    bits = np.zeros(SHAPE, np.uint8)
    bits[TUMOUR] = has_tumour
    return case(bits, "outline" if outlined else "boxes", **options)


def score_scan(found: Case, prediction: Prediction, threshold: float) -> dict:
    tables = match_case(found, prediction)
    known = tables.cases.iloc[0]
    extra = pd.Series({"label_kind": found.label_kind, "seconds": 0.0})
    return scan_row(pd.concat([known, extra]), tables, threshold)


def score_window(found: Case, prediction: Prediction, threshold: float = 0.5) -> dict:
    tables = match_case(found, prediction)
    known = score_outline(found, prediction.labels > 0) | {"seconds": 0.0, "volume_ml": 1.0}
    return window_row(tables.cases.assign(**known).iloc[0], tables, threshold)


def candidates(*found: tuple[tuple[slice, slice, slice], float]) -> Prediction:
    labels = np.zeros(SHAPE, np.uint16)
    for k, (box, _) in enumerate(found):
        labels[box] = k + 1
    table = pd.DataFrame(1.0, index=range(len(found)), columns=list(CANDIDATE_COLUMNS)).assign(
        candidate_id=range(1, len(found) + 1), score=[score for _, score in found]
    )
    return Prediction(labels.astype(np.float16), labels, table)


def test_a_candidate_on_the_tumour_hits_and_one_beside_it_alarms():
    found = score_scan(scan(), candidates((TUMOUR, 0.9), (np.s_[0:1, 15:18, 15:18], 0.8)), 0.5)
    assert (found["hit"], found["false_alarms"], found["n_reported"]) == (1, 1, 2)
    assert found["dice"] == found["tumour_share"] == 1
    assert found["best_score"] == 0.9


def test_below_the_operating_point_nothing_is_reported_but_the_score_is_told():
    found = score_scan(scan(), candidates((TUMOUR, 0.4), (np.s_[0:1, 15:18, 15:18], 0.4)), 0.5)
    assert (found["hit"], found["false_alarms"], found["n_reported"]) == (0, 0, 0)
    assert (found["dice"], found["tumour_share"], found["best_score"]) == (0, 0, 0.4)


def test_the_scores_of_all_false_alarms_are_kept_and_those_of_hits_are_not():
    elsewhere = [(np.s_[0:1, 15 + k : 16 + k, 15:18], score) for k, score in ((0, 0.3), (2, 0.8))]
    found = score_scan(scan(), candidates((TUMOUR, 0.9), *elsewhere), 0.5)
    assert found["false_alarm_scores"] == [0.8, 0.3]
    assert found["false_alarms"] == 1


def test_what_only_touches_is_neither_a_hit_nor_an_alarm():
    found = score_scan(scan(), candidates((np.s_[2:3, 11:19, 11:19], 0.9)), 0.5)  # IoU 1 / 191
    assert (found["hit"], found["false_alarms"]) == (0, 0)
    assert found["dice"] == pytest.approx(2 * 1 / (64 + 128))


def test_pieces_hit_together():
    pieces = [(np.s_[1:2, 4 + 4 * k : 6 + 4 * k, 4:8], 0.9) for k in range(2)]  # 8 of 128 each
    assert score_scan(scan(), candidates(*pieces[:1]), 0.5)["hit"] == 0
    found = score_scan(scan(), candidates(*pieces), 0.5)
    assert (found["hit"], found["tumour_share"]) == (1, 16 / 128)


@pytest.mark.parametrize(("inside", "hit"), [(4, 1), (3, 0)])
def test_with_boxes_half_of_a_candidate_has_to_lie_inside(inside, hit):
    box = np.s_[1:2, 4:5, 12 - inside : 20 - inside]  # so many of 8 voxels
    found = score_scan(scan(outlined=False), candidates((box, 0.9)), 0.5)
    assert (found["hit"], found["false_alarms"]) == (hit, 0)
    assert math.isnan(found["dice"])
    assert math.isnan(found["tumour_share"])


@pytest.mark.parametrize("outlined", [True, False])
def test_a_scan_without_a_tumour_has_false_alarms_and_nothing_to_hit(outlined):
    healthy = scan(outlined=outlined, has_tumour=False)
    found = score_scan(healthy, candidates((TUMOUR, 0.9), (np.s_[0:1, 15:18, 15:18], 0.4)), 0.5)
    assert (found["false_alarms"], found["n_reported"]) == (1, 1)
    assert found["false_alarm_scores"] == [0.9, 0.4]
    assert all(math.isnan(found[name]) for name in ("hit", "dice", "tumour_share", "best_score"))
    nothing = score_scan(healthy, candidates(), 0.5)
    assert nothing["false_alarms"] == 0


def test_what_lies_in_doubt_is_counted_apart():
    doubtful = np.zeros(SHAPE, bool)
    doubtful[0, 15:18] = True
    beside, half_outside = np.s_[0:1, 16:18, 15:18], np.s_[0:1, 14:16, 2:5]
    prediction = candidates((TUMOUR, 0.9), (beside, 0.8), (half_outside, 0.7))
    found = score_scan(scan(doubtful=doubtful), prediction, 0.5)
    assert (found["hit"], found["false_alarms"], found["doubtful"]) == (1, 0, 2)
    assert found["false_alarm_scores"] == []
    elsewhere = candidates((np.s_[0:1, 12:16, 2:5], 0.7))  # a quarter of it
    assert score_scan(scan(doubtful=doubtful), elsewhere, 0.5)["false_alarms"] == 1


@pytest.fixture
def readers() -> np.ndarray:
    """Return the bits of three readers; the third draws more."""
    bits = np.zeros(SHAPE, np.uint8)
    bits[2:4, 4:8, 4:8] = 0b111
    bits[2:4, 4:8, 8:10] = 0b100
    return bits


def test_the_surest_of_the_candidates_that_overlap_the_nodule_counts(readers):
    halves = [(np.s_[k : k + 1, 4:8, 4:8], score) for k, score in ((2, 0.8), (3, 0.7))]
    elsewhere = (np.s_[0:1, :2, :2], 0.9)
    window = case(readers, "readers", is_window=True)
    found = score_window(window, candidates(elsewhere, *halves), 0.85)
    assert (found["search_score"], found["not_reported"]) == (0.8, 1)
    a_voxel = candidates(elsewhere, (np.s_[2:3, 4:5, 4:5], 0.8))
    assert score_window(window, a_voxel, 0.0)["not_reported"] == 1  # 0 is no candidate at all
    apart = np.zeros(SHAPE, np.uint8)
    apart[0], apart[1], apart[2] = 1, 2, 4  # no majority anywhere
    found = score_window(case(apart, "readers", is_window=True), candidates(*halves))
    assert math.isnan(found["search_score"])
    assert math.isnan(found["not_reported"])


def test_a_candidate_that_no_reader_touches_is_an_alarm(readers):
    fringe = (np.s_[2:3, 4:5, 9:10], 0.8)  # one voxel of one reader
    alarms = [(np.s_[0:1, :2, :2], 0.7), (np.s_[0:1, 8:, 8:], 0.9), (np.s_[0:1, 5:6, 1:3], 0.4)]
    prediction = candidates(alarms[0], fringe, *alarms[1:])
    found = score_window(case(readers, "readers", is_window=True), prediction)
    assert (found["search_alarm_scores"], found["search_alarms"]) == ([0.9, 0.7, 0.4], 2)
    with_others = case(readers, "readers", is_window=True, doubtful=readers == 0)
    found = score_window(with_others, prediction)
    assert found["search_alarm_scores"] == [0.9, 0.7, 0.4]
    assert math.isnan(found["search_alarms"])
    merged = case(readers, "readers", is_window=True, doubtful=np.ones(SHAPE, bool))
    assert score_window(merged, prediction)["search_alarms"] == 2
    empty = score_window(case(readers, "readers", is_window=True), candidates())
    assert (empty["search_alarm_scores"], empty["search_score"]) == ([], 0)


def test_summary_counts_patients_and_sizes(readers):
    window = case(readers, "readers", is_window=True)
    rows = [
        score_window(window, candidates((np.s_[2:4, 4:8, 4:right], 0.9))) | {"patient_id": patient}
        for right, patient in ((8, "p0"), (10, "p1"))
    ]
    cases = pd.DataFrame(rows).assign(not_reported=[0.0, 1.0], search_alarms=[3.0, np.nan])
    found = summary(cases, WINDOWS)
    assert (found["search_alarms"]["value"], found["search_alarms"]["n"]) == (3, 1)
    assert found["not_reported"]["value"] == 0.5
    assert found["dice"]["value"] == pytest.approx((1 + 0.8) / 2)
    assert (found["dice"]["n"], found["by_split"]["test"]["n_cases"]) == (2, 2)
    assert [(row["n"], row["not_reported"]) for row in by_size(cases)] == [(2, 1)]
