from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from medlib.images.volume import SeriesIdentity, Volume
from medlib.review.measure import center_xyz_mm, max_diameter_mm

SPACING = (2.5, 0.7, 0.7)


def diameter(mask):
    return max_diameter_mm(np.argwhere(mask), SPACING)


def test_one_voxel_is_one_pixel_wide():
    mask = np.zeros((3, 5, 5), bool)
    mask[1, 2, 2] = True
    assert diameter(mask) == pytest.approx(0.7)


def test_a_flat_square_measures_its_diagonal():
    mask = np.zeros((3, 40, 40), bool)
    mask[1, 5:35, 5:35] = True
    assert diameter(mask) == pytest.approx(29 * 0.7 * np.sqrt(2))


def test_a_line_through_the_slices():
    mask = np.zeros((6, 5, 5), bool)
    mask[:, 2, 2] = True
    assert diameter(mask) == pytest.approx(5 * 2.5)


def test_a_ball_measures_its_diameter_within_a_voxel():
    z, y, x = np.mgrid[:21, :61, :61]
    ball = ((z - 10) * 2.5) ** 2 + ((y - 30) * 0.7) ** 2 + ((x - 30) * 0.7) ** 2 <= 20**2
    assert 40 - 2.5 < diameter(ball) <= 40


def test_the_hull_loses_no_pair():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((4, 9, 9)) > 0.8
        voxels = np.argwhere(mask)
        assert max_diameter_mm(voxels, SPACING) == pytest.approx(
            pdist(voxels * np.asarray(SPACING)).max()
        )


def test_center_is_in_patient_coordinates():
    affine = np.diag([0.7, 0.7, 2.5, 1.0])
    affine[:3, 3] = [-100, -120, 40]
    volume = Volume(np.zeros((4, 8, 8), np.float32), affine, SeriesIdentity("p", "1", "1.2"))
    voxels = np.array([[1, 2, 3], [3, 4, 7]])
    assert center_xyz_mm(voxels, volume) == pytest.approx(
        (-100 + 5 * 0.7, -120 + 3 * 0.7, 40 + 2 * 2.5)
    )
