"""Every real series reads, and agrees with what others have said of it."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from series_tools import compress, files_of, multi_frame

from medlib.images.dicom import read_series
from medlib.images.image_errors import NoCTError, ObliqueError
from medlib.images.image_files import read_mask
from medlib.images.volume import Volume

CASES = ["LUNG1-001", "LUNG1-002", "Lung_Dx-A0001", "Lung_Dx-A0002", "pyradiomics-lung2"]
SAMPLE = 100  # of the 786 volumes of interest


@pytest.fixture(scope="module")
def read_case(real_ct, tmp_path_factory):
    """Read a case of full_ct; unpacked once, and once read as long as no other is."""
    folders: dict[str, Path] = {}
    known: dict[str, tuple[pd.Series, Volume]] = {}

    def read(case: str) -> tuple[pd.Series, Volume]:
        if case not in known:
            stated = pd.read_csv(real_ct / "full_ct" / "cases.csv").set_index("case").loc[case]
            source = real_ct / "full_ct" / case / stated["image_file"]
            if source.suffix == ".xz" and case not in folders:
                folders[case] = tmp_path_factory.mktemp(case)
                with tarfile.open(source) as archive:
                    archive.extractall(folders[case], filter="data")
            [volume] = read_series(folders.get(case, source))
            known.clear()  # one at a time: each is 100 MB and more
            known[case] = stated, volume
        return known[case]

    return read


@pytest.mark.real_ct
@pytest.mark.parametrize("case", CASES)
def test_every_series_agrees_with_its_table(real_ct, read_case, case):
    stated, volume = read_case(case)
    assert volume.hu.shape == (stated["n_slices"], stated["rows"], stated["columns"])
    pixel_mm = stated["pixel_spacing_mm"]
    assert volume.spacing_mm == pytest.approx(
        (stated["slice_spacing_mm"], pixel_mm, pixel_mm), abs=1e-5
    )
    assert (volume.hu.min(), volume.hu.max()) == (stated["hu_min"], stated["hu_max"])
    assert np.linalg.det(volume.affine) > 0
    heights = volume.to_patient_mm(np.eye(3)[:1] * np.arange(len(volume.hu))[:, None])[:, 2]
    assert (np.diff(heights) > 0).all()
    if case.startswith("pyradiomics"):
        [warning] = volume.warnings
        assert "NRRD" in warning
    else:
        assert volume.warnings == ()
        assert volume.identity.series_instance_uid == stated["series_instance_uid"]
        assert len(set(volume.sop_instance_uids)) == stated["n_slices"]


@pytest.mark.real_ct
@pytest.mark.parametrize("case", ["LUNG1-001", "LUNG1-002", "pyradiomics-lung2"])
def test_masks_lie_on_the_tumour(real_ct, read_case, case, tmp_path):
    stated, volume = read_case(case)
    path = real_ct / "full_ct" / case / stated["mask_file"]
    if path.suffix == ".nrrd":  # no NIfTI: through another reader
        import SimpleITK as sitk  # noqa: N813

        sitk.WriteImage(sitk.ReadImage(str(path)), str(tmp_path / "mask.nii.gz"))
        path = tmp_path / "mask.nii.gz"
    mask = read_mask(path, volume) > 0  # raises where the grid is another
    volume_ml = mask.sum() * volume.voxel_volume_mm3 / 1000
    assert volume_ml == pytest.approx(stated["lesion_volume_ml"], rel=1e-3)
    assert mask.any(axis=(1, 2)).sum() == stated["lesion_n_slices"]
    # A tumour is denser than the lung around it, and a shifted mask is not.
    inside = volume.hu[mask].mean()
    z, y, x = (slice(max(a.min() - 12, 0), a.max() + 12) for a in np.nonzero(mask))
    around = volume.hu[z, y, x][~mask[z, y, x]].mean()
    assert inside > around + 100
    for axis, by in ((1, 20), (1, -20), (2, 20), (2, -20)):
        assert inside > volume.hu[np.roll(mask, by, axis)].mean()


@pytest.mark.real_ct
@pytest.mark.parametrize("case", ["Lung_Dx-A0001", "Lung_Dx-A0002"])
def test_slices_stand_in_ascending_z(real_ct, read_case, case):
    """The boxes name the slice index and the height of each UID, from another reader."""
    _, volume = read_case(case)
    boxes = pd.read_csv(real_ct / "full_ct" / case / f"{case}_boxes.csv")
    assert len(boxes) > 0
    for row in boxes.itertuples():
        assert volume.sop_instance_uids[row.slice_index_ascending_z] == row.sop_instance_uid
        z = volume.to_patient_mm(np.array([row.slice_index_ascending_z, 0, 0]))[2]
        assert z == pytest.approx(row.z_mm, abs=0.01)


@pytest.fixture(scope="module")
def middle(real_ct, tmp_path_factory) -> tuple[Path, Volume]:
    """Eight neighbouring slices of the smallest real series."""
    folder = tmp_path_factory.mktemp("middle")
    archive = real_ct / "full_ct" / "Lung_Dx-A0002" / "Lung_Dx-A0002_ct_dicom.tar.xz"
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "all", filter="data")
    files = [path for path in (folder / "all").rglob("*") if path.is_file()]
    files.sort(key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))
    (folder / "eight").mkdir()
    for k, path in enumerate(files[11:19]):
        shutil.copy(path, folder / "eight" / f"{k}.dcm")
    [volume] = read_series(folder / "eight")
    return folder / "eight", volume


@pytest.mark.real_ct
@pytest.mark.parametrize(
    "change",
    [
        lambda f: compress(f, RLELossless),
        lambda f: compress(f, JPEGLSLossless),
        lambda f: compress(f, JPEG2000Lossless),
        lambda f: compress(f, "1.2.840.10008.1.2.4.57"),
        lambda f: compress(f, "1.2.840.10008.1.2.4.70"),
        lambda f: multi_frame(f, compress_to=JPEGLSLossless),
    ],
    ids=["RLE", "JPEG-LS", "JPEG 2000", "JPEG lossless 14", "JPEG lossless SV1", "multi-frame"],
)
def test_compressed_copies_hold_the_same_hu(middle, tmp_path, change):
    source, expected = middle
    folder = shutil.copytree(source, tmp_path / "in")
    before = sum(path.stat().st_size for path in files_of(folder))
    change(folder)
    assert sum(path.stat().st_size for path in files_of(folder)) < before
    [read] = read_series(folder)
    assert np.array_equal(read.hu, expected.hu)
    assert np.array_equal(read.affine, expected.affine)
    by_gdcm = ("RescaleType US: the values were taken for HU",)  # which adds what was not there
    assert read.warnings in (expected.warnings, by_gdcm)


@pytest.mark.real_ct
def test_volumes_of_interest(real_ct):
    """Voxels, grid and masks of LIDC-IDRI, through the NIfTI reader."""
    table = pd.read_csv(real_ct / "lidc_voi" / "lidc_voi.csv")
    assert len(table) == 786
    rotated = table[table["rotated_180"] == 1].head(5)
    sample = pd.concat([table.sample(SAMPLE, random_state=0), rotated]).drop_duplicates("voi_id")
    for row in sample.itertuples():
        check_voi(real_ct / "lidc_voi", row)


def check_voi(folder: Path, row) -> None:
    [volume] = read_series(folder / row.ct_file)
    columns, rows, slices = (int(n) for n in row.shape_xyz.split("x"))
    assert volume.hu.shape == (slices, rows, columns)
    pixel_mm = row.pixel_spacing_mm
    spacing = (row.slice_spacing_mm, pixel_mm, pixel_mm)
    assert volume.spacing_mm == pytest.approx(spacing, abs=1e-3)
    stored = np.asarray(nibabel.load(folder / row.ct_file).dataobj)
    changed = any("were set to" in warning for warning in volume.warnings)
    assert changed == (stored.min() < -1500)
    assert volume.hu.min() == (-1024 if changed else row.hu_min)
    assert volume.hu.max() == row.hu_max
    readers = read_mask(folder / row.readers_file, volume)
    assert readers.shape == volume.hu.shape
    # Turning back what the reader has turned gives the file's own voxels.
    back = volume.hu.transpose(2, 1, 0)
    back = back[::-1, ::-1] if row.rotated_180 else back
    assert np.array_equal(back, np.where(stored < -1500, -1024, stored))


SHIPPED = {
    "CT_small.dcm": "a single slice",
    "JPEG2000.dcm": NoCTError,
    "MR_small.dcm": NoCTError,
    "rtplan.dcm": NoCTError,
    "rtdose.dcm": NoCTError,
    "liver_1frame.dcm": NoCTError,
    "test-SR.dcm": NoCTError,
    "examples_rgb_color.dcm": NoCTError,
    "693_J2KI.dcm": "compressed with loss",
    "J2K_pixelrep_mismatch.dcm": ObliqueError,
}


@pytest.mark.parametrize("name", SHIPPED)
def test_files_that_pydicom_ships(name):
    path = get_testdata_file(name, download=False)
    assert path is not None, "it comes with pydicom's wheel"
    if not isinstance(SHIPPED[name], str):
        with pytest.raises(SHIPPED[name]):
            read_series(Path(path))
        return
    [volume] = read_series(Path(path))
    assert any(SHIPPED[name] in warning for warning in volume.warnings)
    dataset = pydicom.dcmread(path)
    expected = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    measured = expected >= -1500
    assert np.array_equal(volume.hu[0][measured], expected[measured])
    assert (volume.hu[0][~measured] == -1024).all()
