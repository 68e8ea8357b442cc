"""What is read can be written: SEG and RTSTRUCT of series with odd headers and storage."""

from __future__ import annotations

import shutil
import warnings
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import pytest
from annotated import TURNS, make_series, two_readers, voxels
from pydicom.dataelem import RawDataElement
from pydicom.uid import LegacyConvertedEnhancedCTImageStorage
from series_tools import multi_frame

from medlib.annotation.drawings import Annotation
from medlib.annotation.formats import read_annotation, write_annotation
from medlib.annotation.revision import read_version, revise
from medlib.images.dicom import read_series
from medlib.images.volume import Volume

KINDS = ["seg", "rtstruct"]
JAPANESE = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"  # ISO 2022 IR 87


@pytest.fixture
def folder(tmp_path):
    make_series(tmp_path / "ct")
    return tmp_path / "ct"


def edit(folder: Path, change) -> None:
    for file in folder.glob("*.dcm"):
        dataset = pydicom.dcmread(file)
        change(dataset)
        dataset.save_as(file)


def raw(keyword: str, vr: str, value: bytes):
    tag = pydicom.tag.Tag(keyword)
    return lambda d: d.__setitem__(tag, RawDataElement(tag, vr, len(value), value, 0, False, True))


def there_and_back(folder: Path, kind: str) -> tuple[Volume, Annotation, pydicom.Dataset]:
    """Write what two readers drew, hold what is read back against it, and return the file."""
    [volume] = read_series(folder)
    drawn, out = two_readers(volume), folder.parent / f"{kind}.dcm"
    write_annotation(drawn, out, volume, folder, kind)
    assert voxels(read_annotation(out, volume)) == voxels(drawn)
    return volume, drawn, pydicom.dcmread(out)


@pytest.mark.parametrize("kind", KINDS)
def test_absent_elements_of_type_2_are_filled(folder, kind):
    gone = ["PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"]
    gone += ["StudyID", "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"]
    edit(folder, lambda dataset: [dataset.pop(keyword, None) for keyword in gone])
    _, _, written = there_and_back(folder, kind)
    assert [str(written[keyword].value or "") for keyword in gone[:-1]] == [""] * 9


