from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from medlib.images.phantom import (
    SITES,
    Grid,
    PhantomLesion,
    acquire,
    draw_anatomy,
    insert_lesions,
    lesion_hu,
    site_grid,
)
from medlib.images.phantom.scan import ct_noise
from medlib.images.phantom.vessels import grow_tree, paint_tubes

SMALL = Grid((6, 96, 96), (5.0, 3.5, 3.5))


def small(seed: int, site: str = "site-a"):
    return draw_anatomy(seed, SITES[site], SMALL)


@pytest.fixture(scope="module")
def patient_one():
    return small(1)


def test_same_seed_same_patient_other_seed_other_patient(patient_one):
    again, other = small(1), small(2)
    for name in ("hu", "lung", "vessel"):
        assert np.array_equal(getattr(patient_one, name), getattr(again, name))
    assert not np.array_equal(patient_one.lung, other.lung)
    scans = [acquire(patient_one, seed).hu for seed in (5, 5, 6)]
    assert np.array_equal(scans[0], scans[1])
    assert not np.array_equal(scans[0], scans[2])


def test_the_patient_keeps_its_shape_at_another_site(patient_one):
    external = small(1, "site-x")
    assert np.array_equal(patient_one.lung, external.lung)
    assert patient_one.build.sex == external.build.sex
    deep = external.lung & ~external.vessel
    shift = SITES["site-x"].lung_shift_hu - SITES["site-a"].lung_shift_hu
    found = np.median(external.hu[deep]) - np.median(patient_one.hu[deep])
    assert found == pytest.approx(shift, abs=1)


def test_scan_is_a_volume(scan):
    assert scan.hu.dtype == np.float32
    assert scan.hu.shape == site_grid(SITES["site-a"]).shape_zyx == (40, 320, 320)
    assert np.array_equal(scan.hu, np.rint(scan.hu))
    assert scan.hu.min() >= -1024
    assert scan.spacing_mm == pytest.approx((2.5, 1.05, 1.05))
    assert scan.affine[:3, :3] == pytest.approx(np.diag([1.05, 1.05, 2.5]))
    assert "PHANTOM" in scan.identity.manufacturer
    assert scan.identity.patient_id == "P-4"


def test_uids_differ_between_patients_and_repeat(patient_one):
    uid = [
        acquire(patient_one, seed, name).identity.series_instance_uid
        for seed, name in ((1, "a"), (1, "a"), (1, "b"), (2, "a"))
    ]
    assert uid[0] == uid[1]
    assert len(set(uid)) == 3


def test_tissues(anatomy, scan):
    """HU where radiologists expect them."""
    outside = scan.hu[:, :20, :20]
    assert outside.mean() == pytest.approx(-1000, abs=8)
    parenchyma = ndimage.binary_erosion(anatomy.lung, iterations=3)
    parenchyma &= ~ndimage.binary_dilation(anatomy.vessel, iterations=2)
    assert -910 < np.median(scan.hu[parenchyma]) < -800
    true = anatomy.hu
    assert ((true > -130) & (true < -70)).mean() > 0.03  # fat
    assert ((true > 20) & (true < 90)).mean() > 0.08  # muscle, blood
    assert (true > 300).mean() > 0.004  # cortical bone
    assert (true < -950).mean() > 0.1  # air
    litres = anatomy.lung.sum() * scan.voxel_volume_mm3 / 1e6
    assert 1.5 < litres < 4  # 100 mm of two lungs


def test_the_back_of_the_lung_is_denser(anatomy):
    parenchyma = anatomy.lung & ~ndimage.binary_dilation(anatomy.vessel, iterations=2)
    rows = np.broadcast_to(np.arange(320)[None, :, None], parenchyma.shape)
    front, back = np.quantile(rows[parenchyma], [0.15, 0.85])
    at_front = anatomy.hu[parenchyma & (rows < front)].mean()
    at_back = anatomy.hu[parenchyma & (rows > back)].mean()
    assert 5 < at_back - at_front < 90


