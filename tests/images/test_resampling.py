from __future__ import annotations

import dataclasses
import itertools

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medlib.images.dicom import read_series
from medlib.images.dicom_write import write_series
from medlib.images.image_files import read_image, read_mask, write_mask
from medlib.images.resampling import resample, resample_mask
from medlib.images.volume import SeriesIdentity, Volume

LUNG_HU, SOLID_HU = -850.0, 50.0
FLIPS = list(itertools.product((False, True), repeat=3))
SCANNERS = [(2.5, 0.7, 0.7), (1.0, 0.6, 0.9), (5.0, 0.8, 0.8), (0.7, 0.7, 0.7)]
TARGETS = [(1.0, 1.0, 1.0), (2.5, 1.05, 1.05), (2.0, 2.0, 2.0), (0.8, 0.5, 0.5)]


def plain(hu: np.ndarray, spacing_mm, origin=(-20.0, 31.5, -7.25)) -> Volume:
    """A volume whose x, y and z run to the left, the back and the head."""
    affine = np.diag([*spacing_mm[::-1], 1.0])
    affine[:3, 3] = origin
    return Volume(hu.astype(np.float32), affine, SeriesIdentity("P", "1.2", "1.2.3"))


def ball(diameter_mm: float, spacing_mm, sub: int = 4) -> Volume:
    """A ball between voxel centres; voxels at its edge hold their share of it."""
    size = [int(np.ceil((diameter_mm + 16) / mm)) for mm in spacing_mm]
    squares = []
    for n, mm, shift in zip(size, spacing_mm, (0.3, -0.2, 0.4), strict=True):
        at = (np.arange(n * sub) + 0.5) / sub * mm - mm * n / 2 - shift
        squares.append(at**2)
    r2 = squares[0][:, None, None] + squares[1][None, :, None] + squares[2]
    blocks = (r2 <= (diameter_mm / 2) ** 2).reshape(size[0], sub, size[1], sub, size[2], sub)
    return plain(LUNG_HU + (SOLID_HU - LUNG_HU) * blocks.mean(axis=(1, 3, 5)), spacing_mm)


def share(volume: Volume) -> np.ndarray:
    return (volume.hu - LUNG_HU) / (SOLID_HU - LUNG_HU)


def diameter_mm(volume: Volume) -> float:
    """Of the sphere with the volume that stands out of the lung."""
    return float((6 / np.pi * share(volume).sum() * volume.voxel_volume_mm3) ** (1 / 3))


def center_mm(volume: Volume) -> np.ndarray:
    weights = share(volume)
    index = np.stack(np.indices(weights.shape), axis=-1)
    return (volume.to_patient_mm(index) * weights[..., None]).sum((0, 1, 2)) / weights.sum()


@pytest.mark.parametrize(
    ("diameter", "scanner"),
    [(d, s) for d in (5, 8, 12, 20, 30) for s in SCANNERS if 2 * max(s) <= d <= 16 * max(s)],
)
def test_a_ball_keeps_its_size_and_its_place(diameter, scanner):
    """Its diameter within 1 % wherever two slices and a half fit in."""
    source = ball(diameter, scanner)
    for target in TARGETS:
        if diameter >= 2.4 * max(*scanner, *target):
            out = resample(source, target)
            assert out.spacing_mm == pytest.approx(target)
            assert out.hu.dtype == np.float32
            assert diameter_mm(out) == pytest.approx(diameter, rel=0.01)
            assert center_mm(out) == pytest.approx(center_mm(source), abs=0.05)


@pytest.mark.parametrize("target", TARGETS)
def test_a_ball_is_as_wide_along_each_axis(target):
    """Half-maximum widths through the centre: spacings taken in another order would show."""
    out = resample(ball(30, (2.5, 0.7, 0.9)), target)
    inside = share(out)
    widths = []
    for axis in range(3):
        profile = np.moveaxis(inside, axis, 0).reshape(inside.shape[axis], -1).max(axis=1)
        widths.append(np.minimum(profile, 1).sum() * target[axis])
    assert widths == pytest.approx([30] * 3, rel=0.06)


