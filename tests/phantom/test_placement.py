from __future__ import annotations

import numpy as np
import pytest

from medlib.annotation import nodules
from medlib.phantom.anatomy import Anatomy
from medlib.phantom.placement import place, resample_nodule, signed_distance_mm
from medlib.phantom.sites import SITES, Grid, draw_scanner

QUICK_MM = (2.5, 1.05, 1.05)


def sphere(diameter_mm: float, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    half = np.ceil(diameter_mm / 2 / np.array(spacing_mm)).astype(int) + 1
    axes = [np.arange(-n, n + 1) * step for n, step in zip(half, spacing_mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return z**2 + y**2 + x**2 <= (diameter_mm / 2) ** 2


def test_signed_distance_changes_sign_at_the_border():
    mask = np.zeros((1, 1, 7), dtype=bool)
    mask[..., 2:5] = True
    assert signed_distance_mm(mask, (1.0, 1.0, 0.5)).ravel().tolist() == [
        -1.0, -0.5, 0.5, 1.0, 0.5, -0.5, -1.0
    ]  # fmt: skip


@pytest.mark.parametrize("source_mm", [(1.25, 0.7, 0.7), (3.0, 0.6, 0.6), (5.0, 0.9, 0.9)])
@pytest.mark.parametrize("diameter_mm", [8.0, 15.0, 30.0])
def test_spheres_keep_their_volume(source_mm, diameter_mm):
    masks = sphere(diameter_mm, source_mm)[None]
    volume_mm3 = masks.sum() * np.prod(source_mm)
    there = resample_nodule(masks, source_mm, QUICK_MM, (0.3, -0.4, 0.2))
    assert there.masks.sum() * np.prod(QUICK_MM) == pytest.approx(volume_mm3, rel=0.01)
    assert there.occupancy.sum() * np.prod(QUICK_MM) == pytest.approx(volume_mm3, rel=0.03)


def test_real_nodules_keep_every_readers_volume_and_their_agreement():
    found = [n for n in nodules.nodules() if n.n_readers == 4][::60]
    checked = 0
    for nodule in found:
        masks = nodule.reader_masks()
        volume_mm3 = masks.sum(axis=(1, 2, 3)) * np.prod(nodule.spacing_mm)
        if volume_mm3.min() < np.pi / 6 * 8.0**3:
            continue
        there = resample_nodule(masks, nodule.spacing_mm, QUICK_MM)
        np.testing.assert_allclose(
            there.masks.sum(axis=(1, 2, 3)) * np.prod(QUICK_MM), volume_mm3, rtol=0.03
        )
        agreed_mm3 = (masks.sum(axis=0) >= 2).sum() * np.prod(nodule.spacing_mm)
        assert there.occupancy.sum() * np.prod(QUICK_MM) == pytest.approx(agreed_mm3, rel=0.05)
        checked += 1
    assert checked >= 4


def test_the_tissue_wanders_about_the_readers_line():
    masks = sphere(12.0, (1.25, 0.7, 0.7))[None]
    line = resample_nodule(masks, (1.25, 0.7, 0.7), (1.25, 0.7, 0.7))
    drawn = [
        resample_nodule(masks, (1.25, 0.7, 0.7), (1.25, 0.7, 0.7), rng=np.random.default_rng(seed))
        for seed in range(6)
    ]
    assert all(np.array_equal(one.masks, line.masks) for one in drawn)  # what readers drew stays
    volumes = [one.occupancy.sum() / line.occupancy.sum() for one in drawn]
    assert np.mean(volumes) == pytest.approx((5.8 / 6.0) ** 3, abs=0.06)  # 0.2 mm further in
    assert not np.array_equal(drawn[0].occupancy, drawn[1].occupancy)


@pytest.mark.parametrize("seed", range(5))
def test_a_tiny_nodule_does_not_vanish(seed):
    masks = sphere(3.0, (1.25, 0.7, 0.7))[None]
    rng = np.random.default_rng(seed)
    there = resample_nodule(masks, (1.25, 0.7, 0.7), QUICK_MM, rng=rng)
    assert there.occupancy.max() > 0.2


def test_a_nodule_lies_within_its_crop():
    there = resample_nodule(sphere(9.0, (1.25, 0.7, 0.7))[None], (1.25, 0.7, 0.7), QUICK_MM)
    inner = there.masks[:, 1:-1, 1:-1, 1:-1]
    assert inner.sum() == there.masks.sum()


def test_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="empty"):
        resample_nodule(np.zeros((1, 2, 3, 3), dtype=bool), QUICK_MM, QUICK_MM)


def lung_block() -> Anatomy:
    """A block of lung with one straight vessel in it."""
    shape = (36, 72, 72)
    lung, vessel = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    lung[6:-6, 12:-12, 12:-12] = True
    vessel[6:-6, 35:38, 35:38] = True
    hu = np.where(lung, -850.0, 40.0).astype(np.float32)
    grid = Grid(shape, QUICK_MM)
    return Anatomy(hu, lung, vessel, grid, draw_scanner(SITES["site-a"], 0), build=None)


@pytest.mark.parametrize("setting", ["free", "juxta-vascular", "juxta-pleural"])
def test_lesions_go_where_they_are_asked_to(setting):
    anatomy = lung_block()
    there = resample_nodule(sphere(10.0, (1.25, 0.7, 0.7))[None], (1.25, 0.7, 0.7), QUICK_MM)
    for seed in range(5):
        start = place(
            there,
            anatomy,
            anatomy.pleural_depth_mm(),
            np.zeros_like(anatomy.lung),
            setting,
            np.random.default_rng(seed),
        )
        crop = tuple(slice(a, a + n) for a, n in zip(start, there.occupancy.shape, strict=True))
        outside = there.occupancy[~anatomy.lung[crop]].sum() / there.occupancy.sum()
        touched = bool((there.occupancy[anatomy.vessel[crop]] > 0).any())
        assert (outside > 0.02) == (setting == "juxta-pleural")
        if setting == "juxta-vascular":
            assert touched


def test_lesions_keep_clear_of_each_other():
    anatomy = lung_block()
    there = resample_nodule(sphere(6.0, (1.25, 0.7, 0.7))[None], (1.25, 0.7, 0.7), QUICK_MM)
    taken = np.zeros_like(anatomy.lung)
    rng = np.random.default_rng(0)
    for _ in range(4):
        start = place(there, anatomy, anatomy.pleural_depth_mm(), taken, "free", rng)
        crop = tuple(slice(a, a + n) for a, n in zip(start, there.occupancy.shape, strict=True))
        assert not taken[crop].any()
        taken[crop] |= there.masks.any(axis=0)


def test_no_room_left():
    anatomy = lung_block()
    there = resample_nodule(sphere(6.0, (1.25, 0.7, 0.7))[None], (1.25, 0.7, 0.7), QUICK_MM)
    with pytest.raises(ValueError, match="fits nowhere"):
        place(
            there,
            anatomy,
            anatomy.pleural_depth_mm(),
            np.ones_like(anatomy.lung),
            "free",
            np.random.default_rng(0),
        )