def test_heart_lies_to_the_left(anatomy):
    low = anatomy.lung[:12]
    left, right = low[:, :, 160:].sum(), low[:, :, :160].sum()
    assert left < right


def test_vessels_look_like_nodules_in_single_slices(anatomy, scan):
    """Round bright spots of 3 to 10 mm inside every slice of the lung."""
    spots = []
    for k in range(4, 36, 4):
        bright = (scan.hu[k] > -500) & ndimage.binary_erosion(anatomy.lung[k], iterations=4)
        labels, count = ndimage.label(bright)
        area = ndimage.sum_labels(bright, labels, range(1, count + 1)) * 1.05**2
        diameter = 2 * np.sqrt(area / np.pi)
        spots.append(int(((diameter > 3) & (diameter < 10)).sum()))
    assert min(spots) >= 5
    assert anatomy.vessel[anatomy.lung].mean() > 0.01
    assert not (anatomy.vessel & ~anatomy.lung).any()


def test_a_vessel_runs_through_slices(anatomy):
    """What tells it from a nodule: seen in 3D, most of the tree is one connected thing."""
    labels, count = ndimage.label(anatomy.vessel, structure=np.ones((3, 3, 3)))
    sizes = np.sort(np.bincount(labels.ravel())[1:])[::-1]
    assert count > 10
    assert sizes[:10].sum() > 0.5 * sizes.sum()
    extent = [box[0].stop - box[0].start for box in ndimage.find_objects(labels)]
    assert max(extent) > 20


@pytest.mark.parametrize("name", SITES)
def test_noise_is_that_of_a_reconstructed_ct(name):
    """Measured on real CT: .64/.55 at 1 px, .17/.12 at 2 px, .37 between slices (0.7 mm pixels)."""
    site = SITES[name]
    noise = ct_noise(site, Grid((16, 192, 192), (2.5, 0.7, 0.7)), np.random.default_rng(0))
    assert noise.std() == pytest.approx(site.noise_sd_hu, rel=0.01)
    along_x = [np.corrcoef(noise[:, :, :-k].ravel(), noise[:, :, k:].ravel())[0, 1] for k in (1, 2)]
    along_y = np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]
    assert 0.45 < along_x[0] < 0.70
    assert along_y == pytest.approx(along_x[0], abs=0.03)
    assert 0.0 < along_x[1] < 0.20
    assert np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1] == pytest.approx(0.37, abs=0.02)


def test_noise_in_the_lung(anatomy, scan):
    """Measured on real CT: 27 HU (GE, 2 mm and more) to 37, fine vessels included."""
    quiet = ndimage.binary_erosion(anatomy.lung, iterations=4)
    quiet &= ~ndimage.binary_dilation(anatomy.vessel, iterations=2)
    assert 24 < scan.hu[quiet].std() < 45


def test_sites_differ_and_one_is_external():
    assert [site.internal for site in SITES.values()].count(False) == 1
    assert not SITES["site-x"].internal
    for field in ("kernel", "noise_sd_hu", "slice_spacing_mm", "pixel_spacing_mm", "psf_sigma_mm"):
        assert len({getattr(site, field) for site in SITES.values()}) == 3
    clinical = site_grid(SITES["site-a"], clinical=True)
    assert clinical.shape_zyx[1:] == (512, 512)
    assert clinical.spacing_mm == (2.5, 0.7, 0.7)


@pytest.fixture(scope="module")
def piece(anatomy):
    """The deepest part of the lung, cut out so that the tests are quick."""
    depth = anatomy.pleural_depth_mm()
    depth[:8] = depth[-8:] = 0
    center = np.unravel_index(np.argmax(depth), depth.shape)
    window = tuple(slice(c - n, c + n + 1) for c, n in zip(center, (8, 16, 16), strict=True))
    return dataclasses.replace(
        anatomy, **{name: getattr(anatomy, name)[window] for name in ("hu", "lung", "vessel")}
    )