@pytest.mark.parametrize(
    ("diameter", "scanner"),
    [(d, s) for d in (12, 20, 30) for s in SCANNERS if d >= 4.5 * max(s)],
)
def test_a_mask_on_a_finer_grid_keeps_its_size(diameter, scanner):
    source = ball(diameter, scanner)
    mask = share(source) >= 0.5
    fine = resample(source, (0.7, 0.5, 0.5))
    drawn = (6 / np.pi * mask.sum() * source.voxel_volume_mm3) ** (1 / 3)
    found = resample_mask(mask, source, fine)
    assert found.dtype == np.bool_
    size = (6 / np.pi * found.sum() * fine.voxel_volume_mm3) ** (1 / 3)
    assert size == pytest.approx(drawn, rel=0.01)


def test_no_hu_is_invented():
    out = resample(ball(12, (2.5, 0.7, 0.7)), (1, 1, 1)).hu
    assert out.min() >= LUNG_HU - 0.01
    assert out.max() <= SOLID_HU + 0.01


def test_noise_is_averaged_on_a_coarser_grid():
    """Picking single voxels would keep the standard deviation; so would a smoother left out."""
    rng = np.random.default_rng(0)
    noise = plain(rng.normal(0, 100, (40, 60, 60)), (1.0, 0.5, 0.5))
    assert resample(noise, (3.0, 1.5, 1.5)).hu.std() < 35
    assert resample(noise, (3.0, 1.5, 1.5)).hu.mean() == pytest.approx(noise.hu.mean(), abs=1)


def test_the_grid_covers_the_source_about_the_same_centre():
    source = plain(np.zeros((7, 11, 13)), (2.5, 0.7, 0.9))
    out = resample(source, (2.0, 1.0, 1.0))
    assert out.hu.shape == (9, 8, 12)
    middles = [v.to_patient_mm((np.array(v.hu.shape) - 1) / 2) for v in (source, out)]
    assert middles[0] == pytest.approx(middles[1])
    assert resample(source, source.spacing_mm).hu.shape == source.hu.shape


def test_the_same_spacing_changes_nothing():
    source = ball(8, (2.5, 0.7, 0.9))
    assert resample(source, source.spacing_mm).hu == pytest.approx(source.hu, abs=0.01)


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, 1, np.nan), (1, 1)])
def test_impossible_spacings(spacing):
    with pytest.raises(ValueError, match="three lengths above 0 mm"):
        resample(plain(np.zeros((2, 2, 2)), (1, 1, 1)), spacing)


def test_a_mask_of_another_grid():
    source = plain(np.zeros((2, 2, 2)), (1, 1, 1))
    with pytest.raises(ValueError, match="one grid"):
        resample_mask(np.zeros((3, 2, 2), bool), source, source)


# ---- the way back, exact to the voxel


def flipped(volume: Volume, flips) -> Volume:
    """The same patient, stored with axes (x, y, z) running the other way."""
    affine, hu = volume.affine.copy(), volume.hu
    for axis, flip in enumerate(flips):
        if flip:
            affine[:3, 3] += affine[:3, axis] * (hu.shape[2 - axis] - 1)
            affine[:3, axis] *= -1
            hu = np.flip(hu, 2 - axis)
    return dataclasses.replace(volume, hu=np.ascontiguousarray(hu), affine=affine)


def reordered(volume: Volume, order) -> Volume:
    """The same patient, stored with other axes as x, y and z."""
    affine = volume.affine.copy()
    affine[:, :3] = affine[:, list(order)]
    hu = volume.hu.transpose(2, 1, 0).transpose(order).transpose(2, 1, 0)
    return dataclasses.replace(volume, hu=np.ascontiguousarray(hu), affine=affine)


@pytest.fixture
def labels(volume):
    rng = np.random.default_rng(3)
    return rng.integers(0, 5, volume.hu.shape).astype(np.uint16)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", FLIPS)
def test_every_orientation_returns_to_the_source(volume, labels, flips, order):
    source = reordered(flipped(volume, flips), order)
    stored = reordered(flipped(dataclasses.replace(volume, hu=labels), flips), order).hu
    assert np.array_equal(resample_mask(stored, source, volume), labels)
    for spacing in (source.spacing_mm, (0.6, 0.7, 0.3)):
        work = resample(volume, tuple(np.minimum(spacing, volume.spacing_mm)))
        there = resample_mask(stored, source, work)
        back = resample_mask(there, work, source)
        assert back.dtype == labels.dtype
        assert np.array_equal(back, stored)


