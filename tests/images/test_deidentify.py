from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
from pydicom import config
from pydicom.data import get_testdata_file
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID
from sentinels import files_with, identifying_values, stuff
from series_tools import multi_frame, zipped
from test_fuzz import write_raw
from typer.testing import CliRunner

from medlib import cli
from medlib.errors import InputError
from medlib.images.deidentify import deidentify, deidentify_dataset, new_uid
from medlib.images.dicom import read_series, write_series

KEY = b"0123456789abcdef"


@pytest.fixture
def source(volume, tmp_path):
    write_series(volume, tmp_path / "in" / "doe^jane")
    return tmp_path / "in"


def change(source, **values):
    for path in source.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)


def read(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]


def test_nothing_of_a_stuffed_header_is_left(source, tmp_path):
    values = stuff(source)
    written = deidentify(source, tmp_path / "out")
    assert (written.n_files, written.n_series, written.n_patients) == (6, 1, 1)
    assert written.left_out == {}
    assert len(list(files_with(source, values))) > 100
    assert list(files_with(tmp_path / "out", values)) == []
    assert "doe" not in str(list((tmp_path / "out").rglob("*")))


def test_the_image_is_the_same(source, tmp_path):
    [before] = read_series(source)
    stuff(source)
    deidentify(source, tmp_path / "out")
    [after] = read_series(tmp_path / "out")
    assert np.array_equal(after.hu, before.hu)
    assert np.array_equal(after.affine, before.affine)
    assert after.identity.manufacturer == before.identity.manufacturer
    assert after.identity.kernel == before.identity.kernel
    assert after.identity.series_instance_uid != before.identity.series_instance_uid


def test_it_says_what_was_done(source, tmp_path):
    deidentify(source, tmp_path / "out")
    for dataset in read(tmp_path / "out"):
        assert dataset.PatientIdentityRemoved == "YES"
        assert dataset.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
        assert dataset.LongitudinalTemporalInformationModified == "REMOVED"
        assert dataset.StudyDate == ""
        assert "SeriesDate" not in dataset or dataset.SeriesDate == "19000101"
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert identifying_values(dataset).keys() <= {"PatientName", "StudyID"}


def test_uids_follow_from_the_key(source, tmp_path):
    original = read(source)[0]
    for name, key in (("a", KEY), ("b", KEY), ("c", KEY[::-1]), ("d", None)):
        deidentify(source, tmp_path / name, key)
    a, b, c, d = (read(tmp_path / name)[0] for name in "abcd")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert a[keyword] == b[keyword]
        assert len({str(x[keyword].value) for x in (original, a, c, d)}) == 4
    assert UID(a.SOPInstanceUID).is_valid
    assert len({x.SOPInstanceUID for x in read(tmp_path / "a")}) == 6
    assert new_uid("1.2.3", KEY) == new_uid("1.2.3", KEY) != new_uid("1.2.4", KEY)


def test_references_between_files_still_hold(source, tmp_path):
    uids = [dataset.SOPInstanceUID for dataset in read(source)]
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uids[0]
    change(source, SourceImageSequence=Sequence([item]))
    deidentify(source, tmp_path / "out", KEY)
    reference = read(tmp_path / "out")[0].SourceImageSequence[0]
    assert reference.ReferencedSOPInstanceUID == new_uid(uids[0], KEY)
    assert reference.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert new_uid(uids[0], KEY) in {x.SOPInstanceUID for x in read(tmp_path / "out")}


def test_patients_stay_apart_and_together(volume, tmp_path):
    for name, patient in (("a", "MRN-1"), ("b", "MRN-2"), ("c", "MRN-1")):
        write_series(volume, tmp_path / "in" / name)
        for number, path in enumerate((tmp_path / "in" / name).glob("*.dcm")):
            dataset = pydicom.dcmread(path)
            dataset.PatientID, dataset.SeriesInstanceUID = patient, f"1.2.{ord(name)}"
            dataset.SOPInstanceUID = f"1.2.{ord(name)}.{number}"
            dataset.save_as(path)
    written = deidentify(tmp_path / "in", tmp_path / "out")
    assert (written.n_series, written.n_patients) == (3, 2)


