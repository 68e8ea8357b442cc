"""NIfTI, NRRD and MetaImage as other tools write them, whole and damaged."""

from __future__ import annotations

import dataclasses
import struct
import zipfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK

from medlib.errors import InputError
from medlib.images.dicom import read_series
from medlib.images.image_errors import NotHounsfieldError, ResearchVolumeError
from medlib.images.image_files import read_image, read_mask
from medlib.images.volume import Volume

sitk: Any = SimpleITK  # it comes without types
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def itk_image(volume: Volume):
    image = sitk.GetImageFromArray(volume.hu.astype(np.int16))
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetOrigin(volume.affine[:3, 3].tolist())
    return image


def save_nifti(volume: Volume, path: Path, values: np.ndarray | None = None) -> None:
    values = volume.hu.transpose(2, 1, 0) if values is None else values
    nibabel.save(nibabel.Nifti1Image(values, LPS_TO_RAS @ volume.affine), path)


@pytest.mark.parametrize("name", ["ct.mha", "ct.mhd", "ct.nrrd"])
@pytest.mark.parametrize("packed", [False, True])
def test_metaimage_and_nrrd_are_read(volume, tmp_path, name, packed):
    sitk.WriteImage(itk_image(volume), str(tmp_path / name), packed)
    for read in (read_image(tmp_path / name), *read_series(tmp_path)):
        assert np.array_equal(read.hu, volume.hu)
        assert read.affine == pytest.approx(volume.affine)
        assert len(read.warnings) == 1  # that it is no DICOM


@pytest.mark.parametrize("packed", [False, True])
def test_metaimages_of_two_files_in_an_archive(volume, tmp_path, packed):
    with zipfile.ZipFile(tmp_path / "cts.zip", "w") as archive:
        for case, hu in (("one", volume.hu), ("two", volume.hu[:, ::-1])):
            sitk.WriteImage(
                itk_image(dataclasses.replace(volume, hu=hu)), tmp_path / "ct.mhd", packed
            )
            for file in ("ct.mhd", "ct.zraw" if packed else "ct.raw"):
                archive.write(tmp_path / file, f"study/{case}/{file}")
                (tmp_path / file).unlink()
    for source in (tmp_path, tmp_path / "cts.zip"):
        one, two = read_series(source)
        assert np.array_equal(one.hu, volume.hu)
        assert np.array_equal(two.hu, volume.hu[:, ::-1])


def test_metaimage_turned_by_its_header(volume, tmp_path):
    image = itk_image(volume)
    sitk.WriteImage(sitk.Flip(image, [True, True, True], False), str(tmp_path / "ct.mha"))
    read = read_image(tmp_path / "ct.mha")
    assert np.array_equal(read.hu, volume.hu)
    assert read.affine == pytest.approx(volume.affine)


def test_metaimage_without_its_voxels(volume, tmp_path):
    sitk.WriteImage(itk_image(volume), str(tmp_path / "ct.mhd"))
    header = (tmp_path / "ct.mhd").read_text()
    for name in ("gone.raw", "../ct.raw", "/etc/passwd", "LIST"):
        (tmp_path / "ct.mhd").write_text(header.replace("ct.raw", name))
        with pytest.raises(ResearchVolumeError, match="does not lie beside it"):
            read_image(tmp_path / "ct.mhd")


@pytest.mark.parametrize("cut", [1, 100])
def test_metaimage_cut_short(volume, tmp_path, capfd, cut):
    sitk.WriteImage(itk_image(volume), str(tmp_path / "ct.mha"))
    (tmp_path / "ct.mha").write_bytes((tmp_path / "ct.mha").read_bytes()[:-cut])
    with pytest.raises(InputError, match="cannot hold them"):
        read_image(tmp_path / "ct.mha")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nrrd", "ct.mha"])
def test_a_flipped_bit_in_a_stream_is_found(volume, tmp_path, name):
    if name == "ct.nii.gz":
        save_nifti(volume, tmp_path / name)
    else:
        sitk.WriteImage(itk_image(volume), str(tmp_path / name), True)
    whole, rng = (tmp_path / name).read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[int(rng.integers(len(whole) * 2 // 3, len(whole) - 4))] ^= 1 << int(rng.integers(8))
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(InputError, match="not a readable"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("more", [(1,), (1, 1)])
def test_axes_of_one_behind_the_third(volume, tmp_path, more):
    mask = (volume.hu > 0).astype(np.uint8)
    save_nifti(volume, tmp_path / "mask.nii", mask.transpose(2, 1, 0).reshape(10, 12, 6, *more))
    assert np.array_equal(read_mask(tmp_path / "mask.nii", volume), mask)
    sitk.WriteImage(sitk.JoinSeries(itk_image(volume)), str(tmp_path / "ct.mha"))
    assert np.array_equal(read_image(tmp_path / "ct.mha").hu, volume.hu)


def test_a_quaternion_that_is_no_rotation(volume, tmp_path):
    save_nifti(volume, tmp_path / "ct.nii")
    content = bytearray((tmp_path / "ct.nii").read_bytes())
    struct.pack_into("<hh", content, 252, 1, 1)  # both forms hold
    struct.pack_into("<fff", content, 256, 2, 2, 1)
    (tmp_path / "ct.nii").write_bytes(content)
    read = read_image(tmp_path / "ct.nii")
    assert np.array_equal(read.hu, volume.hu)
    assert "places the voxels twice" in read.warnings[1]
    struct.pack_into("<hh", content, 252, 1, 0)
    (tmp_path / "ct.nii").write_bytes(content)
    with pytest.raises(ResearchVolumeError, match="the quaternion in its header is no rotation"):
        read_image(tmp_path / "ct.nii")


def test_two_forms_that_differ_are_told(volume, tmp_path):
    image = nibabel.Nifti1Image(volume.hu.transpose(2, 1, 0), LPS_TO_RAS @ volume.affine)
    image.set_qform(np.diag([-1.0, 1, 1, 1]) @ image.affine, 1)
    nibabel.save(image, tmp_path / "ct.nii")
    assert "places the voxels twice" in read_image(tmp_path / "ct.nii").warnings[1]


@pytest.mark.parametrize(
    "moved",
    [lambda hu: 10 * hu, lambda hu: 2 * hu, lambda hu: hu - 1024],
    ids=["ten times", "twice", "rescaled again"],
)
def test_much_below_air_that_is_no_padding_is_refused(volume, tmp_path, moved):
    values = moved(volume.hu).transpose(2, 1, 0)
    values[:, : values.shape[1] // 2] = -1024
    save_nifti(volume, tmp_path / "ct.nii.gz", values)
    with pytest.raises(NotHounsfieldError, match="rescaled twice"):
        read_image(tmp_path / "ct.nii.gz")


@pytest.mark.parametrize("value", [-2000, -3024, -32768, np.nan])
def test_padding_of_any_value_becomes_air(volume, tmp_path, value):
    values = volume.hu.transpose(2, 1, 0).astype(np.float32)
    values[:, : values.shape[1] // 3] = value
    save_nifti(volume, tmp_path / "ct.nii.gz", values)
    read = read_image(tmp_path / "ct.nii.gz")
    assert (read.hu[:, : values.shape[1] // 3] == -1024).all()
    assert any("padding" in warning for warning in read.warnings)
