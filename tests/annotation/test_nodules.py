from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from medlib.annotation.nodules import cluster_outlines, nodules
from medlib.images.volume import sphere_diameter_mm


def outline(center_x_mm: float, z_mm: float = 0.0) -> np.ndarray:
    """Four points around a centre, 1 mm away from it."""
    steps = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)], dtype=float)
    return np.column_stack([steps + np.array([0.0, center_x_mm]), np.full(4, z_mm)])


def test_outlines_within_the_tolerance_are_one_nodule():
    points = [outline(0), outline(3.0), outline(9.0)]  # gaps of 1 mm and 4 mm
    assert cluster_outlines(points, 1.0) == [[0, 1], [2]]
    assert cluster_outlines(points, 0.99) == [[0], [1], [2]]
    assert cluster_outlines(points, 4.0) == [[0, 1, 2]]


def test_the_tolerance_shrinks_until_no_group_has_more_than_four():
    near = [outline(x) for x in (0.0, 0.2, 0.4, 0.6)]
    far = [outline(x) for x in (4.0, 4.2, 4.4, 4.6)]  # 1.4 mm away from the first four
    assert cluster_outlines(near + far, 3.0) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_what_cannot_be_parted_stays_oversized():
    assert cluster_outlines([outline(0.0)] * 5, 1.0) == [[0, 1, 2, 3, 4]]


def test_groups_are_ordered_by_height():
    points = [outline(0, z_mm=50), outline(40, z_mm=-10), outline(0, z_mm=51)]
    assert cluster_outlines(points, 2.0) == [[1], [0, 2]]


def test_no_outlines():
    assert cluster_outlines([], 1.0) == []


def test_the_database_gives_the_known_counts():
    by_readers = Counter(nodule.n_readers for nodule in nodules())
    assert [by_readers[n] for n in (1, 2, 3, 4)] == [769, 491, 481, 896]
    assert sum(nodule.is_oversized for nodule in nodules()) == 14
    assert len(nodules()) == 2651
    assert len({nodule.origin for nodule in nodules()}) == 2651


def test_a_nodules_masks_share_a_grid_with_its_slices():
    nodule = next(nodule for nodule in nodules() if nodule.n_readers == 4)
    masks = nodule.reader_masks()
    assert masks.shape == (4, *(side.stop - side.start for side in nodule.block))
    assert masks.any(axis=(1, 2, 3)).all()
    z_mm = nodule.slice_positions_mm()
    assert len(z_mm) == masks.shape[1]
    assert np.allclose(np.diff(z_mm), nodule.spacing_mm[0], atol=0.01)
    assert len(nodule.ratings) == 4


def test_equivalent_diameter_of_a_sphere():
    assert sphere_diameter_mm(4 / 3 * np.pi * 5.0**3) == pytest.approx(10.0)
