from __future__ import annotations

import time

import numpy as np
import pytest

from medlib.images.lungs import lung_field
from medlib.images.phantom import PhantomLesion, acquire, insert_lesions


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
    assert np.mean(volume.hu[field] < -400) > 0.8
