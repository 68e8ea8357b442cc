from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medlib.annotation.case import Case
from medlib.annotation.reference import more_than_half
from medlib.baseline.candidates import Prediction
from medlib.images.volume import SeriesIdentity, Volume
from medlib.risk.nodule_scores import (
    by_size,
    left_out,
    score_voi,
    search_alarm_scores,
    search_score,
    summarise,
    surface_distance_mm,
)


def bits(*masks: str) -> np.ndarray:
    return np.array([[c == "x" for c in mask] for mask in masks])


def test_a_majority_is_more_than_half():
    assert more_than_half(bits("xxx.", "xx..", "x...")).tolist() == [True, True, False, False]
    even = more_than_half(bits("xx..", "xx..", "x.x.", "x.x."))
    assert even.tolist() == [True, False, False, False]


def test_each_reader_is_left_out_once():
    readers = bits("xx.", "xx.", "x..")
    pairs = list(left_out(readers))
    assert [reader.tolist() for reader, _ in pairs] == readers.tolist()
    assert [others.tolist() for _, others in pairs] == [
        [True, False, False],  # two others: both have to agree
        [True, False, False],
        [True, True, False],
    ]
    assert list(left_out(bits("xx."))) == []


def voi(readers: np.ndarray, spacing=(2.0, 1.0, 1.0)) -> Case:
    affine = np.diag([*spacing[::-1], 1.0])
    volume = Volume(np.zeros(readers.shape[1:], np.float32), affine, SeriesIdentity("p", "", ""))
    bits = np.bitwise_or.reduce([mask << bit for bit, mask in enumerate(readers.astype(np.uint8))])
    labels = (bits > 0).astype(np.uint8)
    return Case("p_1", "p", "s", "test", volume, bits, labels, pd.DataFrame(), is_window=True)


@pytest.fixture
def readers() -> np.ndarray:
    masks = np.zeros((3, 6, 12, 12), bool)
    masks[0, 2:4, 4:8, 4:8] = True
    masks[1, 2:4, 4:8, 4:8] = True
    masks[2, 2:4, 4:8, 4:10] = True
    return masks


def test_the_majority_itself_scores_one(readers):
    found = score_voi(voi(readers), readers[0])
    assert found["dice"] == 1
    assert found["missed"] == 0
    assert found["false_alarms"] == 0
    assert found["surface_distance_mm"] == 0
    assert found["diameter_mm"] == pytest.approx((6 / np.pi * 64) ** (1 / 3))


def test_model_and_reader_stand_on_the_same_references(readers):
    found = score_voi(voi(readers), readers[0])
    assert found["model_dice_left_out"] == 1  # two others agree on reader 0's mask each time
    wide = 2 * 32 / (32 + 48)
    assert found["reader_dice_left_out"] == pytest.approx((1 + 1 + wide) / 3)
    assert found["model_minus_reader"] == pytest.approx((1 - wide) / 3)


def test_a_miss_and_a_false_alarm_are_two_things(readers):
    elsewhere = np.zeros_like(readers[0])
    elsewhere[0, :2, :2] = True
    found = score_voi(voi(readers), elsewhere)
    assert (found["missed"], found["false_alarms"], found["dice"]) == (1, 1, 0)
    nothing = score_voi(voi(readers), np.zeros_like(elsewhere))
    assert (nothing["missed"], nothing["false_alarms"], nothing["dice"]) == (1, 0, 0)
    assert np.isnan(nothing["surface_distance_mm"])
    one_readers_fringe = np.zeros_like(elsewhere)
    one_readers_fringe[2, 5, 9] = True
    assert score_voi(voi(readers), one_readers_fringe)["false_alarms"] == 0


def test_surface_distance_is_in_mm():
    a, b = np.zeros((5, 9, 9), bool), np.zeros((5, 9, 9), bool)
    a[1, 4, 4] = b[3, 4, 4] = True
    assert surface_distance_mm(a, b, (2.5, 1.0, 1.0)) == 5.0


def test_summary_counts_patients_and_sizes(readers):
    rows = [score_voi(voi(readers), readers[k]) | {"patient_id": f"p{k}"} for k in (0, 2)]
    cases = pd.DataFrame(rows).assign(not_reported=[0.0, 1.0], search_alarms=[3.0, np.nan])
    found = summarise(cases)
    assert (found["search_alarms"].value, found["search_alarms"].n) == (3, 1)
    assert found["not_reported"].value == 0.5
    assert found["dice"].value == pytest.approx((1 + 0.8) / 2)
    assert found["dice"].n == 2
    assert [(row["n"], row["not_reported"]) for row in by_size(cases)] == [(2, 1)]


def test_the_surest_of_the_candidates_that_overlap_the_nodule_counts(readers):
    labels = np.zeros(readers.shape[1:], np.uint16)
    labels[2, 4:8, 4:8], labels[3, 4:8, 4:8] = 2, 3  # half of it each
    labels[0, :2, :2] = 1  # surer, elsewhere
    candidates = pd.DataFrame({"candidate_id": [1, 2, 3], "score": [0.9, 0.8, 0.7]})
    found = Prediction(labels.astype(np.float16), labels, candidates)
    assert search_score(voi(readers), found) == 0.8
    touched = np.where(labels == 1, 1, 0).astype(np.uint16)
    touched[2, 4, 4] = 1  # a voxel of it is not enough
    alone = Prediction(touched.astype(np.float16), touched, candidates[:1])
    assert search_score(voi(readers), alone) == 0
    apart = np.zeros_like(readers)
    apart[0, 0], apart[1, 2], apart[2, 4] = True, True, True  # no majority anywhere
    assert np.isnan(search_score(voi(apart), found))


def test_a_candidate_that_no_reader_touches_is_an_alarm(readers):
    labels = np.zeros(readers.shape[1:], np.uint16)
    labels[0, :2, :2], labels[0, 8:, 8:] = 1, 3
    labels[tuple(np.argwhere(readers.any(axis=0))[0])] = 2  # one voxel of one reader
    candidates = pd.DataFrame({"candidate_id": [1, 2, 3], "score": [0.7, 0.8, 0.9]})
    found = Prediction(labels.astype(np.float16), labels, candidates)
    assert search_alarm_scores(voi(readers), found) == [0.9, 0.7]
    empty = Prediction(0.0 * labels.astype(np.float16), np.zeros_like(labels), candidates[:0])
    assert search_alarm_scores(voi(readers), empty) == []
