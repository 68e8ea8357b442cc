"""Messages say what stands in a file, and warnings how the patient lies."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from series_tools import compress, edit_all, files_of, multi_frame, rewrite

from medlib.images import image_errors as e
from medlib.images.dicom import read_series
from medlib.images.dicom_header import syntax_of


def put_text(folder: Path, tag: int, text: str) -> None:
    """Write the text of a decimal string behind pydicom's back."""
    for path in folder.iterdir():
        data = path.read_bytes()
        head = tag.to_bytes(4, "big")
        head = head[1::-1] + head[3:1:-1] + b"DS"
        at = data.index(head) + 6
        length = int.from_bytes(data[at : at + 2], "little")
        value = text.encode() + b" " * (len(text) % 2)
        rest = data[at + 2 + length :]
        path.write_bytes(data[:at] + len(value).to_bytes(2, "little") + value + rest)


COMMAS = {
    "PixelSpacing": (0x00280030, "0,75\\0,7", e.SpacingError),
    "ImagePositionPatient": (0x00200032, "-1,5\\2\\3", e.SpacingError),
    "ImageOrientationPatient": (0x00200037, "1,0\\0\\0\\0\\1,0\\0", e.SpacingError),
    "RescaleIntercept": (0x00281052, "-1024,0", e.NotHounsfieldError),
    "RescaleSlope": (0x00281053, "1,0", e.NotHounsfieldError),
}


@pytest.mark.parametrize("keyword", COMMAS)
def test_a_decimal_comma_is_quoted(folder, keyword):
    tag, text, error = COMMAS[keyword]
    put_text(folder, tag, text)
    with pytest.raises(error) as caught:
        read_series(folder)
    assert f"{keyword} '{text}' with a decimal comma, where a point has to be" in str(caught.value)
    assert f"no {keyword}" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_decimal_comma_in_a_thickness(folder):
    for path in files_of(folder)[1:]:
        path.unlink()
    put_text(folder, 0x00180050, "2,5")
    with pytest.raises(e.SpacingError, match="with SliceThickness '2,5'; expected"):
        read_series(folder)


def test_a_decimal_comma_in_a_frame(folder):
    multi_frame(folder)
    path = folder / "enhanced.dcm"
    data = path.read_bytes()
    assert data.count(b"0.75\\0.7") == 1
    path.write_bytes(data.replace(b"0.75\\0.7", b"0,75\\0,7"))
    with pytest.raises(e.SpacingError, match=r"PixelSpacing '0,75\\0,7' with a decimal comma"):
        read_series(folder)


def test_words_are_quoted(folder):
    put_text(folder, 0x00280030, "wide\\far")
    with pytest.raises(e.SpacingError, match=r"has PixelSpacing 'wide\\far'; expected two"):
        read_series(folder)


@pytest.mark.parametrize(
    ("syntax", "found"),
    [
        (ImplicitVRLittleEndian, ImplicitVRLittleEndian),
        (ExplicitVRLittleEndian, ExplicitVRLittleEndian),
        (ExplicitVRBigEndian, ExplicitVRBigEndian),
    ],
)
def test_without_transfer_syntax(volume, folder, syntax, found):
    """A file meta information that names none: the data set shows it."""
    rewrite(folder, syntax)
    stated = b"\x02\x00\x10\x00UI"
    for path in files_of(folder):
        data = path.read_bytes()
        at = data.index(stated)
        size = 8 + int.from_bytes(data[at + 6 : at + 8], "little")
        group = int.from_bytes(data[140:144], "little") - size
        data = data[:140] + group.to_bytes(4, "little") + data[144:at] + data[at + size :]
        path.write_bytes(data)
        dataset = pydicom.dcmread(path)
        assert "TransferSyntaxUID" not in dataset.file_meta
        assert syntax_of(dataset) == found
    [read] = read_series(folder)
    assert np.array_equal(read.hu, volume.hu)
    assert read.warnings == ()


