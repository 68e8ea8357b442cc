from __future__ import annotations

import dataclasses
import shutil
import subprocess

import pydicom
import pytest

from medlib.images.dicom import read_series
from medlib.images.dicom_write import write_series
from medlib.images.volume import SeriesIdentity

DETAILS = {
    "sex": "F",
    "age_years": 61,
    "kvp": 120.0,
    "tube_current_ma": 160.0,
    "description": "Synthetic phantom",
    "phantom": True,
}


@pytest.mark.dciodvfy
@pytest.mark.parametrize("details", [{}, DETAILS])
@pytest.mark.parametrize("bare", [False, True])
def test_dciodvfy_finds_no_error(volume, tmp_path, details, bare):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy of dicom3tools is not installed")
    if bare:
        volume = dataclasses.replace(volume, identity=SeriesIdentity("P-1", "", ""))
    paths = write_series(volume, tmp_path / "ct", **details)
    for path in (paths[0], paths[-1]):
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        assert "CTImage" in done.stderr
        assert "Error" not in done.stderr + done.stdout


def test_same_volume_same_bytes(volume, tmp_path):
    for name in ("a", "b"):
        write_series(volume, tmp_path / name, **DETAILS)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_uids_follow_from_the_series(volume, tmp_path):
    first = write_series(volume, tmp_path / "a")
    other = dataclasses.replace(volume.identity, series_instance_uid="1.2.3.9")
    second = write_series(dataclasses.replace(volume, identity=other), tmp_path / "b")
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in first + second]
    assert len(set(uids)) == len(uids)
    [read] = read_series(tmp_path / "a")
    again = write_series(read, tmp_path / "c")
    assert [pydicom.dcmread(path).SOPInstanceUID for path in again] == uids[: len(first)]


def test_header(volume, tmp_path):
    header = pydicom.dcmread(write_series(volume, tmp_path / "ct", **DETAILS)[0])
    assert header.PatientSex == "F"
    assert header.PatientAge == "061Y"
    assert header.KVP == 120
    assert header.XRayTubeCurrent == 160
    assert header.QualityControlSubject == "YES"
    assert str(header.PatientName) == "PHANTOM^CHEST"
    assert header.PatientBirthDate == ""
    assert header.RescaleType == "HU"


def test_hu_below_the_usual_range_and_fractions(volume, tmp_path):
    hu = volume.hu.copy()
    hu[0, 0, :3] = (-3024.0, 30000.0, 12.4)
    write_series(dataclasses.replace(volume, hu=hu), tmp_path / "ct")
    header = pydicom.dcmread(tmp_path / "ct" / "0001.dcm")
    written = header.pixel_array * header.RescaleSlope + header.RescaleIntercept
    assert written[0, :3].tolist() == [-3024, 30000, 12]
    [read] = read_series(tmp_path / "ct")
    assert read.hu[0, 0, :3].tolist() == [-1024, 30000, 12]
    assert read.warnings == ("1 voxels outside the field of view (padding) were set to -1024 HU",)


def test_nothing_is_overwritten_or_left_half(volume, tmp_path, monkeypatch):
    write_series(volume, tmp_path / "ct")
    with pytest.raises(FileExistsError, match="holds DICOM files"):
        write_series(volume, tmp_path / "ct")

    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(pydicom.Dataset, "save_as", fail)
    with pytest.raises(OSError, match="disk full"):
        write_series(volume, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["ct"]