def test_a_name_typed_elsewhere_is_found(source, tmp_path):
    change(
        source,
        PatientName="Meyerhoff^Jo",
        PatientID="MRN447812",
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        ManufacturerModelName="LightSpeed of Mr Meyerhoff",
        ConvolutionKernel="for mrn447812",
    )
    written = deidentify(source, tmp_path / "out")
    assert written.n_blanked == 12
    assert not list(files_with(tmp_path / "out", {"name": "meyerhoff", "id": "mrn447812"}))


def test_a_name_in_coded_values_goes_and_the_codes_stay(source, tmp_path):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "99X", "of Zwiebelfisch"
    change(
        source,
        PatientName="Zwiebelfisch^Rosalinde",
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "ZWIEBELFISCH", "CT_SOM5 SPI"],
        ScanOptions=["HELIX", "ZWIEBELFISCH"],
        BodyPartExamined="ZWIEBELFISCH",
        PatientPosition="HFS",
        AnatomicRegionSequence=Sequence([item]),
    )
    written = deidentify(source, tmp_path / "out")
    assert not list(files_with(tmp_path / "out", {"name": "zwiebelfisch"}))
    dataset = read(tmp_path / "out")[0]
    assert dataset.ImageType == ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]
    assert dataset.ScanOptions == "HELIX"
    assert dataset.BodyPartExamined == ""
    assert dataset.AnatomicRegionSequence[0].CodeMeaning == "ANONYMIZED", "may not be empty"
    assert (dataset.PatientPosition, dataset.Modality) == ("HFS", "CT")
    assert written.n_blanked == 4 * 6


@pytest.mark.parametrize(
    ("name", "written"),
    [("Kim^Li", "Kim"), ("Kim^Li", "LI,K"), ("王小明", "王小明"), ("王^小明", "患者王小明")],
)
def test_a_short_name_typed_elsewhere_is_found(source, tmp_path, name, written):
    texts = ("ConvolutionKernel", "FilterType", "AcquisitionProtocolDescription")
    change(
        source,
        SpecificCharacterSet="ISO_IR 192",
        PatientName=name,
        PatientID="77",
        ScanOptions="KIM 77",
        **dict.fromkeys(texts, f"B40f {written}"),
    )
    before = read(source)[0]
    deidentify(source, tmp_path / "out")
    for word in (name.split("^")[0], written):
        assert not list(files_with(tmp_path / "out", {"name": f" {word}"}))
    [volume] = read_series(tmp_path / "out")
    assert volume.identity.kernel == ""
    assert read(tmp_path / "out")[0].Manufacturer == before.Manufacturer


def test_a_patient_called_like_a_term_leaves_the_image_readable(source, tmp_path):
    """Hu is a name, and the unit of the pixels; 192 may be a number, and is a character set."""
    change(
        source,
        SpecificCharacterSet="ISO_IR 192",
        PatientName="Hu^Mono",
        PatientID="192",
        RescaleType="HU",
        FilterType="Hu 192",
    )
    deidentify(source, tmp_path / "out")
    [before], [after] = read_series(source), read_series(tmp_path / "out")
    assert np.array_equal(before.hu, after.hu)
    dataset = read(tmp_path / "out")[0]
    assert dataset.SpecificCharacterSet == "ISO_IR 192"
    assert (dataset.RescaleType, dataset.FilterType) == ("HU", "")


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("SeriesNumber", b"3 of Zwiebelfisch"),
        ("PatientWeight", b"70,5"),
        ("SliceThickness", b"Zwiebelfisch 2,5"),
        ("PatientBirthDate", b"1953/01/02"),
        ("ContentDate", b"of Zwiebelfisch"),
        ("PatientAge", b"Zwiebelfisch"),
    ],
)
def test_a_value_that_is_not_as_its_type_promises_goes(source, tmp_path, keyword, value):
    for path in source.rglob("*.dcm"):
        write_raw(path, keyword, None, value)
    written = deidentify(source, tmp_path / "out")
    assert written.n_files == 6
    for dataset in read(tmp_path / "out"):
        assert str(dataset.get(keyword, "")) in ("", "None", "19000101", "000Y")
    texts = {"name": "zwiebelfisch", "weight": "70,5", "birth": "1953/01/02"}
    assert not list(files_with(tmp_path / "out", texts))


