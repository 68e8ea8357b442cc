from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medlib.annotation.policies import (
    LABEL_POLICIES,
    MASK_POLICIES,
    bit_field,
    soft_mean,
    staple,
)
from medlib.annotation.reference import reader_masks, reference_mask

FIELDS = hnp.arrays(np.uint8, (2, 4, 5), elements=st.integers(0, 15))


def cube(low: int, high: int) -> np.ndarray:
    mask = np.zeros((6, 12, 12), dtype=bool)
    mask[1:5, low:high, low:high] = True
    return mask


def test_staple_of_readers_who_agree_is_their_mask():
    assert (staple(bit_field(np.stack([cube(3, 8)] * 3))) == cube(3, 8)).all()


def test_staple_of_one_reader_is_that_reader_and_of_none_is_empty():
    assert (staple(bit_field(cube(3, 8)[None])) == cube(3, 8)).all()
    assert not staple(np.zeros((3, 4, 5), dtype=np.uint8)).any()


def test_staple_trusts_two_against_one():
    """Two draw the same, one draws far too much: his margin is not lesion."""
    masks = np.stack([cube(4, 8), cube(4, 8), cube(2, 10)])
    assert (staple(bit_field(masks)) == cube(4, 8)).all()


def test_staple_does_not_depend_on_the_grid_around_the_lesion():
    masks = np.stack([cube(4, 8), cube(3, 8), cube(4, 9)])
    wide = np.pad(masks, ((0, 0), (5, 5), (5, 5), (5, 5)))
    assert (staple(bit_field(wide))[5:-5, 5:-5, 5:-5] == staple(bit_field(masks))).all()


@settings(max_examples=25, deadline=None)
@given(FIELDS, st.permutations(range(4)), st.sampled_from([0, 1, 2]))
def test_policies_do_not_depend_on_reader_order_or_orientation(field, order, axis):
    drawn = np.stack([field >> bit & 1 for bit in order]).astype(bool)
    turned = np.flip(bit_field(drawn), axis)
    for name, policy in LABEL_POLICIES.items():
        expected = policy(field)
        assert expected.shape == field.shape
        np.testing.assert_allclose(np.flip(policy(turned), axis), expected, err_msg=name)


@settings(max_examples=40, deadline=None)
@given(FIELDS)
def test_every_policy_stays_inside_the_union_and_keeps_what_all_drew(field):
    for policy in MASK_POLICIES.values():
        assert (policy(field) <= (field > 0)).all()
    assert ((soft_mean(field) >= 0.5) == reference_mask(field, 2)).all()


@settings(max_examples=40, deadline=None)
@given(FIELDS)
def test_a_bit_field_and_its_masks(field):
    np.testing.assert_array_equal(bit_field(reader_masks(field)), field)


def test_soft_mean_counts_the_absent_as_no():
    assert soft_mean(np.array([[[1, 3, 15]]], dtype=np.uint8)).ravel().tolist() == [0.25, 0.5, 1.0]


def test_nine_readers_do_not_fit():
    with pytest.raises(ValueError, match="at most 8"):
        bit_field(np.ones((9, 1, 1, 1), dtype=bool))
