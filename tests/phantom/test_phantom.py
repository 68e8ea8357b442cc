from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from medlib.phantom.anatomy import draw_anatomy, patient_build
from medlib.phantom.lesions import PhantomLesion, insert_lesions, lesion_hu
from medlib.phantom.scanner import acquire, ct_noise
from medlib.phantom.sites import SITES, Grid, draw_scanner, site_grid
from medlib.phantom.vessels import grow_tree, paint_tubes

SMALL = Grid((6, 96, 96), (5.0, 3.5, 3.5))


def small(seed: int, site: str = "site-a"):
    return draw_anatomy(seed, draw_scanner(SITES[site], seed), SMALL)


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
    assert scan.hu.shape == (40, 320, 320)
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
    assert -950 < np.median(scan.hu[parenchyma]) < -760
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
    assert 5 < at_back - at_front < 130


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


PROTOCOLS = [(name, k) for name, site in SITES.items() for k in range(len(site.protocols))]


@pytest.mark.parametrize(("name", "number"), PROTOCOLS)
def test_noise_is_that_of_its_protocol(name, number):
    site = SITES[name]
    protocol, pixel = site.protocols[number], site.pixel_spacing_mm[2]
    grid = Grid((24, 160, 160), (protocol.slice_spacing_mm, pixel, pixel))
    noise = ct_noise(protocol, grid, np.random.default_rng(0))
    assert noise.std() == pytest.approx(protocol.noise_sd_hu, rel=0.01)
    along_x, along_y = neighbours(noise, 2), neighbours(noise, 1)
    sharp = protocol.kernel in ("BONE", "B70f")
    assert (0.2 < along_x < 0.5) if sharp else (0.5 < along_x < 0.75)
    assert along_x - 0.5 < along_y < along_x  # streaks along the rows
    assert neighbours(noise, 0) == pytest.approx(protocol.slice_correlation, abs=0.03)


def neighbours(noise, axis):
    size = noise.shape[axis]
    first, second = noise.take(range(size - 1), axis), noise.take(range(1, size), axis)
    return np.corrcoef(first.ravel(), second.ravel())[0, 1]


def test_averaged_slices_have_less_noise_and_share_less():
    """Noise of four thin slices averaged, against the same drawn on the reduced grid."""
    protocol = SITES["site-a"].protocols[2]
    thin = ct_noise(protocol, Grid((160, 64, 64), (0.625, 0.7, 0.7)), np.random.default_rng(0))
    averaged = thin.reshape(40, 4, 64, 64).mean(axis=1)
    drawn = ct_noise(protocol, Grid((40, 64, 64), (2.5, 0.7, 0.7)), np.random.default_rng(1))
    assert drawn.std() == pytest.approx(averaged.std(), rel=0.05)
    assert neighbours(drawn, 0) == pytest.approx(neighbours(averaged, 0), abs=0.08)


def test_noise_in_the_lung(anatomy, scan):
    """Measured on real CT: 27 HU (GE, 2 mm and more) to 37 far from vessels; more near them."""
    quiet = ndimage.binary_erosion(anatomy.lung, iterations=4)
    quiet &= ~ndimage.binary_dilation(anatomy.vessel, iterations=2)
    share = ndimage.gaussian_filter(quiet.astype(np.float32), (0, 4, 4))
    around = ndimage.gaussian_filter(np.where(quiet, scan.hu, 0), (0, 4, 4))
    local = scan.hu[quiet] - around[quiet] / share[quiet]
    assert 24 < local.std() < 60


def test_sites_differ_and_one_is_external():
    assert [site.internal for site in SITES.values()].count(False) == 1
    assert not SITES["site-x"].internal
    for field in ("manufacturer", "pixel_spacing_mm", "protocols", "lung_shift_hu"):
        assert len({getattr(site, field) for site in SITES.values()}) == 3
    for site in SITES.values():
        assert sum(protocol.share for protocol in site.protocols) == pytest.approx(1)


def test_scanners_are_drawn_in_the_real_shares():
    site = SITES["site-a"]
    drawn = [draw_scanner(site, seed) for seed in range(400)]
    assert drawn[7] == draw_scanner(site, 7)
    for protocol in site.protocols:
        kind = (protocol.kernel, protocol.slice_thickness_mm, protocol.slice_spacing_mm)
        same = [
            (p.kernel, p.slice_thickness_mm, p.slice_spacing_mm) == kind
            for p in (scanner.protocol for scanner in drawn)
        ]
        assert np.mean(same) == pytest.approx(protocol.share, abs=0.07)
    pixels = [scanner.pixel_spacing_mm for scanner in drawn]
    assert np.quantile(pixels, [0.25, 0.5, 0.75]) == pytest.approx([0.664, 0.703, 0.775], abs=0.02)


def test_the_field_of_view_holds_the_lungs():
    site = SITES["site-b"]
    for seed in range(30):
        chest_mm = 2 * patient_build(seed).cavity_half_width_mm
        scanner = draw_scanner(site, seed, chest_mm)
        for clinical, matrix in ((True, 512), (False, 320)):
            grid = site_grid(scanner, clinical=clinical)
            assert grid.shape_zyx[1:] == (matrix, matrix)
            assert matrix * grid.spacing_mm[1] >= chest_mm + 29.9
            if clinical:
                assert grid.spacing_mm[0] == scanner.protocol.slice_spacing_mm
            else:
                assert 1.8 <= grid.spacing_mm[0] <= 3.0


def test_the_finest_vessels_show_in_quiet_lung(anatomy):
    """Thin bright lines skew the lung's histogram to the right; noise alone would not."""
    quiet = ndimage.binary_erosion(anatomy.lung, iterations=4)
    quiet &= ~ndimage.binary_dilation(anatomy.vessel, iterations=2)
    local = anatomy.hu - ndimage.uniform_filter(anatomy.hu, (1, 15, 15))
    values = local[quiet]
    assert ((values - values.mean()) ** 3).mean() > 0.5 * values.std() ** 3


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
    line = tree._replace(
        xyz_mm=np.column_stack([np.linspace(0, 40, 100), np.full((100, 2), 20.0)]),
        radius_mm=np.full(100, 0.4),
    )
    for spacing in (0.5, 1.0, 2.0):
        n = int(41 / spacing)
        share = paint_tubes(line, (n, n, n), (spacing,) * 3, (0.0, 0.0, 0.0))
        area = share[:, :, n // 2].sum() * spacing**2
        assert area == pytest.approx(np.pi * 0.4**2, rel=0.45)