@pytest.mark.parametrize(
    ("position", "lies"),
    [
        ("HFP", "prone"),
        ("FFS", "feet first"),
        ("FFP", "prone and feet first"),
        ("HFDR", "on the right side"),
        ("FFDL", "on the left side and feet first"),
    ],
)
def test_how_the_patient_lies_is_told(folder, position, lies):
    edit_all(folder, PatientPosition=position)
    [read] = read_series(folder)
    assert read.warnings == (f"the patient lies {lies} (PatientPosition {position})",)


@pytest.mark.parametrize("position", ["HFS", None])
def test_head_first_and_supine_is_not_worth_a_word(folder, position):
    edit_all(folder, PatientPosition=position)
    assert read_series(folder)[0].warnings == ()


def test_slices_of_a_multi_frame_file_know_their_frame(volume, folder):
    assert read_series(folder)[0].frame_numbers == ()
    multi_frame(folder, order=[3, 0, 5, 1, 4, 2])
    [read] = read_series(folder)
    assert np.array_equal(read.hu, volume.hu)
    assert read.frame_numbers == (2, 4, 6, 1, 5, 3)
    assert len(set(read.sop_instance_uids)) == 1


def test_compressed_without_transfer_syntax_is_told(folder):
    compress(folder, RLELossless)
    for path in files_of(folder):
        dataset = pydicom.dcmread(path)
        data = path.read_bytes()
        syntax = dataset.file_meta["TransferSyntaxUID"].value.encode()
        at = data.index(b"\x02\x00\x10\x00UI")
        size = 8 + len(syntax) + len(syntax) % 2
        group = int.from_bytes(data[140:144], "little") - size
        path.write_bytes(
            data[:140] + group.to_bytes(4, "little") + data[144:at] + data[at + size :]
        )
    with pytest.raises(e.PixelDataError, match="no TransferSyntaxUID"):
        read_series(folder)


def test_dead_links_are_told_where_slices_are_missing(folder, tmp_path):
    (tmp_path / "study").mkdir()
    for k, path in enumerate(files_of(folder)):
        (tmp_path / "study" / path.name).symlink_to(path)
        if k in (2, 3):
            path.unlink()
    with pytest.raises(e.MissingSlicesError, match=r"about 2 missing.*2 link\(s\) lead nowhere"):
        read_series(tmp_path / "study")


def test_nothing_but_dead_links_is_told(tmp_path):
    for k in range(3):
        (tmp_path / str(k)).symlink_to(tmp_path / "gone" / str(k))
    with pytest.raises(e.NotDicomError, match=r"3 link\(s\) lead nowhere.*: 0 file\(s\), none"):
        read_series(tmp_path)
    with pytest.raises(e.NotDicomError, match="a link that leads nowhere; expected"):
        read_series(tmp_path / "0")


def test_limits_hold_for_all_archives_together(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("medlib.images.dicom_find.FREELY_PACKED_BYTES", 2**20)
    for k in range(3):
        with zipfile.ZipFile(folder / f"{k}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", bytes(600_000))
    [read] = read_series(folder)
    assert read.warnings == ("2 packed file(s) could not be unpacked: images may be missing",)


def test_screen_saves_only_are_told(folder):
    edit_all(folder, ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"])
    with pytest.raises(e.NoCTError, match=r"none a CT image \(6 screen save"):
        read_series(folder)


def test_scouts_only_are_told(folder):
    edit_all(folder, ImageType=["ORIGINAL", "PRIMARY", "SCOUT"])
    with pytest.raises(e.NoCTError, match="6 file.*localizers only"):
        read_series(folder)


def test_a_damaged_deflated_file_is_damaged_and_no_more(volume, folder, recwarn):
    """What is no deflated stream makes pydicom warn and zlib raise: neither is for the user."""
    path = folder / "zz.dcm"
    data = files_of(folder)[0].read_bytes()
    plain, other = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"
    at = data.index(b"\x02\x00\x10\x00UI") + 6
    assert data[at + 2 : at + 22] == plain
    length = len(other).to_bytes(2, "little")
    damaged = bytearray(data[:at] + length + other + data[at + 22 :])
    damaged[136:138] = b"\0\0"  # the first VR
    path.write_bytes(damaged)
    [read] = read_series(folder)
    assert np.array_equal(read.hu, volume.hu)
    assert read.warnings == ("1 damaged DICOM file(s) passed over",)
    assert not recwarn.list
