from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medlib.annotation.agreement import dice
from medlib.risk.voxel import count_voxels


def mask(text):
    return np.array([[c == "#" for c in row] for row in text.split()])


def test_toy_example_by_hand():
    reference = mask("##.. ##.. ....")
    prediction = mask(".##. .##. ....")
    counts = count_voxels(reference, prediction)
    assert (counts.true_positive, counts.false_positive) == (2, 2)
    assert (counts.false_negative, counts.true_negative) == (2, 6)
    assert counts.metrics() == pytest.approx(
        {
            "dice": 1 / 2,
            "iou": 1 / 3,
            "sensitivity": 1 / 2,
            "false_negative_rate": 1 / 2,
            "specificity": 6 / 8,
            "accuracy": 8 / 12,
        }
    )


EMPTY, FULL, SOME = mask("...."), mask("####"), mask("#...")


@pytest.mark.parametrize(
    ("reference", "prediction", "defined"),
    [
        # Nothing there and nothing marked: no region to agree on, and no recall.
        (EMPTY, EMPTY, {"specificity": 1, "accuracy": 1}),
        # Nothing there, something marked: all of the region is wrong.
        (EMPTY, SOME, {"dice": 0, "iou": 0, "specificity": 3 / 4, "accuracy": 3 / 4}),
        # Something there, nothing marked: all of it is missed.
        (
            SOME,
            EMPTY,
            {
                "dice": 0,
                "iou": 0,
                "sensitivity": 0,
                "false_negative_rate": 1,
                "specificity": 1,
                "accuracy": 3 / 4,
            },
        ),
        # No background: no specificity.
        (
            FULL,
            FULL,
            {"dice": 1, "iou": 1, "sensitivity": 1, "false_negative_rate": 0, "accuracy": 1},
        ),
    ],
)
def test_empty_masks_follow_the_policy(reference, prediction, defined):
    found = count_voxels(reference, prediction).metrics()
    expected = {name: defined.get(name, np.nan) for name in found}
    assert found == pytest.approx(expected, nan_ok=True)


def test_pitfall_class_imbalance():
    """Metrics Reloaded: accuracy rewards whoever marks nothing in a large background."""
    reference = np.zeros((100, 100), bool)
    reference[50, 50:60] = True
    nothing = np.zeros_like(reference)
    found = count_voxels(reference, nothing).metrics()
    assert found["accuracy"] == pytest.approx(0.999)
    assert found["sensitivity"] == 0


def test_pitfall_small_structures():
    """Metrics Reloaded: one voxel of difference costs a small structure far more Dice."""
    small, large = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    small[10, 10:12] = True
    large[2:18, 2:18] = True
    without_one_small, without_one_large = small.copy(), large.copy()
    without_one_small[10, 10] = without_one_large[2, 2] = False
    assert dice(small, without_one_small) == pytest.approx(2 / 3)
    assert dice(large, without_one_large) > 0.99


def test_pitfall_one_large_lesion_hides_a_missed_small_one():
    """CC-Metrics: a voxel metric over a scan barely moves when a small lesion is missed."""
    reference = np.zeros((40, 40), bool)
    reference[2:22, 2:22] = True
    prediction = reference.copy()
    reference[30:32, 30:32] = True
    assert dice(reference, prediction) > 0.99


def test_ignored_voxels_count_for_nothing():
    reference, prediction = mask("##.."), mask(".###")
    counts = count_voxels(reference, prediction, ignored=mask("...#"))
    assert (counts.true_positive, counts.false_positive) == (1, 1)
    assert (counts.false_negative, counts.true_negative) == (1, 0)


def test_masks_are_checked():
    with pytest.raises(ValueError, match="boolean"):
        count_voxels(np.ones(3), np.ones(3, bool))
    with pytest.raises(ValueError, match="one grid"):
        count_voxels(np.ones(3, bool), np.ones(4, bool))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_identities(pairs):
    reference, prediction = np.array(pairs, bool).T
    counts = count_voxels(reference, prediction)
    assert sum(counts) == len(pairs)
    found = counts.metrics()
    if not np.isnan(found["dice"]):
        assert found["dice"] == pytest.approx(2 * found["iou"] / (1 + found["iou"]))
        assert found["dice"] == dice(prediction, reference), "Dice is symmetric"
    if reference.any():
        assert found["sensitivity"] + found["false_negative_rate"] == pytest.approx(1)