@pytest.mark.parametrize("flips", FLIPS)
def test_resampling_does_not_depend_on_how_the_axes_run(volume, flips):
    straight = resample(volume, (1.7, 1.1, 1.3))
    turned = resample(flipped(volume, flips), (1.7, 1.1, 1.3))
    assert flipped(turned, flips).hu == pytest.approx(straight.hu, abs=0.05)
    assert flipped(turned, flips).affine == pytest.approx(straight.affine)


@pytest.mark.parametrize("flips", FLIPS)
def test_nifti_with_flipped_axes_there_and_back(volume, labels, tmp_path, flips):
    """Write, read, resample, mark, return, write, read: the same voxels."""
    source = flipped(volume, flips)
    image = nibabel.Nifti1Image(
        source.hu.transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]) @ source.affine
    )
    nibabel.save(image, tmp_path / "ct.nii.gz")
    read = read_image(tmp_path / "ct.nii.gz")
    assert np.array_equal(read.hu, volume.hu)
    assert read.affine == pytest.approx(volume.affine, abs=1e-4)
    work = resample(volume, (1.2, 0.6, 0.5))
    marked = resample_mask(labels, volume, work)
    returned = resample_mask(marked, work, read)
    write_mask(returned, read, tmp_path / "mask.nii.gz")
    written = nibabel.load(tmp_path / "mask.nii.gz")
    assert written.affine == pytest.approx(image.affine, abs=1e-4)  # as the source is stored
    assert np.array_equal(read_mask(tmp_path / "mask.nii.gz", volume), labels)
    assert np.array_equal(resample_mask(returned, read, volume), labels)


@pytest.mark.parametrize("flips", FLIPS)
def test_dicom_with_flipped_axes_there_and_back(volume, labels, tmp_path, flips):
    source = flipped(volume, flips)
    write_series(source, tmp_path / "ct")
    (read,) = read_series(tmp_path / "ct")
    assert len(read.sop_instance_uids) == len(volume.hu)
    work = resample(read, (1.2, 0.6, 0.5))
    returned = resample_mask(resample_mask(labels, volume, work), work, read)
    assert np.array_equal(resample_mask(returned, read, volume), labels)
    # What stands in the voxel is what was marked there, not merely the same count.
    assert (
        read.hu[returned == 3].tolist()
        == read.hu[resample_mask(labels, volume, read) == 3].tolist()
    )
    assert sorted(read.hu[returned == 3]) == sorted(volume.hu[labels == 3])


@settings(max_examples=60, deadline=None)
@given(
    source=st.tuples(*[st.floats(0.4, 5.0)] * 3),
    finer=st.tuples(*[st.floats(0.3, 1.0)] * 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_mask_returns_from_any_finer_spacing(source, finer, seed):
    rng = np.random.default_rng(seed)
    grid = plain(np.zeros(rng.integers(1, 9, 3)), source)
    mask = rng.random(grid.hu.shape) < 0.5
    work = resample(grid, tuple(a * b for a, b in zip(source, finer, strict=True)))
    assert np.array_equal(resample_mask(resample_mask(mask, grid, work), work, grid), mask)


def test_a_mask_of_a_coarse_working_grid_survives_the_source_grid():
    """The other way round: what a network marks on a coarser grid is not lost in between."""
    source = plain(np.zeros((12, 20, 20)), (1.25, 0.7, 0.7))
    work = resample(source, (2.5, 1.05, 1.0))
    mask = np.random.default_rng(0).random(work.hu.shape) < 0.5
    assert np.array_equal(resample_mask(resample_mask(mask, work, source), source, work), mask)


def test_outside_the_source_there_is_nothing():
    source = plain(np.zeros((4, 4, 4)), (1, 1, 1))
    elsewhere = plain(np.zeros((4, 4, 4)), (1, 1, 1), origin=(-18.0, 31.5, -7.25))
    found = resample_mask(np.ones((4, 4, 4), bool), source, elsewhere)
    assert found[:, :, :2].all()
    assert not found[:, :, 2:].any()


def test_slices_of_another_grid_have_no_names(volume):
    named = dataclasses.replace(volume, sop_instance_uids=tuple("abcdef"))
    assert resample(named, (1, 1, 1)).sop_instance_uids == ()