def test_an_absent_frame_of_reference_is_the_same_in_both_kinds(folder):
    edit(folder, lambda dataset: dataset.pop("FrameOfReferenceUID", None))
    written = [there_and_back(folder, kind)[2] for kind in KINDS]
    uids = {str(one.FrameOfReferenceUID) for one in written}
    uids |= {str(roi.ReferencedFrameOfReferenceUID) for roi in written[1].StructureSetROISequence}
    assert len(uids) == 1
    assert uids.pop()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        (b"\\ISO 2022 IR 87", JAPANESE),
        (b"GB18030", "王^小东".encode("gb18030")),
        (b"ISO_IR 100", "Müller^Jörg".encode("latin-1")),
        (b"ISO_IR 999", b"M\xfcller^J\xf6rg"),  # that is none
        (b"ISO_IR 192", "王^小东".encode()),
    ],
)
def test_names_keep_their_bytes_and_their_character_set(folder, kind, character_set, name):
    even = lambda value: value + b" " * (len(value) % 2)  # noqa: E731
    for keyword, vr, value in [
        ("SpecificCharacterSet", "CS", character_set),
        ("PatientName", "PN", name),
    ]:
        edit(folder, raw(keyword, vr, even(value)))
    _, _, written = there_and_back(folder, kind)
    assert written.get_item("PatientName").value == even(name)
    assert (folder.parent / f"{kind}.dcm").read_bytes().count(even(character_set)) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_structures_of_a_plain_series_may_have_any_name(folder, kind):
    [volume] = read_series(folder)
    drawn = two_readers(volume)
    drawn.names[1], drawn.names[2] = (
        "結節 左肺",
        "GTV ä, a long name in a structure set of sixty-four characters",
    )
    write_annotation(drawn, folder.parent / "a.dcm", volume, folder, kind)
    assert read_annotation(folder.parent / "a.dcm", volume).names == drawn.names


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_break_their_rules_are_kept(folder, kind):
    edit(folder, raw("PatientBirthDate", "DA", b"1953/01/02"))
    edit(folder, raw("PatientSex", "CS", b"weiblich"))
    edit(folder, raw("StudyInstanceUID", "UI", b"1.2.X.003\0"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the command line says one line, or none
        _, _, written = there_and_back(folder, kind)
    assert written.get_item("PatientBirthDate").value == b"1953/01/02"
    assert written.get_item("PatientSex").value == b"weiblich"


@pytest.mark.parametrize("kind", KINDS)
def test_files_without_preamble_and_archives(folder, kind):
    for file in folder.glob("*.dcm"):
        file.write_bytes(file.read_bytes()[132:])
    there_and_back(folder, kind)
    archive = Path(shutil.make_archive(str(folder), "zip", folder))
    there_and_back(archive, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_study_a_file_as_simpleitk_writes_them(folder, kind):
    def alone(dataset):
        dataset.StudyInstanceUID = pydicom.uid.generate_uid()
        for keyword in ("FrameOfReferenceUID", "PatientID", "StudyDate", "ReferringPhysicianName"):
            dataset.pop(keyword, None)

    edit(folder, alone)
    studies = {pydicom.dcmread(file).StudyInstanceUID for file in folder.glob("*.dcm")}
    _, _, written = there_and_back(folder, kind)
    assert len(studies) == 9
    assert written.StudyInstanceUID in studies


@pytest.mark.parametrize("kind", KINDS)
def test_a_multi_frame_file_is_referred_to_by_frame(folder, kind):
    multi_frame(
        folder, sop_class=LegacyConvertedEnhancedCTImageStorage, order=[4, 0, 8, 2, 6, 1, 3, 7, 5]
    )
    volume, _, written = there_and_back(folder, kind)
    if kind == "seg":
        placed = [
            (group.PlanePositionSequence[0], group.DerivationImageSequence[0].SourceImageSequence)
            for group in written.PerFrameFunctionalGroupsSequence
        ]
        heights = [float(place.ImagePositionPatient[2]) for place, _ in placed]
        referred = [list(items) for _, items in placed]
        [listed] = written.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert "ReferencedFrameNumber" not in listed
    else:
        contours = [c for roi in written.ROIContourSequence for c in roi.ContourSequence]
        heights = [float(contour.ContourData[2]) for contour in contours]
        referred = [list(contour.ContourImageSequence) for contour in contours]
    for z_mm, [item] in zip(heights, referred, strict=True):
        k = round((z_mm - volume.affine[2, 3]) / volume.affine[2, 2])
        assert item.ReferencedSOPClassUID == LegacyConvertedEnhancedCTImageStorage
        assert item.ReferencedSOPInstanceUID == volume.sop_instance_uids[k]
        assert item.ReferencedFrameNumber == volume.frame_numbers[k]


@pytest.mark.parametrize("turn", [*TURNS, "decubitus"])
def test_a_seg_lies_on_the_rows_and_columns_of_its_images(tmp_path, turn):
    folder = tmp_path / "ct"
    make_series(folder, "supine" if turn == "decubitus" else turn)
    if turn == "decubitus":
        edit(folder, _on_the_side)
    volume, drawn, written = there_and_back(folder, "seg")
    images = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, folder.glob("*.dcm"))}
    stored = np.zeros(volume.hu.shape, bool)
    for mask in drawn.masks:
        stored[mask.block] |= mask.mask
    shared = written.SharedFunctionalGroupsSequence[0]
    marked = 0
    for group in written.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        image = images[source.ReferencedSOPInstanceUID]
        place = group.PlanePositionSequence[0].ImagePositionPatient
        turned = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        np.testing.assert_allclose(place, image.ImagePositionPatient, atol=1e-4)
        np.testing.assert_allclose(turned, image.ImageOrientationPatient, atol=1e-6)
        assert (written.Rows, written.Columns) == (image.Rows, image.Columns)
        marked += 1
    assert marked == len(written.pixel_array)
    assert (volume.source_affine is None) == (turn == "supine")


@pytest.mark.parametrize("kind", KINDS)
def test_a_history_of_a_turned_series_can_be_written(tmp_path, kind):
    volume = make_series(tmp_path / "ct", "prone")
    drawn, out = two_readers(volume), tmp_path / "a.dcm"
    revise(tmp_path / "case", drawn, role="reader", reason="first", date=date(2026, 3, 1))
    write_annotation(read_version(tmp_path / "case"), out, volume, tmp_path / "ct", kind)
    assert voxels(read_annotation(out, volume)) == voxels(drawn)
    if kind == "seg":
        [shared] = pydicom.dcmread(out).SharedFunctionalGroupsSequence
        turned = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        assert list(map(float, turned)) == [-1, 0, 0, 0, -1, 0]


def _on_the_side(dataset):
    """Store the same voxels with rows that run to the back and columns to the left."""
    turned = np.ascontiguousarray(dataset.pixel_array.T)
    dataset.Rows, dataset.Columns = turned.shape
    dataset.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
    dataset.PixelSpacing = list(reversed(dataset.PixelSpacing))
    dataset.PixelData = turned.tobytes()
