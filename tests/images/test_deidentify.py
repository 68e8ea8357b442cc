from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
from pydicom.data import get_testdata_file
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID
from sentinels import files_with, identifying_values, stuff
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


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"BurnedInAnnotation": "YES"}, "text burned into the image"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "screenshot"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"}, "screenshot"),
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
        "not DICOM, or damaged": 1,
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
    saved = Dataset.save_as

    def full_disk(self, path, **options):
        if len(list(tmp_path.rglob("2.25*.dcm"))) == 3:
            raise OSError(28, "No space left on device")
        saved(self, path, **options)

    monkeypatch.setattr(Dataset, "save_as", full_disk)
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
    assert "left out: 1 (not DICOM, or damaged)" in done.stdout
    again = CliRunner().invoke(cli.app, arguments)
    assert again.exit_code == 2
    assert len(again.stderr.splitlines()) == 1
