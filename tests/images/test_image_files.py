from __future__ import annotations

import dataclasses

import nibabel
import numpy as np
import pytest

from medlib.errors import InputError
from medlib.images.image_files import read_mask, write_mask


@pytest.fixture
def mask(volume):
    labels = np.zeros(volume.hu.shape, np.uint8)
    labels[1:3, 2:5, 6:9] = 1
    labels[5, 11, 9] = 2
    return labels


def flipped(volume, x, y):
    """The same patient, imaged with rows or columns running the other way."""
    affine = volume.affine.copy()
    for axis, flip in ((0, x), (1, y)):
        if flip:
            affine[:3, 3] += affine[:3, axis] * (volume.hu.shape[2 - axis] - 1)
            affine[:3, axis] *= -1
    return dataclasses.replace(volume, affine=affine)


@pytest.mark.parametrize(("x", "y"), [(False, False), (True, False), (False, True), (True, True)])
def test_round_trip_on_flipped_axes(volume, mask, tmp_path, x, y):
    source = flipped(volume, x, y)
    write_mask(mask, source, tmp_path / "mask.nii.gz")
    back = read_mask(tmp_path / "mask.nii.gz", source)
    assert back.dtype == np.uint8
    assert (back == mask).all()
    assert [path.name for path in tmp_path.iterdir()] == ["mask.nii.gz"]


def test_the_file_stands_where_the_patient_is(volume, mask, tmp_path):
    write_mask(mask == 2, volume, tmp_path / "mask.nii")
    image = nibabel.load(tmp_path / "mask.nii")
    index = np.argwhere(np.asarray(image.dataobj))[0]
    ras = nibabel.affines.apply_affine(image.affine, index)
    assert ras * [-1, -1, 1] == pytest.approx(volume.to_patient_mm(np.array([5, 11, 9])), abs=1e-4)
    assert image.header.get_xyzt_units()[0] == "mm"


def test_axes_turned_by_another_tool_are_turned_back(volume, mask, tmp_path):
    write_mask(mask, volume, tmp_path / "mask.nii")
    nibabel.save(
        nibabel.as_closest_canonical(nibabel.load(tmp_path / "mask.nii")), tmp_path / "other.nii"
    )
    assert np.asarray(nibabel.load(tmp_path / "other.nii").dataobj)[0, 0, 5] == 2
    assert (read_mask(tmp_path / "other.nii", volume) == mask).all()


def test_same_mask_same_bytes(volume, mask, tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        write_mask(mask, volume, tmp_path / name)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_another_grid_is_refused(volume, mask, tmp_path):
    write_mask(mask, volume, tmp_path / "mask.nii")
    shifted = volume.affine.copy()
    shifted[2, 3] += 5
    with pytest.raises(InputError, match=r"x 2 voxels from the series"):
        read_mask(tmp_path / "mask.nii", dataclasses.replace(volume, affine=shifted))
    shifted = volume.affine.copy()
    shifted[0, 3] += 0.5 * volume.spacing_mm[2]  # half a voxel, however many there are
    with pytest.raises(InputError, match=r"lies 0\.5 x"):
        read_mask(tmp_path / "mask.nii", dataclasses.replace(volume, affine=shifted))
    with pytest.raises(InputError, match="voxels along x, y, z"):
        read_mask(tmp_path / "mask.nii", dataclasses.replace(volume, hu=volume.hu[1:]))
    with pytest.raises(ValueError, match="one grid"):
        write_mask(mask[1:], volume, tmp_path / "mask.nii")


@pytest.mark.parametrize("content", [None, b"", b"not a nifti file"])
def test_what_is_not_nifti_is_refused(volume, tmp_path, content):
    if content is not None:
        (tmp_path / "mask.nii.gz").write_bytes(content)
    with pytest.raises(InputError, match="not a readable NIfTI file"):
        read_mask(tmp_path / "mask.nii.gz", volume)
