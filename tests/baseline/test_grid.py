from __future__ import annotations

import numpy as np
import pytest

from medlib.baseline.config import train_config
from medlib.baseline.grid import WorkingGrid, neighbour_slices, network_input

CONFIG = train_config("quick")


@pytest.mark.parametrize(
    ("dz", "per_block"), [(0.625, 4), (1.0, 2), (1.25, 2), (2.0, 1), (2.5, 1), (5.0, 1), (8.0, 1)]
)
def test_only_slices_thinner_than_the_working_distance_are_averaged(dz, per_block):
    grid = WorkingGrid.of((41, 100, 90), (dz, 0.7, 0.7), CONFIG)
    assert grid.slices_per_block == per_block
    assert grid.shape == (-(-41 // per_block), 70, 63)
    assert grid.spacing_mm == pytest.approx((dz * per_block, 1.0, 1.0))


def test_a_ramp_comes_back_at_the_same_millimetres():
    grid = WorkingGrid.of((24, 50, 60), (1.0, 0.7, 1.4), CONFIG)
    ramp = sum(np.meshgrid(np.arange(24.0), np.arange(50.0), np.arange(60.0), indexing="ij"))
    back = grid.to_source(grid.from_source(ramp.astype(np.float32)))
    inside = np.s_[3:-3, 4:-4, 4:-4]
    assert np.abs(back[inside] - ramp[inside]).max() < 0.05


@pytest.mark.parametrize("shape", [(24, 50, 60), (7, 33, 41)])
@pytest.mark.parametrize("spacing_mm", [(1.0, 0.7, 1.4), (2.5, 1.3, 0.6)])
def test_a_part_comes_back_as_the_whole_does(shape, spacing_mm):
    grid = WorkingGrid.of(shape, spacing_mm, CONFIG)
    values = np.random.default_rng(0).random(grid.shape).astype(np.float32)
    whole = grid.to_source(values)
    box = (slice(2, 6), slice(0, 20), slice(11, shape[2]))
    assert np.abs(grid.part_to_source(values, box) - whole[box]).max() < 1e-5


@pytest.mark.parametrize("spacing_mm", [(1.0, 0.7, 1.4), (2.5, 1.3, 0.6)])
@pytest.mark.parametrize("box", [np.s_[0:2, 3:9, 5:19], np.s_[1:2, 0:1, 4:5]])
def test_a_box_of_working_voxels_is_covered_by_source_voxels(spacing_mm, box):
    grid = WorkingGrid.of((7, 33, 41), spacing_mm, CONFIG)
    part, index = grid.box_to_source(box)
    inside = np.zeros(grid.shape, np.float32)
    inside[box] = 1
    held = inside[np.ix_(*grid.holders(np.s_[0:7, 0:33, 0:41]))] > 0
    outside = held.copy()
    outside[part] = False
    assert not outside.any()
    numbers = np.arange(inside.size).reshape(grid.shape)
    brought = numbers[box][index]
    assert brought.shape == tuple(p.stop - p.start for p in part)
    assert brought.size > 0
    own = held[part]
    assert np.array_equal(brought[own], numbers[np.ix_(*grid.holders(part))][own])


def test_blocks_are_means_and_an_incomplete_last_block_repeats_its_last_slice():
    grid = WorkingGrid.of((5, 4, 4), (1.0, 1.0, 1.0), CONFIG)
    values = np.arange(5, dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), dtype=np.float32)
    assert grid.from_source(values)[:, 0, 0].tolist() == [0.5, 2.5, 4.0]


def test_a_single_thin_slice_stays_a_slice():
    grid = WorkingGrid.of((1, 20, 20), (0.6, 1.0, 1.0), CONFIG)
    assert grid.shape == (1, 20, 20)


def test_the_other_grid_is_refused():
    grid = WorkingGrid.of((5, 40, 40), (1.0, 0.7, 0.7), CONFIG)
    with pytest.raises(ValueError, match="shape"):
        grid.from_source(np.zeros((5, 41, 40), dtype=np.float32))
    with pytest.raises(ValueError, match="shape"):
        grid.to_source(np.zeros((5, 40, 40), dtype=np.float32))


def test_input_is_clipped_and_scaled():
    hu = np.array([-2000, -1000, -300, 400, 3000])
    assert network_input(hu, CONFIG).tolist() == [-1, -1, 0, 1, 1]


def test_neighbours_repeat_the_last_slice_at_the_ends():
    assert neighbour_slices(0, 10, CONFIG).tolist() == [0, 0, 1]
    assert neighbour_slices(9, 10, CONFIG).tolist() == [8, 9, 9]
    assert neighbour_slices(0, 1, CONFIG).tolist() == [0, 0, 0]
