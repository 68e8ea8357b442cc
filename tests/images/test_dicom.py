from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid
from series_tools import edit, edit_all, moved

from medlib.errors import MedlibError
from medlib.images.dicom import read_series, write_series
from medlib.images.image_errors import (
    DuplicateSlicesError,
    InconsistentSeriesError,
    MissingSlicesError,
    NoCTError,
    NotDicomError,
    NotHounsfieldError,
    ObliqueError,
    PixelDataError,
    SpacingError,
    UnevenSpacingError,
)


def same(read, volume) -> bool:
    return np.array_equal(read.hu, volume.hu) and np.allclose(read.affine, volume.affine)


def test_round_trip(volume, folder):
    [read] = read_series(folder)
    assert read.hu.dtype == np.float32
    assert np.array_equal(read.hu, volume.hu)
    assert read.affine == pytest.approx(volume.affine)
    assert read.spacing_mm == pytest.approx((2.5, 0.75, 0.7))
    assert read.identity == volume.identity
    assert read.warnings == ()


def test_order_names_and_folders_do_not_matter(volume, folder, tmp_path):
    files = sorted(folder.glob("*.dcm"))
    for name, path in zip(["x/9", "x/y/1", "0", "3.IMA", "x/2.dcm.bak", "z"], files, strict=True):
        target = tmp_path / "mixed" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    [read] = read_series(tmp_path / "mixed")
    assert same(read, volume)
    in_order = [str(pydicom.dcmread(path).SOPInstanceUID) for path in files]
    assert list(read.sop_instance_uids) == in_order


def test_slices_from_head_to_feet_are_turned(volume, folder):
    for k, path in enumerate(sorted(folder.glob("*.dcm"))):
        edit(path, InstanceNumber=100 - k)
    assert same(read_series(folder)[0], volume)


