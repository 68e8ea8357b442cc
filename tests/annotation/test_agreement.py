from __future__ import annotations

import krippendorff
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medlib.annotation.agreement import (
    coincidences,
    dice,
    iou,
    lesion_detection,
    ordinal_alpha,
    pairwise_agreement,
    percentile_among_readers,
    reader_vs_majority,
)

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=4, max_dims=4, min_side=3, max_side=5))


def box(*slices: slice) -> np.ndarray:
    mask = np.zeros((4, 6, 6), dtype=bool)
    mask[slices] = True
    return mask


def test_dice_by_hand():
    first, second = box(slice(0, 2)), box(slice(1, 3))
    assert dice(first, second) == 0.5
    assert dice(first, first) == 1.0
    assert dice(first, box(slice(3, 4))) == 0.0


def test_dice_of_two_empty_masks_is_undefined():
    empty = np.zeros((2, 3, 3), dtype=bool)
    assert np.isnan(dice(empty, empty))


def test_pairs_by_hand():
    masks = np.stack([box(slice(0, 2)), box(slice(1, 3), slice(0, 3))])
    (pair,) = pairwise_agreement(masks)
    assert pair.dice_2d == pytest.approx(2 * 18 / (36 + 18))
    assert pair.dice_3d == pytest.approx(2 * 18 / (72 + 36))


def test_majority_of_three_others_is_two():
    # Voxel 0: readers 0, 1, 2. Voxel 1: readers 1, 2. Voxel 2: reader 0 alone.
    marks = np.array([[1, 0, 1], [1, 1, 0], [1, 1, 0], [0, 0, 0]], dtype=bool)
    found = reader_vs_majority(marks[:, None, None, :])
    assert found[0].dice_3d == pytest.approx(2 / 4)  # the others agree on voxels 0 and 1
    assert found[0].voxel_false_negative_rate == 0.5
    assert found[1].dice_3d == pytest.approx(2 / 3)  # the others agree on voxel 0 only
    assert found[1].voxel_false_negative_rate == 0.0
    assert found[3].voxel_false_negative_rate == 1.0


def test_a_majority_needs_others():
    with pytest.raises(ValueError, match="at least 3"):
        reader_vs_majority(np.ones((2, 1, 1, 1), dtype=bool))


@settings(max_examples=60, deadline=None)
@given(MASKS, st.randoms(use_true_random=False))
def test_agreement_does_not_depend_on_order_or_orientation(masks, random):
    order = list(range(len(masks)))
    random.shuffle(order)
    turned = masks[order][:, ::-1, :, ::-1].swapaxes(2, 3)

    def summary(stack):
        pairs = np.sort([pair.dice_3d for pair in pairwise_agreement(stack)])
        majority = np.sort([one.dice_3d for one in reader_vs_majority(stack)])
        return np.concatenate([pairs, majority])

    np.testing.assert_array_equal(summary(masks), summary(turned))


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_dice_lies_between_zero_and_one_and_is_symmetric(masks):
    value = dice(masks[0], masks[1])
    assert np.isnan(value) or 0 <= value <= 1
    np.testing.assert_equal(value, dice(masks[1], masks[0]))


@pytest.mark.parametrize(
    ("n_readers", "expected"),
    [(1, (0, 0, 1)), (2, (0, 2, 0)), (3, (3, 1, 0)), (4, (4, 0, 0))],
)
def test_each_reader_against_the_rest_of_the_panel(n_readers, expected):
    assert lesion_detection(n_readers) == expected


# Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), example C: four observers,
# twelve units, with missing values.
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
)
COUNTS = np.stack([(category == OBSERVERS).sum(axis=0) for category in range(1, 6)], axis=1)


def test_iou_by_hand():
    first, second = box(slice(0, 2)), box(slice(1, 3))
    assert iou(first, second) == pytest.approx(1 / 3)
    assert np.isnan(iou(box(slice(0, 0)), box(slice(0, 0))))


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_iou_follows_from_dice(masks):
    overlap = dice(masks[0], masks[1])
    np.testing.assert_allclose(iou(masks[0], masks[1]), overlap / (2 - overlap))
    np.testing.assert_equal(iou(masks[0], masks[1]), iou(masks[1], masks[0]))


def test_alpha_from_coincidences_of_the_published_example():
    assert ordinal_alpha(coincidences(COUNTS).sum(axis=0)) == pytest.approx(0.815, abs=5e-4)


@settings(max_examples=80, deadline=None)
@given(hnp.arrays(np.int64, (7, 4), elements=st.integers(0, 3)), st.permutations(range(7)))
def test_alpha_from_coincidences_is_the_packages(counts, order):
    ours = ordinal_alpha(coincidences(counts[order]).sum(axis=0))
    rated_twice = counts[counts.sum(axis=1) >= 2]
    if (rated_twice.sum(axis=0) > 0).sum() < 2:
        assert np.isnan(ours)  # the package refuses
    else:
        theirs = krippendorff.alpha(
            value_counts=rated_twice, value_domain=[1, 2, 3, 4], level_of_measurement="ordinal"
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_alpha_from_coincidences_is_undefined_where_alpha_is():
    assert np.isnan(ordinal_alpha(coincidences([[2, 0], [3, 0]]).sum(axis=0)))
    assert np.isnan(ordinal_alpha(coincidences([[1, 0], [0, 1]]).sum(axis=0)))


READERS = pd.DataFrame(
    {"diameter_mm": [4.0] * 4 + [20.0] * 4, "dice_3d": [0.5, 0.6, 0.7, 0.8, 0.8, 0.85, 0.9, 0.95]}
)


def test_a_model_among_readers_of_nodules_of_its_size():
    """0.75 is better than three of four readers on a small nodule, worse than all on a large."""
    assert percentile_among_readers(0.75, 5.0, READERS, n_nearest=4) == 0.75
    assert percentile_among_readers(0.75, 18.0, READERS, n_nearest=4) == 0.0
    assert percentile_among_readers(0.8, 5.0, READERS, n_nearest=4) == 0.875  # one tie
    assert np.isnan(percentile_among_readers(float("nan"), 5.0, READERS))
