from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cdist

from medlib.annotation.surface import pairwise_surface_distances, surface_voxels

SPACING = (2.5, 0.7, 0.7)
PAIRS = hnp.arrays(bool, (2, 3, 5, 5))


def slab(start: int, stop: int) -> np.ndarray:
    mask = np.zeros((3, 12, 6), dtype=bool)
    mask[:, start:stop] = True
    return mask


def apart(first: np.ndarray, second: np.ndarray):
    return pairwise_surface_distances(np.stack([first, second]), SPACING)[0]


def test_the_surface_of_a_solid_block_is_its_outside():
    mask = np.ones((3, 3, 3), dtype=bool)
    surface = surface_voxels(mask)
    assert surface.sum() == 26
    assert not surface[1, 1, 1]


def test_shifted_by_two_rows():
    """Every row of a slab one voxel thick lies two rows from the other: 1.4 mm."""
    found = apart(slab(3, 4), slab(5, 6))
    assert found.mean_surface_distance_mm == pytest.approx(1.4)
    assert found.hausdorff_95_mm == pytest.approx(1.4)


def test_equal_masks_are_zero_apart_and_an_empty_one_is_undefined():
    assert apart(slab(2, 6), slab(2, 6)).hausdorff_95_mm == 0
    assert np.isnan(apart(slab(2, 6), slab(0, 0)).mean_surface_distance_mm)


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.permutations([0, 1]), st.tuples(*[st.sampled_from([1, -1])] * 3))
def test_symmetric_and_the_same_when_flipped(pair, order, flip):
    first = pairwise_surface_distances(pair, SPACING)[0]
    turned = pair[list(order)][:, :: flip[0], :: flip[1], :: flip[2]]
    second = pairwise_surface_distances(turned, SPACING)[0]
    for name in ("mean_surface_distance_mm", "hausdorff_95_mm"):
        assert getattr(first, name) == pytest.approx(getattr(second, name), nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_distances_are_those_of_every_pair_of_surface_voxels(pair):
    if not pair.any(axis=(1, 2, 3)).all():
        return
    every = cdist(*(np.argwhere(surface_voxels(mask)) * SPACING for mask in pair))
    there, back = every.min(axis=1), every.min(axis=0)
    found = apart(*pair)
    assert found.mean_surface_distance_mm == pytest.approx(np.mean([*there, *back]))
    greater = max(np.percentile(there, 95), np.percentile(back, 95))
    assert found.hausdorff_95_mm == pytest.approx(greater)
