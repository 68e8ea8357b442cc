from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from medlib.annotation.policies import MASK_POLICIES
from medlib.annotation.reference import (
    lesion_status,
    more_than_half,
    reader_masks,
    reference_mask,
    votes,
)

READERS = np.array([[[0b0000, 0b0100, 0b0011, 0b1011, 0b1111]]], dtype=np.uint8)


def test_votes_are_the_set_bits():
    assert votes(READERS).ravel().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("policy", "first_voxel"), [("any", 1), ("at least two", 2), ("at least three", 3), ("all", 4)]
)
def test_policies(policy, first_voxel):
    expected = [k >= first_voxel for k in range(5)]
    assert MASK_POLICIES[policy](READERS).ravel().tolist() == expected


def test_a_bit_field_taken_apart():
    masks = reader_masks(READERS)
    assert masks.shape == (4, *READERS.shape)
    assert masks[:, 0, 0, 3].tolist() == [True, True, False, True]
    assert (masks.sum(axis=0) == votes(READERS)).all()
    assert reader_masks(np.zeros((1, 2, 2), dtype=np.uint8)).shape == (0, 1, 2, 2)


def test_policies_are_nested():
    readers = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    masks = [policy(readers) for name, policy in MASK_POLICIES.items() if name != "STAPLE"]
    for wide, narrow in pairwise(masks):
        assert (narrow <= wide).all()


def test_our_standard_is_two_readers():
    assert (reference_mask(READERS) == MASK_POLICIES["at least two"](READERS)).all()


def test_more_than_half_depends_on_how_many_are_asked():
    masks = reader_masks(READERS)
    assert more_than_half(masks).ravel().tolist() == [False, False, False, True, True]
    assert more_than_half(masks[:3]).ravel().tolist() == [False, False, True, True, True]
    assert more_than_half(masks[:1]).ravel().tolist() == masks[0].ravel().tolist()


def test_bad_arguments():
    with pytest.raises(ValueError, match="uint8"):
        reference_mask(READERS.astype(bool))
    with pytest.raises(ValueError, match="between 1 and 8"):
        reference_mask(READERS, 0)


def test_one_reader_alone_is_disputed():
    assert [lesion_status(n) for n in (1, 2, 3, 4)] == ["disputed", *["required"] * 3]