def test_each_slice_has_its_own_rescale(volume, folder):
    second = folder / "0002.dcm"
    stored = pydicom.dcmread(second).pixel_array
    edit(
        second,
        RescaleSlope="2",
        RescaleIntercept="-1000",
        PixelData=((stored - 24) // 2).astype("<i2").tobytes(),
    )
    assert same(read_series(folder)[0], volume)


def test_rotated_by_180_degrees(volume, tmp_path):
    affine = volume.affine @ np.diag([-1.0, -1, 1, 1])
    write_series(dataclasses.replace(volume, affine=affine), tmp_path / "prone")
    header = pydicom.dcmread(tmp_path / "prone" / "0001.dcm")
    assert list(header.ImageOrientationPatient) == [-1, 0, 0, 0, -1, 0]
    [read] = read_series(tmp_path / "prone")
    assert np.array_equal(read.hu, volume.hu[:, ::-1, ::-1])  # upright
    assert read.source_affine == pytest.approx(affine)
    corner, opposite = read.to_patient_mm(np.array([[0, 0, 0], [0, 11, 9]]))
    assert corner == pytest.approx(affine[:3] @ (9, 11, 0, 1))
    assert opposite == pytest.approx(affine[:3, 3])


def test_what_is_not_part_of_the_series_is_passed_over(volume, folder):
    (folder / "notes.txt").write_text("not DICOM")
    (folder / "empty").touch()
    for name, changes in {
        "scout": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        "dose": {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "OT"},
    }.items():
        shutil.copy(folder / "0001.dcm", folder / name)
        edit(folder / name, SOPInstanceUID=generate_uid(), **changes)
    [read] = read_series(folder)
    assert same(read, volume)
    assert read.warnings == ()


def test_several_series_in_order_of_their_numbers(volume, tmp_path):
    for number, uid in ((2, "1.2.3.4"), (1, "1.2.3.9")):
        identity = dataclasses.replace(volume.identity, series_instance_uid=uid)
        part = tmp_path / "all" / str(number)
        write_series(dataclasses.replace(volume, identity=identity), part)
        edit_all(part, SeriesNumber=number)
    read = read_series(tmp_path / "all")
    assert [volume.identity.series_instance_uid for volume in read] == ["1.2.3.9", "1.2.3.4"]


def test_a_bad_series_beside_a_good_one_is_left_out_aloud(volume, folder):
    identity = dataclasses.replace(volume.identity, series_instance_uid="1.2.3.9")
    write_series(dataclasses.replace(volume, identity=identity), folder / "bad")
    (folder / "bad" / "0003.dcm").unlink()
    [read] = read_series(folder)
    assert same(read, volume)
    [warning] = read.warnings
    assert warning == f"left out: series 1.2.3.9: {MissingSlicesError.__doc__}"


def test_copies_of_a_file_are_passed_over_aloud(volume, folder):
    shutil.copy(folder / "0002.dcm", folder / "0002 (copy).dcm")
    [read] = read_series(folder)
    assert same(read, volume)
    assert read.warnings == ("1 file(s) are copies of another and were passed over",)


def test_without_preamble(volume, folder):
    for path in folder.glob("*.dcm"):
        path.write_bytes(path.read_bytes()[132:])
    assert same(read_series(folder)[0], volume)


def test_damaged_file_beside_whole_ones_is_a_warning(volume, folder):
    (folder / "cut.dcm").write_bytes((folder / "0001.dcm").read_bytes()[:140])
    [read] = read_series(folder)
    assert same(read, volume)
    assert read.warnings == ("1 damaged DICOM file(s) passed over",)


def test_single_file_of_pydicom():
    path = Path(get_testdata_file("CT_small.dcm"))
    [read] = read_series(path)
    header = pydicom.dcmread(path)
    expected = header.pixel_array * float(header.RescaleSlope) + float(header.RescaleIntercept)
    assert np.array_equal(read.hu[0], expected.astype(np.float32))
    assert read.spacing_mm == pytest.approx((5.0, *map(float, header.PixelSpacing)))
    assert len(read.warnings) == 2
    assert "single slice" in read.warnings[0]
    assert read.warnings[1] == "the patient lies feet first (PatientPosition FFS)"


def test_gaps_between_thin_slices_are_said(volume, folder):
    edit_all(folder, SliceThickness="1")
    assert "were not imaged" not in read_series(folder)[0].warnings[0]
    assert "2.5 mm apart but 1 mm thick" in read_series(folder)[0].warnings[0]


def test_hu_that_were_rescaled_again_are_refused(folder):
    edit_all(folder, RescaleIntercept="-2048")
    with pytest.raises(NotHounsfieldError, match="rescaled twice"):
        read_series(folder)


def test_missing_end_is_said(volume, folder):
    for k in (1, 2):
        (folder / f"000{k}.dcm").unlink()
    assert read_series(folder)[0].warnings == ()  # numbered 3 to 6: nothing to see
    edit(folder / "0003.dcm", InstanceNumber=1)
    assert "2 of the series' image numbers do not occur" in read_series(folder)[0].warnings[0]


REFUSALS = {
    "missing slice": (
        MissingSlicesError,
        "1 missing",
        lambda f: (f / "0003.dcm").unlink(),
    ),
    "three missing slices": (
        MissingSlicesError,
        "3 missing",
        lambda f: [(f / f"000{k}.dcm").unlink() for k in (2, 3, 4)],
    ),
    "two images in one place": (
        DuplicateSlicesError,
        "lie both at z",
        lambda f: moved(f / "0003.dcm", dz=-2.5),
    ),
    "uneven": (
        UnevenSpacingError,
        "apart; expected one distance",
        lambda f: moved(f / "0003.dcm", dz=0.8),
    ),
    "tilted": (
        ObliqueError,
        "axial",
        lambda f: edit_all(f, ImageOrientationPatient=[1, 0, 0, 0, 0.966, -0.259]),
    ),
    "sagittal": (
        ObliqueError,
        "axial",
        lambda f: edit_all(f, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
    ),
    "sheared by a gantry tilt": (
        ObliqueError,
        "sideways",
        lambda f: [moved(p, dx=0.5 * k) for k, p in enumerate(sorted(f.glob("*.dcm")))],
    ),
    "turned slice": (
        InconsistentSeriesError,
        "turned against",
        lambda f: edit(f / "0004.dcm", ImageOrientationPatient=[-1, 0, 0, 0, -1, 0]),
    ),
    "another matrix": (
        InconsistentSeriesError,
        "Rows 6",
        lambda f: edit(f / "0004.dcm", Rows=6),
    ),
    "another pixel size": (
        InconsistentSeriesError,
        "expected one size",
        lambda f: edit(f / "0004.dcm", PixelSpacing=[0.75, 0.8]),
    ),
    "no pixel spacing": (
        SpacingError,
        "no PixelSpacing",
        lambda f: edit(f / "0004.dcm", PixelSpacing=None),
    ),
    "empty pixel spacing": (
        SpacingError,
        "no PixelSpacing",
        lambda f: edit_all(f, PixelSpacing=""),
    ),
    "zero pixel spacing": (
        SpacingError,
        r"PixelSpacing '0\.0\\0\.0'",
        lambda f: edit_all(f, PixelSpacing=[0, 0]),
    ),
    "no position": (
        SpacingError,
        "no ImagePositionPatient",
        lambda f: edit(f / "0004.dcm", ImagePositionPatient=None),
    ),
    "no orientation": (
        SpacingError,
        "ImageOrientationPatient",
        lambda f: edit_all(f, ImageOrientationPatient=None),
    ),
    "no pixel data": (
        PixelDataError,
        "no pixel data",
        lambda f: edit(f / "0004.dcm", PixelData=None),
    ),
    "no rescale": (
        PixelDataError,
        "no RescaleSlope",
        lambda f: edit_all(f, RescaleSlope=None),
    ),
    "truncated": (
        PixelDataError,
        "fetch the series again",
        lambda f: (f / "0004.dcm").write_bytes((f / "0004.dcm").read_bytes()[:-100]),
    ),
    "colour": (
        NoCTError,
        "6 screen save",
        lambda f: edit_all(
            f,
            SamplesPerPixel=3,
            PlanarConfiguration=0,
            PhotometricInterpretation="RGB",
            PixelData=bytes(12 * 10 * 2 * 3),
        ),
    ),
    "other images only": (
        NoCTError,
        "6 DICOM file.*none a CT image",
        lambda f: edit_all(f, SOPClassUID=SecondaryCaptureImageStorage),
    ),
    "localizers only": (
        NoCTError,
        "none a CT image",
        lambda f: edit_all(f, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    ),
    "nothing": (
        NotDicomError,
        "0 file",
        lambda f: [p.unlink() for p in f.iterdir()],
    ),
    "text": (
        NotDicomError,
        "none in DICOM format",
        lambda f: [p.write_text("text") for p in f.iterdir()],
    ),
    "headers cut off": (
        NotDicomError,
        "cannot be read",
        lambda f: [p.write_bytes(p.read_bytes()[:140]) for p in f.iterdir()],
    ),
    "no folder": (
        NotDicomError,
        "nothing there",
        shutil.rmtree,
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refused_in_one_line(folder, name):
    error, words, spoil = REFUSALS[name]
    spoil(folder)
    with pytest.raises(error, match=words) as caught:
        read_series(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert ";" in message or name == "no folder"


def test_single_slice_without_thickness_is_refused(folder):
    edit(folder / "0001.dcm", SliceThickness=None)
    with pytest.raises(SpacingError, match="without SliceThickness"):
        read_series(folder / "0001.dcm")


def test_rounded_positions_are_even(volume, tmp_path):
    affine = volume.affine.copy()
    affine[2, 2] = 0.625
    write_series(dataclasses.replace(volume, affine=affine), tmp_path / "thin")
    for path in (tmp_path / "thin").iterdir():
        position = [float(v) for v in pydicom.dcmread(path).ImagePositionPatient]
        edit(path, ImagePositionPatient=[*position[:2], round(position[2], 1)])
    [read] = read_series(tmp_path / "thin")
    assert read.spacing_mm[0] == pytest.approx(0.625, abs=0.03)


def test_errors_do_not_name_the_patient(folder):
    edit_all(folder, PatientName="DOE^JANE", PatientID="SECRET")
    (folder / "0003.dcm").unlink()
    with pytest.raises(MissingSlicesError) as caught:
        read_series(folder)
    assert "DOE" not in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_an_empty_value_of_no_known_type_is_no_traceback(volume, tmp_path):
    write_series(volume, tmp_path)
    for path in tmp_path.glob("*.dcm"):
        raw = path.read_bytes()
        at = raw.index(b"\x28\x00\x30\x00DS")
        length = int.from_bytes(raw[at + 6 : at + 8], "little")
        path.write_bytes(raw[: at + 4] + b"D\0\0\0" + raw[at + 8 + length :])
    with pytest.raises(MedlibError) as refused:
        read_series(tmp_path)
    assert str(refused.value).isprintable()
