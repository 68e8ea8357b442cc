from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medlib.annotation.case import Case
from medlib.images.volume import SeriesIdentity, Volume
from medlib.risk.outline_scores import score_outline, surface_distance_mm


def window(readers: np.ndarray, spacing=(2.0, 1.0, 1.0)) -> Case:
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
    found = score_outline(window(readers), readers[0])
    assert found["dice"] == found["dice_at_least_two"] == 1
    assert found["missed"] == 0
    assert found["false_alarms"] == 0
    assert found["surface_distance_mm"] == 0
    assert found["diameter_mm"] == pytest.approx((6 / np.pi * 64) ** (1 / 3))


def test_model_and_reader_stand_on_the_same_references(readers):
    found = score_outline(window(readers), readers[0])
    assert found["model_dice_left_out"] == 1  # two others agree on reader 0's mask each time
    wide = 2 * 32 / (32 + 48)
    assert found["reader_dice_left_out"] == pytest.approx((1 + 1 + wide) / 3)
    assert found["model_minus_reader"] == pytest.approx((1 - wide) / 3)


def test_a_miss_and_a_false_alarm_are_two_things(readers):
    elsewhere = np.zeros_like(readers[0])
    elsewhere[0, :2, :2] = True
    found = score_outline(window(readers), elsewhere)
    assert (found["missed"], found["false_alarms"], found["dice"]) == (1, 1, 0)
    nothing = score_outline(window(readers), np.zeros_like(elsewhere))
    assert (nothing["missed"], nothing["false_alarms"], nothing["dice"]) == (1, 0, 0)
    assert np.isnan(nothing["surface_distance_mm"])
    one_readers_fringe = np.zeros_like(elsewhere)
    one_readers_fringe[2, 5, 9] = True
    assert score_outline(window(readers), one_readers_fringe)["false_alarms"] == 0


def test_surface_distance_is_in_mm():
    a, b = np.zeros((5, 9, 9), bool), np.zeros((5, 9, 9), bool)
    a[1, 4, 4] = b[3, 4, 4] = True
    assert surface_distance_mm(a, b, (2.5, 1.0, 1.0)) == 5.0


def test_more_than_half_is_another_policy_than_at_least_two():
    readers = np.zeros((4, 2, 8, 8), bool)
    for reader, width in enumerate((6, 4, 2, 2)):
        readers[reader, :, :, :width] = True
    marked = readers[1]  # two of four drew it
    found = score_outline(window(readers), marked)
    assert (found["dice"], found["dice_at_least_two"]) == (pytest.approx(2 * 2 / (2 + 4)), 1)


def test_who_reads_alone_is_held_against_nobody():
    found = score_outline(window(np.ones((1, 2, 8, 8), bool)), np.ones((2, 8, 8), bool))
    assert found["dice"] == 1
    assert np.isnan(found["model_dice_left_out"])
    assert np.isnan(found["reader_dice_left_out"])
