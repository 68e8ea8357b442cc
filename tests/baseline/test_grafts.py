from __future__ import annotations

import numpy as np
import pytest

from medlib.baseline.grafts import SHIFT_HU, Graft, insert, take, vary


@pytest.fixture
def graft() -> Graft:
    z, y, x = np.mgrid[:12, :40, :40]
    ball = (2.5 * (z - 6)) ** 2 + (y - 20) ** 2 + (x - 22) ** 2 < 7**2
    return take(np.where(ball, 50, -850).astype(np.int16), np.argwhere(ball))


def empty(shape=(12, 60, 60)) -> tuple[np.ndarray, np.ndarray]:
    return np.full(shape, -850, dtype=np.int16), np.zeros(shape, dtype=np.uint8)


def test_a_lesion_is_cut_out_with_some_lung(graft: Graft):
    assert graft.mask.shape == graft.hu.shape == graft.share.shape == (7, 21, 21)
    assert (graft.hu[graft.mask] == 50).all()
    assert graft.share[graft.mask].min() > 0.5
    assert graft.share[:, 0].max() < 0.05


def test_an_unchanged_copy_has_its_size_density_and_place(graft: Graft):
    hu, target = empty()
    insert(graft, hu, target, np.array([2, 30, 10]))
    assert (target == 1).sum() == graft.mask.sum()
    centre = np.argwhere(target).mean(axis=0)
    assert centre == pytest.approx(np.argwhere(graft.mask).mean(axis=0) + np.array([2, 30, 10]))
    assert hu[target == 1].min() > -450
    assert hu.max() == 50
    assert (hu[:, :25] == -850).all()


def test_a_vessel_runs_on_through_a_copy(graft: Graft):
    hu, target = empty()
    hu[:, 40, :] = 120
    insert(graft, hu, target, np.array([2, 30, 10]))
    assert (hu[:, 40, :] == 120).all()


@pytest.mark.parametrize("corner", [(-5, 30, 10), (2, -12, 50), (20, 0, 0), (0, -30, 0)])
def test_what_falls_outside_is_left_out(graft: Graft, corner):
    hu, target = empty()
    insert(graft, hu, target, np.array(corner))
    whole_hu, whole_target = empty((60, 160, 160))
    insert(graft, whole_hu, whole_target, np.array(corner) + 40)
    assert (hu == whole_hu[40:52, 40:100, 40:100]).all()
    assert (target == whole_target[40:52, 40:100, 40:100]).all()


def test_copies_differ_in_size_and_density_within_bounds_and_by_seed_only(graft: Graft):
    copies = [vary(graft, np.random.default_rng(seed)) for seed in range(60)]
    volume = np.array([copy.mask.sum() for copy in copies]) / graft.mask.sum()
    assert 0.1 < volume.min() < 0.5
    assert 1.5 < volume.max() < 4
    density = np.array([np.median(copy.hu[copy.mask]) for copy in copies])
    assert np.abs(density - 50).max() <= SHIFT_HU + 1
    assert density.std() > 10
    again = vary(graft, np.random.default_rng(7))
    assert np.array_equal(again.hu, copies[7].hu)
    for copy in copies:
        assert copy.mask.shape == copy.hu.shape == copy.share.shape
