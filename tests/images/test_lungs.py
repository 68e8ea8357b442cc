from __future__ import annotations

import time

import numpy as np
import pytest

from medlib.cohorts.whole_scans import open_table, read_case
from medlib.images.lungs import lung_field
from medlib.phantom import PhantomLesion, acquire, insert_lesions


def test_finds_the_phantoms_lungs_quickly(anatomy, scan):
    start = time.perf_counter()
    field = lung_field(scan.hu, scan.spacing_mm)
    assert time.perf_counter() - start < 3  # 0.3 s on an idle core
    assert field.shape == scan.hu.shape
    assert (field & anatomy.lung).sum() > 0.995 * anatomy.lung.sum()
    assert field.sum() < 1.35 * anatomy.lung.sum()
    body_middle = field[:, 150:170, 155:165]
    assert body_middle.mean() < 0.5  # heart and mediastinum are not lung


def test_keeps_nodules_and_masses_on_the_pleura(anatomy):
    depth = anatomy.pleural_depth_mm()
    k = 20
    rows, columns = np.nonzero((depth[k] > 4) & (depth[k] < 6))
    left = int(np.argmin(columns))
    center = np.array([k, rows[left], columns[left]])
    grid = np.indices((9, 25, 25)) - np.array([4, 12, 12])[:, None, None, None]
    radius_mm = np.linalg.norm(grid * np.array([2.5, 1.05, 1.05])[:, None, None, None], axis=0)
    ball = (radius_mm < 10).astype(np.float32)
    corner = tuple((center - [4, 12, 12]).tolist())
    lesion = PhantomLesion(ball, corner, texture=5, calcification=6, margin=5)
    scan = acquire(insert_lesions(anatomy, [lesion], 0), 0)
    field = lung_field(scan.hu, scan.spacing_mm)
    crop = tuple(slice(a, a + n) for a, n in zip(corner, ball.shape, strict=True))
    in_lung = (ball > 0) & anatomy.lung[crop]
    assert in_lung.sum() > 200
    assert scan.hu[crop][in_lung].mean() > -150
    assert field[crop][in_lung].mean() > 0.9


def test_keeps_a_mass_as_wide_as_a_lung():
    """On the chest wall and on the mediastinum, 70 mm: a closing of 15 mm keeps a quarter of it."""
    spacing_mm = (5.0, 2.0, 2.0)
    y, x = np.mgrid[:200, :200] * 2.0 - 200
    body = (y / 150) ** 2 + (x / 190) ** 2 < 1
    lungs = [(y / 110) ** 2 + ((x - side) / 65) ** 2 < 1 for side in (-95, 95)]
    z = (np.arange(30) * 5.0 - 75)[:, None, None]
    for y_mm, x_mm in ((40, -140), (-40, 60)):
        hu = np.where(lungs[0] | lungs[1], -850.0, np.where(body, 40.0, -1000.0))
        hu = np.repeat(hu[None], 30, axis=0).astype(np.float32)
        mass = z**2 + (y - y_mm) ** 2 + (x - x_mm) ** 2 < 35**2
        in_lung = mass & (lungs[0] | lungs[1])
        hu[in_lung] = 40
        field = lung_field(hu, spacing_mm)
        assert field[in_lung].mean() > 0.75
        assert field.sum() < 1.2 * 30 * (lungs[0] | lungs[1]).sum()


@pytest.mark.real_ct
def test_keeps_the_masses_of_real_scans(real_ct):
    table = open_table(real_ct / "full_ct").set_index("case", drop=False)
    for case, least in (
        ("LUNG1-001", 0.98),
        ("LUNG1-002", 0.87),
        ("pyradiomics-lung2", 0.85),
    ):
        scan = read_case(real_ct / "full_ct", table.loc[case])
        field = lung_field(scan.volume.hu, scan.volume.spacing_mm)
        assert field[scan.reference].mean() > least


@pytest.mark.parametrize("value", [-1000.0, 40.0, -850.0])
def test_no_lung_no_field(value):
    assert not lung_field(np.full((5, 60, 64), value, np.float32), (5.0, 2.0, 2.0)).any()


def test_single_thin_slice(scan):
    field = lung_field(scan.hu[20:21], (2.5, *scan.spacing_mm[1:]))
    assert field.shape == (1, 320, 320)
    assert field.mean() > 0.15


@pytest.mark.real_ct
def test_real_ct(real_series):
    [volume] = real_series
    field = lung_field(volume.hu, volume.spacing_mm)
    litres = field.sum() * volume.voxel_volume_mm3 / 1e6
    assert 2 < litres < 8
    assert np.median(volume.hu[field]) < -750
    assert np.mean(volume.hu[field] < -400) > 0.7