def without_syntax(source):
    for path in source.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        del dataset.file_meta.TransferSyntaxUID
        dataset.save_as(path, implicit_vr=False, little_endian=True)
        assert "TransferSyntaxUID" not in pydicom.dcmread(path).file_meta


def without_preamble(source):
    for path in source.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.preamble, dataset.file_meta = None, pydicom.dataset.FileMetaDataset()
        dataset.save_as(path, implicit_vr=False, little_endian=True)
        assert path.read_bytes()[:2] == b"\x08\x00"


def without_class(source):
    for path in source.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        del dataset.SOPClassUID
        dataset.save_as(path)


def deflated(source):
    for path in source.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        dataset.save_as(path)


def stripped(source):
    for path in source.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        for keyword in ("StudyID", "StudyDate", "PatientBirthDate", "AccessionNumber"):
            dataset.pop(keyword, None)
        del dataset.FrameOfReferenceUID
        dataset.save_as(path)


def several_frames(source):
    [folder] = {path.parent for path in source.rglob("*.dcm")}
    multi_frame(folder)


def one_archive(source):
    zipped(source)


def linked(source):
    """Leave a folder of links, and one link that leads nowhere."""
    elsewhere = source.parent / "elsewhere"
    source.rename(elsewhere)
    source.mkdir()
    (source / "series").symlink_to(elsewhere)
    (source / "gone.dcm").symlink_to(elsewhere / "gone.dcm")


KINDS = [
    without_syntax,
    without_preamble,
    without_class,
    deflated,
    stripped,
    several_frames,
    one_archive,
    linked,
]


@pytest.mark.parametrize("change_to", KINDS)
def test_what_is_read_is_written_without_its_patient(source, tmp_path, change_to):
    [before] = read_series(source)
    change(source, PatientName="Zwiebelfisch^Rosalinde", SeriesDescription="of Zwiebelfisch")
    change_to(source)
    written = deidentify(source, tmp_path / "out")
    [after] = read_series(tmp_path / "out")
    assert np.array_equal(after.hu, before.hu)
    assert not list(files_with(tmp_path / "out", {"name": "zwiebelfisch"}))
    assert written.left_out == {}
    told = ("1 link(s) lead nowhere: images may be missing",) if change_to is linked else ()
    assert written.notes == told


@pytest.mark.parametrize("charset", [["", "ISO 2022 IR 87"], "ISO_IR 100", "GB18030"])
def test_character_sets_are_kept(source, tmp_path, charset):
    text = {"ISO_IR 100": "für Schädel", "GB18030": "胸部平扫"}.get(str(charset), "山")
    change(source, SpecificCharacterSet=charset, ConvolutionKernel=text)
    deidentify(source, tmp_path / "out")
    dataset = read(tmp_path / "out")[0]
    assert dataset.SpecificCharacterSet == charset
    assert dataset.ConvolutionKernel == text


def test_an_unknown_character_set_is_neither_a_traceback_nor_a_leak(source, tmp_path):
    change(source, PatientName="Zwiebelfisch^Jörg", ConvolutionKernel="für Zwiebelfisch")
    for path in source.rglob("*.dcm"):
        write_raw(path, "SpecificCharacterSet", None, b"ISO_IR 999")
    assert deidentify(source, tmp_path / "out").n_files == 6
    assert not list(files_with(tmp_path / "out", {"name": "zwiebelfisch"}))


