from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from medlib.annotation.case import Case
from medlib.baseline.candidates import Prediction
from medlib.images.volume import SeriesIdentity, Volume
from medlib.risk.scan_scores import score_scan

SHAPE = (4, 20, 20)
TUMOUR = np.s_[1:3, 4:12, 4:12]  # 128 voxels
VOLUME = Volume(np.zeros(SHAPE, np.float32), np.eye(4), SeriesIdentity("p", "", ""))


def scan(*, outlined: bool = True, has_tumour: bool = True) -> Case:
    bits = np.zeros(SHAPE, np.uint8)
    bits[TUMOUR] = has_tumour
    kind = "outline" if outlined else "boxes"
    return Case("one", "one", "s", "test", VOLUME, bits, bits, pd.DataFrame(), label_kind=kind)


def candidates(*found: tuple[tuple[slice, slice, slice], float]) -> Prediction:
    labels = np.zeros(SHAPE, np.uint16)
    for k, (box, _) in enumerate(found):
        labels[box] = k + 1
    table = pd.DataFrame(
        {"candidate_id": range(1, len(found) + 1), "score": [score for _, score in found]}
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
    assert (found["false_alarms"], found["n_reported"], found["best_score"]) == (1, 1, None)
    assert found["false_alarm_scores"] == [0.9, 0.4]
    assert all(math.isnan(found[name]) for name in ("hit", "dice", "tumour_share"))
    nothing = score_scan(healthy, candidates(), 0.5)
    assert nothing["false_alarms"] == 0
