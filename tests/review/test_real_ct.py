"""What assist makes of CT that no phantom has drawn."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from pydicom.data import get_testdata_file

from medlib.errors import RunError
from medlib.images.dicom import read_series
from medlib.images.image_files import read_mask
from medlib.review.measure import max_diameter_mm
from medlib.review.model import PHANTOM_WARNING, REAL_WARNING, default_run
from medlib.review.report import assist
from medlib.review.schema import read_report


@pytest.fixture
def full_ct() -> Path:
    if not (folder := os.environ.get("MEDLIB_REAL_CT")):
        pytest.skip("MEDLIB_REAL_CT names no folder with real CT")
    return Path(folder) / "full_ct"


@pytest.fixture
def run_folder(tmp_path, write_run) -> Path:
    """The run that assist takes by itself, else one that was never trained."""
    try:
        return default_run()
    except RunError:
        return write_run(tmp_path / "untrained")


def check_result(folder: Path, source: Path) -> None:
    """Report, mask and source have to tell one story."""
    [volume] = read_series(source)
    report = read_report(folder)
    mask = read_mask(folder / "mask.nii.gz", volume)
    assert folder.name == report.series_instance_uid == volume.identity.series_instance_uid
    assert set(np.unique(mask)) == {0, *(lesion.id for lesion in report.lesions)}
    for lesion in report.lesions:
        voxels = np.argwhere(mask == lesion.id)
        assert lesion.volume_ml == pytest.approx(len(voxels) * volume.voxel_volume_mm3 / 1000)
        assert lesion.slices == (voxels[:, 0].min(), voxels[:, 0].max())
        assert volume.to_patient_mm(voxels.mean(axis=0)) == pytest.approx(lesion.center_xyz_mm)
        assert lesion.score >= report.operating_point
    assert [lesion.score for lesion in report.lesions] == sorted(
        (lesion.score for lesion in report.lesions), reverse=True
    )
    assert {PHANTOM_WARNING, REAL_WARNING} & set(report.warnings)
    text = (folder / "report.json").read_text()
    assert volume.identity.patient_id not in text.replace(report.series_instance_uid, "")


def test_the_ct_that_pydicom_ships(tmp_path, run_folder):
    source = Path(get_testdata_file("CT_small.dcm"))
    [folder] = assist(source, tmp_path / "out", run_folder)
    check_result(folder, source)
    assert any("single slice" in warning for warning in read_report(folder).warnings)


@pytest.mark.real_ct
def test_a_whole_series_of_thick_slices(tmp_path, full_ct, run_folder):
    case = "Lung_Dx-A0002"
    with tarfile.open(full_ct / case / f"{case}_ct_dicom.tar.xz") as archive:
        archive.extractall(tmp_path / "in", filter="data")
    [folder] = assist(tmp_path / "in", tmp_path / "out", run_folder)
    check_result(folder, tmp_path / "in")
    assert any("8.0 mm apart" in warning for warning in read_report(folder).warnings)


@pytest.mark.real_ct
@pytest.mark.parametrize("case", ["LUNG1-001", "LUNG1-002"])
def test_diameter_and_volume_of_tumours_agree_with_the_stated_ones(full_ct, case):
    stated = pd.read_csv(full_ct / "cases.csv").set_index("case").loc[case]
    image = nibabel.load(full_ct / case / stated["mask_file"])
    mask = np.asarray(image.dataobj).T > 0
    spacing_mm = tuple(float(step) for step in image.header.get_zooms()[::-1])
    found = max_diameter_mm(np.argwhere(mask), spacing_mm)
    assert found == pytest.approx(stated["lesion_max_diameter_mm"], abs=0.01)
    volume_ml = mask.sum() * np.prod(spacing_mm) / 1000
    assert volume_ml == pytest.approx(stated["lesion_volume_ml"], abs=0.01)