def test_folders_and_files_named_after_the_patient_leave_no_trace(source, tmp_path):
    named = source / "Zwiebelfisch^Rosalinde"
    (source / "doe^jane").rename(named)
    for number, path in enumerate(sorted(named.iterdir())):
        path.rename(named / f"Zwiebelfisch {number}.dcm")
    (named / "Zwiebelfisch.zip").write_bytes(b"PK\3\4 broken")
    done = CliRunner().invoke(cli.app, ["data", "deidentify", str(source), str(tmp_path / "out")])
    assert done.exit_code == 0, done.stderr
    assert "1 packed file(s) could not be unpacked" in done.stdout
    assert "zwiebelfisch" not in (done.stdout + done.stderr).lower()
    assert not list(files_with(tmp_path / "out", {"name": "zwiebelfisch"}))
    for path in named.glob("*.dcm"):
        path.write_bytes(b"")
    done = CliRunner().invoke(cli.app, ["data", "deidentify", str(named), str(tmp_path / "out2")])
    assert done.exit_code == 2
    assert "zwiebelfisch" not in (done.stdout + done.stderr).lower()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"BurnedInAnnotation": "YES"}, "text burned into the image"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "picture of a screen or page"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"}, "picture of a screen or page"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "picture of a screen or page"),
        ({"ImageType": ["ORIGINAL", "SECONDARY", "OTHER", "CT_SOM5 PROT"]}, "screen or page"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "screen or page"),
        ({"ImageType": ["DERIVED", "SECONDARY"], "BitsStored": 8}, "screen or page"),
        ({"SeriesDescription": "Patient Protocol"}, "screen or page"),
    ],
)
def test_burned_in_text_is_left_out(source, tmp_path, values, reason):
    [first, *_] = sorted(source.rglob("*.dcm"))
    dataset = pydicom.dcmread(first)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.save_as(first)
    written = deidentify(source, tmp_path / "out")
    assert written.n_files == 5
    [(why, count)] = written.left_out.items()
    assert reason in why
    assert count == 1
    change(source, **values)
    with pytest.raises(InputError, match=reason):
        deidentify(source, tmp_path / "out2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_documents_and_other_files_are_left_out(source, tmp_path):
    (source / "letter.txt").write_text("Dear Mrs Doe")
    shutil.copy(get_testdata_file("reportsi.dcm"), source / "report.dcm")
    written = deidentify(source, tmp_path / "out")
    assert written.n_files == 6
    assert written.left_out == {
        "not DICOM": 1,
        "not an image (a report or another document)": 1,
    }


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "rtdose.dcm"])
def test_real_headers(name, tmp_path):
    path = get_testdata_file(name)
    before = pydicom.dcmread(path)
    deidentify(Path(path), tmp_path / "out")
    [after] = read(tmp_path / "out")
    assert after.PixelData == before.PixelData
    assert not any(element.tag.is_private for element in after.iterall())
    left = identifying_values(after)
    for keyword, values in identifying_values(before).items():
        assert not set(values) & set(left.get(keyword, []))