def ball(**ratings) -> PhantomLesion:
    """A ball of 6 voxels' radius in the middle of the piece."""
    occupancy = np.clip(6 - np.linalg.norm(np.indices((13,) * 3) - 6, axis=0), 0, 1)
    return PhantomLesion(occupancy.astype(np.float32), (2, 10, 10), **ratings)


SOLID = {"texture": 5.0, "calcification": 6.0, "margin": 5.0}


def test_a_lesion_changes_its_place_and_nothing_else(piece):
    before = piece.hu.copy()
    after = insert_lesions(piece, [ball(**SOLID)], 1)
    assert np.array_equal(piece.hu, before)
    assert np.array_equal(after.lung, piece.lung)
    changed = np.argwhere(after.hu != before)
    assert changed.min(axis=0).tolist() == [3, 11, 11]
    assert changed.max(axis=0).tolist() == [13, 21, 21]
    assert after.hu[8, 16, 16] > -300
    assert np.array_equal(insert_lesions(piece, [ball(**SOLID)], 1).hu, after.hu)
    assert not np.array_equal(insert_lesions(piece, [ball(**SOLID)], 2).hu, after.hu)


def test_calcified_solid_and_ground_glass(piece):
    def center_hu(**ratings):
        drawn = [insert_lesions(piece, [ball(**ratings)], seed).hu for seed in range(30)]
        return np.mean([hu[7:10, 14:19, 14:19].mean() for hu in drawn])

    assert center_hu(texture=5.0, calcification=3.0, margin=5.0) > 500
    assert -150 < center_hu(**SOLID) < 120
    assert -600 < center_hu(texture=1.0, calcification=6.0, margin=5.0) < -300


def test_a_poor_margin_is_softer(piece):
    def edge(margin):
        lesion = ball(texture=5.0, calcification=6.0, margin=margin)
        difference = insert_lesions(piece, [lesion], 1).hu - piece.hu
        return np.mean((difference > 100) & (difference < 600))

    assert edge(1.0) > 1.3 * edge(5.0)


def test_density_follows_texture():
    rng = np.random.default_rng(0)
    means = [np.mean([lesion_hu(t, rng)[0] for _ in range(300)]) for t in (1, 2, 3, 4, 5)]
    assert means == sorted(means)
    assert lesion_hu(4.5, np.random.default_rng(1)) == lesion_hu(5, np.random.default_rng(1))


@pytest.mark.parametrize("offset", [(-1, 10, 10), (2, 10, 21)])
def test_a_crop_outside_the_grid_is_refused(piece, offset):
    lesion = dataclasses.replace(ball(**SOLID), offset_zyx=offset)
    with pytest.raises(ValueError, match="does not lie inside"):
        insert_lesions(piece, [lesion], 0)


def test_tree_follows_murray_and_thin_tubes_keep_their_cross_section():
    rng = np.random.default_rng(0)
    tree = grow_tree(np.zeros(3), rng.uniform(5, 50, (200, 3)), 0.5)
    assert tree.radius_mm.max() == pytest.approx(0.5 * 201 ** (1 / 2.7), rel=0.2)
    assert tree.radius_mm.min() >= 0.5 - 1e-9
    line = dataclasses.replace(
        tree,
        xyz_mm=np.column_stack([np.linspace(0, 40, 100), np.full((100, 2), 20.0)]),
        radius_mm=np.full(100, 0.4),
    )
    for spacing in (0.5, 1.0, 2.0):
        n = int(41 / spacing)
        share = paint_tubes(line, (n, n, n), (spacing,) * 3, (0.0, 0.0, 0.0))
        area = share[:, :, n // 2].sum() * spacing**2
        assert area == pytest.approx(np.pi * 0.4**2, rel=0.45)
