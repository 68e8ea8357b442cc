"""The same patient is the same array and the same mask, however a file stores the pixels."""

from __future__ import annotations

import dataclasses
import itertools

import nibabel
import numpy as np
import pydicom
import pytest

from medlib.cohorts import whole_scans
from medlib.images.dicom import read_series, write_series
from medlib.images.image_files import read_image, read_mask, write_mask
from medlib.images.image_grids import as_stored, upright
from medlib.images.volume import Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
STORAGES = list(itertools.product((False, True), repeat=3))  # rows along y; columns, rows turned


def stored(volume: Volume, along_y: bool, turn_x: bool, turn_y: bool) -> Volume:
    """The same voxels as a scanner would store them otherwise: the header says so."""
    hu, affine = volume.hu, volume.affine.copy()
    for axis, turn in ((0, turn_x), (1, turn_y)):
        if turn:
            affine[:3, 3] += affine[:3, axis] * (hu.shape[2 - axis] - 1)
            affine[:3, axis] *= -1
            hu = np.flip(hu, 2 - axis)
    if along_y:
        hu, affine = hu.swapaxes(1, 2), affine[:, [1, 0, 2, 3]]
    return dataclasses.replace(volume, hu=np.ascontiguousarray(hu), affine=affine)


@pytest.mark.parametrize("downwards", [False, True])
@pytest.mark.parametrize("storage", STORAGES)
def test_every_storage_of_a_dicom_series_is_the_same_patient(volume, tmp_path, storage, downwards):
    source = stored(volume, *storage)
    files = write_series(source, tmp_path / "ct")
    if downwards:
        for number, file in enumerate(reversed(files), start=1):
            header = pydicom.dcmread(file)
            header.InstanceNumber = number
            header.save_as(file.with_stem(f"turned{number}"))
            file.unlink()
    [read] = read_series(tmp_path / "ct")
    assert np.array_equal(read.hu, volume.hu)
    assert read.affine == pytest.approx(volume.affine)
    mask = (volume.hu > 0).astype(np.uint8)
    write_mask(mask, read, tmp_path / "mask.nii.gz")
    written = nibabel.load(tmp_path / "mask.nii.gz")
    assert written.affine == pytest.approx(LPS_TO_RAS @ source.affine, abs=1e-4)
    assert np.array_equal(np.asarray(written.dataobj), source.hu.transpose(2, 1, 0) > 0)
    assert np.array_equal(read_mask(tmp_path / "mask.nii.gz", read), mask)
    assert np.array_equal(as_stored(read.hu, read), source.hu)
    assert np.array_equal(upright(source.hu, read), volume.hu)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("turns", STORAGES)
def test_every_order_of_nifti_axes_is_the_same_patient(volume, tmp_path, order, turns):
    values, affine = volume.hu.transpose(2, 1, 0), LPS_TO_RAS @ volume.affine
    codes = np.array([order, [-1 if turn else 1 for turn in turns]]).T
    turned = nibabel.Nifti1Image(values, affine).as_reoriented(codes)
    nibabel.save(turned, tmp_path / "ct.nii")
    read = read_image(tmp_path / "ct.nii")
    assert np.array_equal(read.hu, volume.hu)
    assert read.affine == pytest.approx(volume.affine, abs=1e-4)
    assert read.identity == read_image(tmp_path / "ct.nii").identity
    write_mask(volume.hu > 0, read, tmp_path / "mask.nii")
    written = nibabel.load(tmp_path / "mask.nii")
    assert written.affine == pytest.approx(turned.affine, abs=1e-4)
    assert np.array_equal(np.asarray(written.dataobj) > 0, np.asarray(turned.dataobj) > 0)


def test_boxes_are_on_the_dicom_image_as_stored_and_else_upright(volume, tmp_path):
    box = "slice_index_ascending_z,xmin,xmax,ymin,ymax\n2,{},{},{},{}\n"
    expected = np.zeros(volume.hu.shape, dtype=bool)
    expected[2, 3:5, 6:9] = True
    write_series(stored(volume, False, True, True), tmp_path / "ct")
    (tmp_path / "dicom.csv").write_text(box.format(1, 3, 7, 8))
    [read] = read_series(tmp_path / "ct")
    assert np.array_equal(whole_scans._inside_boxes(tmp_path / "dicom.csv", read), expected)
    image = nibabel.Nifti1Image(volume.hu.transpose(2, 1, 0), LPS_TO_RAS @ volume.affine)
    nibabel.save(image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]])), tmp_path / "ct.nii")
    (tmp_path / "nifti.csv").write_text(box.format(6, 8, 3, 4))
    read = read_image(tmp_path / "ct.nii")
    assert np.array_equal(whole_scans._inside_boxes(tmp_path / "nifti.csv", read), expected)