def test_nothing_is_overwritten_and_nothing_half_done(source, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "keep.txt").write_text("mine")
    with pytest.raises(InputError, match="nothing is overwritten"):
        deidentify(source, tmp_path / "out")
    (tmp_path / "out" / "keep.txt").unlink()
    written = Path.write_bytes

    def full_disk(self, content):
        if len(list(tmp_path.rglob("2.25*.dcm"))) == 3:
            raise OSError(28, "No space left on device")
        return written(self, content)

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(InputError, match="No space left"):
        deidentify(source, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_a_short_key_is_refused(source, tmp_path):
    with pytest.raises(InputError, match="5 bytes"):
        deidentify(source, tmp_path / "out", b"short")


def test_every_name_and_date_of_the_dictionary_goes():
    """Also those that the table does not list."""
    dataset = Dataset()
    known = {tuple(tag) for tag in table.ALL_TAGS}
    unlisted = 0
    for tag, (vr, vm, _, _, keyword) in DicomDictionary.items():
        if vr in ("PN", "DA", "DT", "TM") and vm.startswith("1") and keyword and tag >> 16 > 2:
            value = {"PN": "Zq^Name", "DA": "19110203", "DT": "19110203111203", "TM": "111203"}[vr]
            dataset.add_new(tag, vr, value)
            unlisted += (tag >> 16, tag & 0xFFFF) not in known
    assert unlisted > 5
    assert len(dataset) > 150
    deidentify_dataset(dataset, KEY)
    left = {str(element.value) for element in dataset if element.VR in ("PN", "DA", "DT", "TM")}
    assert left <= {
        "",
        "ANONYMIZED",
        "19000101",
        "19000101000000",
        "000000",
        str(dataset.PatientName),
    }


@pytest.mark.parametrize("name", ["Zwiebelfisch^R", "Kim^Li", "王^小明"])
def test_no_text_of_the_dictionary_keeps_the_name(name):
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = name, "4711"
    word = name.split("^")[0].upper()
    texts = ("AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT")
    for tag, (vr, vm, _, _, keyword) in DicomDictionary.items():
        if vr in texts and keyword and tag >> 16 > 2 and tag not in dataset:
            value = ["X", f"{word} 4711", "Y"] if vm.endswith("n") else f"{word} 4711"
            dataset.add(DataElement(tag, vr, value, validation_mode=config.IGNORE))
    assert len(dataset) > 1000
    deidentify_dataset(dataset, KEY)
    left = [e.keyword for e in dataset if e.VR in texts and word in str(e.value).upper()]
    assert left == []


def test_uids_that_the_table_does_not_list_are_mapped():
    dataset = Dataset()
    dataset.SOPInstanceUIDOfConcatenationSource = "1.2.826.1"
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.ConcatenationUID = ["1.2.826.1", "1.2.826.2"]
    deidentify_dataset(dataset, KEY)
    assert dataset.SOPInstanceUIDOfConcatenationSource == new_uid("1.2.826.1", KEY)
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert list(dataset.ConcatenationUID) == [new_uid("1.2.826.1", KEY), new_uid("1.2.826.2", KEY)]


def test_overlays_go():
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    dataset.add_new(0x60000010, "US", 1)
    dataset.add_new(0x60003000, "OB", b"text")
    dataset.add_new(0x50003000, "OB", b"curve")
    deidentify_dataset(dataset, KEY)
    assert not any(element.tag.group in (0x6000, 0x5000) for element in dataset)


@pytest.mark.dciodvfy
def test_dciodvfy_finds_no_new_error(source, tmp_path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy of dicom3tools is not installed")
    deidentify(source, tmp_path / "out")
    for path in list((tmp_path / "out").rglob("*.dcm"))[:2]:
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        assert "CTImage" in done.stderr
        assert "Error" not in done.stderr + done.stdout


def test_on_the_command_line(source, tmp_path):
    (source / "letter.txt").write_text("Dear Mrs Doe")
    (tmp_path / "key").write_bytes(KEY)
    arguments = ["data", "deidentify", str(source), str(tmp_path / "out")]
    done = CliRunner().invoke(cli.app, [*arguments, "--key", str(tmp_path / "key")])
    assert done.exit_code == 0, done.stderr
    assert "6 images, 1 series, 1 patients" in done.stdout
    assert "left out: 1 (not DICOM)" in done.stdout
    again = CliRunner().invoke(cli.app, arguments)
    assert again.exit_code == 2
    assert len(again.stderr.splitlines()) == 1
