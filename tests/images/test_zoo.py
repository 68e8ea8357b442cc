"""Odd and damaged series, each with the outcome that it must have."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from faults import FAULTS, try_faults
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedCTImageStorage,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    XRayRadiationDoseSRStorage,
    generate_uid,
)
from series_tools import (
    change_stored,
    compress,
    document,
    edit,
    edit_all,
    files_of,
    moved,
    multi_frame,
    rewrite,
    without_meta,
    zipped,
)
from typer.testing import CliRunner

from medlib.errors import MedlibError
from medlib.images import image_errors as e
from medlib.images.dicom import read_series, write_series
from medlib.images.image_grids import LPS_TO_RAS
from medlib.images.volume import SeriesIdentity, Volume

SAME = "same HU, no warning"
SHAPE = (6, 40, 48)


@pytest.fixture(scope="module")
def source() -> Volume:
    """HU between -1024 and 3000, every slice different; 40 rows, 48 columns."""
    rng = np.random.default_rng(3)
    hu = rng.integers(-1024, 1000, SHAPE).astype(np.float32)
    affine = np.diag([0.7, 0.75, 2.5, 1.0])
    affine[:3, 3] = (-170.3, -160.1, -212.5)
    identity = SeriesIdentity("P-1", "1.2.3", "1.2.3.4", "1.2.3.5", "M", "X", "K", "CHEST")
    return Volume(hu, affine, identity)


@pytest.fixture(scope="module")
def good(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("zoo") / "good"
    write_series(source, folder)
    return folder


@pytest.fixture
def folder(good, tmp_path) -> Path:
    return shutil.copytree(good, tmp_path / "in")


def one(folder: Path, k: int = 3) -> Path:
    return files_of(folder)[k]


def scattered(f: Path) -> None:
    for name, path in zip(["x/9", "x/y/1", "0", "3.IMA", "x/2.bak", "z"], files_of(f), strict=True):
        (f / name).parent.mkdir(parents=True, exist_ok=True)
        path.rename(f / name)


def beside(f: Path, name: str, **values) -> None:
    shutil.copy(one(f), f / name)
    edit(f / name, SOPInstanceUID=generate_uid(), **values)


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def renumbered(f: Path) -> None:
    for k, path in enumerate(files_of(f)):
        edit(path, InstanceNumber=100 - k)


def own_rescale(f: Path) -> None:
    for k, path in enumerate(files_of(f)):
        stored = pydicom.dcmread(path).pixel_array.astype(np.int32)
        shifted = (stored - 7 * k).astype("<i2")
        edit(path, PixelData=shifted.tobytes(), RescaleIntercept=str(-1024 + 7 * k))


def scaled_by_two(f: Path) -> None:
    # Stored values are HU + 1024; odd ones need the half.
    change_stored(f, lambda v: 2 * v, RescaleSlope="0.5")


def long_header(f: Path) -> None:
    for path in files_of(f):
        dataset = pydicom.dcmread(path)
        block = dataset.private_block(0x0009, "MEDLIB TEST", create=True)
        block.add_new(0x01, "OB", bytes(40_000))
        dataset.save_as(path)


def trailing(f: Path) -> None:
    for path in files_of(f):
        dataset = pydicom.dcmread(path)
        dataset.add_new(0xFFFCFFFC, "OB", bytes(64))  # DataSetTrailingPadding
        dataset.save_as(path)


def padded(f: Path, value: int, *, tag: int | None, dtype: str = "<i2") -> None:
    def corner(stored):
        stored[:4, :4] = value
        return stored

    representation = int(dtype == "<i2")
    change_stored(f, corner, dtype, PixelRepresentation=representation)
    for path in files_of(f) if tag is not None else []:
        dataset = pydicom.dcmread(path)
        dataset.add_new("PixelPaddingValue", "SS" if tag < 0 else "US", tag)
        dataset.save_as(path)


def overlay(f: Path) -> None:
    def with_bit(stored):
        stored[0, 0] |= 1 << 15
        return stored

    change_stored(f, with_bit, "<u2", PixelRepresentation=0, BitsStored=12, HighBit=11)
    for path in files_of(f):
        dataset = pydicom.dcmread(path)
        dataset.add_new(0x60000102, "US", 15)  # OverlayBitPosition
        dataset.save_as(path)


def wrong_codestream(f: Path) -> None:
    compress(f, JPEG2000Lossless)
    edit_all(f, Rows=24, Columns=80)


def cut_codestream(f: Path, syntax: str) -> None:
    compress(f, syntax)
    dataset = pydicom.dcmread(one(f))
    [frame] = pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = pydicom.encaps.encapsulate([frame[: len(frame) // 2]])
    dataset.save_as(one(f))


def marked(f: Path, syntax: str) -> None:
    """Change only what the meta information says of the transfer syntax."""
    mark = b"\x02\x00\x10\x00UI"
    old = mark + b"\x14\x00" + b"1.2.840.10008.1.2.1\0"
    value = syntax.encode() + bytes(len(syntax) % 2)
    for path in files_of(f):
        raw = path.read_bytes()
        assert old in raw
        new = mark + len(value).to_bytes(2, "little") + value
        path.write_bytes(raw.replace(old, new))


def rgb(f: Path) -> None:
    edit_all(
        f,
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        PhotometricInterpretation="RGB",
        PixelData=bytes(40 * 48 * 2 * 3),
    )


def wrong_number_text(f: Path) -> None:
    """Replace a DS value by words of the same length, behind pydicom's back."""
    for path in files_of(f):
        path.write_bytes(path.read_bytes().replace(b"0.75\\0.7", b"wide\\far"))


def bomb(f: Path) -> None:
    emptied(f)
    with zipfile.ZipFile(f / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for k in range(3):
            archive.writestr(f"{k}.dcm", bytes(90 * 2**20))


def lying_zip(f: Path) -> None:
    """An archive whose directory claims 1 TiB."""
    zipped(f)
    raw = bytearray((f / "study.zip").read_bytes())
    at = raw.find(b"PK\x01\x02")
    raw[at + 24 : at + 28] = (2**32 - 2).to_bytes(4, "little")
    again = raw.find(b"PK\x01\x02", at + 4)
    while again > 0:
        raw[again + 24 : again + 28] = (2**32 - 2).to_bytes(4, "little")
        again = raw.find(b"PK\x01\x02", again + 4)
    (f / "study.zip").write_bytes(raw)


def locked_zip(f: Path) -> None:
    zipped(f)
    raw = bytearray((f / "study.zip").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.find(mark)
        while at >= 0:
            raw[at + offset] |= 1
            at = raw.find(mark, at + 4)
    (f / "study.zip").write_bytes(raw)


def emptied(f: Path) -> None:
    for path in files_of(f):
        path.unlink()


def as_nifti(f: Path, name: str = "ct.nii.gz", *, canonical: bool = False, change=None) -> None:
    [volume] = read_series(f)
    emptied(f)
    values = volume.hu.transpose(2, 1, 0).astype(np.int16)
    image = nibabel.Nifti1Image(
        values if change is None else change(values), LPS_TO_RAS @ volume.affine
    )
    image.header.set_xyzt_units("mm")
    nibabel.save(nibabel.as_closest_canonical(image) if canonical else image, f / name)


def as_nrrd(f: Path, name: str = "ct.nrrd", *, packed: bool = True) -> None:
    [volume] = read_series(f)
    emptied(f)
    image = sitk.GetImageFromArray(volume.hu.astype(np.int16))
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetOrigin(volume.affine[:3, 3].tolist())
    sitk.WriteImage(image, str(f / name), useCompression=packed)


def claim(f: Path) -> None:
    """A NIfTI header that claims 2000 x 2000 x 2000 voxels."""
    as_nifti(f, "ct.nii")
    raw = bytearray((f / "ct.nii").read_bytes())
    raw[42:48] = np.array([2000] * 3, "<i2").tobytes()
    (f / "ct.nii").write_bytes(raw)


def no_size(f: Path) -> None:
    as_nifti(f, "ct.nii")
    raw = bytearray((f / "ct.nii").read_bytes())
    raw[80:92] = bytes(12)  # pixdim 1 to 3
    (f / "ct.nii").write_bytes(raw)


def nrrd_field(f: Path, old: bytes, new: bytes) -> None:
    as_nrrd(f, packed=False)
    raw = (f / "ct.nrrd").read_bytes()
    assert old in raw
    (f / "ct.nrrd").write_bytes(raw.replace(old, new))


def oblique_nifti(f: Path) -> None:
    as_nifti(f)
    image = nibabel.load(f / "ct.nii.gz")
    turn = np.eye(4)
    turn[1:3, 1:3] = [[0.966, -0.259], [0.259, 0.966]]
    nibabel.save(
        nibabel.Nifti1Image(np.asarray(image.dataobj), turn @ image.affine), f / "ct.nii.gz"
    )


def linked(f: Path, *, dead: int = 0) -> None:
    """The slices in a folder elsewhere; here a link to it, a loop, and links to nothing."""
    there = f.with_name("there")
    f.rename(there)
    f.mkdir()
    (f / "series").symlink_to(there)
    (f / "series again").symlink_to(there)
    (f / "loop").symlink_to(f)
    for k in range(dead):
        (f / f"{k}.dcm").symlink_to(there / "gone" / f"{k}.dcm")


def linked_files(f: Path) -> None:
    """Each slice once as a link, the folder itself a link, and one slice twice."""
    there = f.with_name("there")
    f.rename(there)
    links = f.with_name("links")
    links.mkdir()
    for path in files_of(there):
        (links / path.name).symlink_to(path)
    (links / "again").symlink_to(files_of(there)[0])
    f.symlink_to(links)


def zips_inside(f: Path) -> None:
    """Two archives in a folder, and one slice outside them."""
    for name, some in (("a", files_of(f)[:3]), ("b", files_of(f)[3:5])):
        (f / name).mkdir()
        for path in some:
            path.rename(f / name / path.name)
        zipped(f / name)
    (f / "a" / "study.zip").rename(f / "no suffix")
    with zipfile.ZipFile(f / "report.docx", "w") as archive:
        archive.writestr("../word.xml", "not to be looked into")


def deflated(f: Path) -> None:
    for path in files_of(f):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(path)


def deflated_bomb(f: Path) -> None:
    emptied(f)
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, "1.2.3"
    dataset.PixelData = bytes(300 * 2**20)
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.save_as(f / "bomb.dcm", enforce_file_format=True)


def without_class(f: Path, **values) -> None:
    """Neither the data set nor the meta information say what kind of object it is."""
    for path in files_of(f):
        edit(path, **values)
    without_meta(f)
    for path in files_of(f):
        dataset = pydicom.dcmread(path, force=True)
        del dataset.SOPClassUID
        pydicom.dcmwrite(path, dataset, implicit_vr=True, little_endian=True)


def with_private(f: Path) -> None:
    """A slice sent again with one private element more."""
    dataset = pydicom.dcmread(one(f))
    dataset.private_block(0x0009, "MEDLIB TEST", create=True).add_new(0x01, "LO", "sent again")
    dataset.save_as(f / "again.dcm")


def packed_copy(f: Path) -> None:
    """A slice again, compressed, under another UID."""
    (f / "again").mkdir()
    shutil.copy(one(f), f / "again" / "1.dcm")
    compress(f / "again", RLELossless)
    edit(f / "again" / "1.dcm", SOPInstanceUID=generate_uid())


def rounded_copy(f: Path) -> None:
    beside(f, "again")
    moved(f / "again", dz=0.05)


def scout(f: Path, name: str = "scout", **values) -> None:
    """A scout inside the series."""
    values = {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "InstanceNumber": 0, **values}
    beside(f, name, ImageOrientationPatient=[1, 0, 0, 0, 0, -1], **values)


def between(f: Path, share: float = 0.5) -> None:
    """A second acquisition under the same UIDs, its slices between those of the first."""
    for k, path in enumerate(files_of(f)):
        shutil.copy(path, f / f"2{path.name}")
        numbers = {"AcquisitionNumber": 2, "InstanceNumber": 7 + k}
        edit(f / f"2{path.name}", SOPInstanceUID=generate_uid(), **numbers)
        moved(f / f"2{path.name}", dz=2.5 * share)


def broken_series_beside(f: Path) -> None:
    (f / "b").mkdir()
    for path in files_of(f)[::2]:
        shutil.copy(path, f / "b")
    edit_all(f / "b", SeriesInstanceUID="1.2.3.9")
    edit(one(f / "b", 1), ImagePositionPatient=[0, 0, 500])


Outcome = type[MedlibError] | str
ZOO: list[tuple[str, object, Outcome]] = [
    # Odd, and read as if it were not.
    ("as it was written", lambda _: None, SAME),
    ("nested, other names, no suffix", scattered, SAME),
    ("numbered from head to feet", renumbered, SAME),
    ("zip", zipped, SAME),
    (
        "zip, nested, with a Mac's leavings",
        lambda f: zipped(f, "a/b/", **{"__MACOSX/._1": b"x"}),
        SAME,
    ),
    (
        "zip in a folder's place, no suffix",
        lambda f: (zipped(f), (f / "study.zip").rename(f / "s")),
        SAME,
    ),
    (
        "localizer beside",
        lambda f: beside(f, "scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        SAME,
    ),
    (
        "secondary capture beside",
        lambda f: beside(f, "sc", SOPClassUID=SecondaryCaptureImageStorage),
        SAME,
    ),
    ("dose report beside", lambda f: document(f / "dose", XRayRadiationDoseSRStorage), SAME),
    (
        "PDF beside",
        lambda f: document(f / "pdf", EncapsulatedPDFStorage, EncapsulatedDocument=b"%PDF"),
        SAME,
    ),
    ("DICOMDIR beside", lambda f: document(f / "DICOMDIR", "1.2.840.10008.1.3.10"), SAME),
    (
        "text and an empty file beside",
        lambda f: ((f / "a.txt").write_text("x"), (f / "b").touch()),
        SAME,
    ),
    (
        "mask in NIfTI beside",
        lambda f: (f / "m.nii").write_bytes(bytes(344) + b"n+1\0" + bytes(90)),
        SAME,
    ),
    (
        "without preamble",
        lambda f: [p.write_bytes(p.read_bytes()[132:]) for p in files_of(f)],
        SAME,
    ),
    ("without meta information", without_meta, SAME),
    ("implicit VR", lambda f: rewrite(f, ImplicitVRLittleEndian), SAME),
    ("big endian", lambda f: rewrite(f, ExplicitVRBigEndian), SAME),
    ("unsigned 16 bit", lambda f: change_stored(f, np.abs, "<u2", PixelRepresentation=0), SAME),
    (
        "unsigned 12 bit",
        lambda f: change_stored(f, np.abs, "<u2", PixelRepresentation=0, BitsStored=12, HighBit=11),
        SAME,
    ),
    (
        "signed 12 bit",
        lambda f: change_stored(
            f, lambda v: v - 1024, BitsStored=12, HighBit=11, RescaleIntercept="0"
        ),
        SAME,
    ),
    (
        "signed 12 bit, written without sign",
        lambda f: change_stored(
            f, lambda v: (v - 1024) % 4096, BitsStored=12, HighBit=11, RescaleIntercept="0"
        ),
        SAME,
    ),
    (
        "signed 32 bit",
        lambda f: change_stored(f, np.abs, "<i4", BitsAllocated=32, BitsStored=32, HighBit=31),
        SAME,
    ),
    ("a rescale of its own in each slice", own_rescale, SAME),
    ("a slope of one half", scaled_by_two, SAME),
    ("RLE", lambda f: compress(f, RLELossless), SAME),
    ("JPEG-LS", lambda f: compress(f, JPEGLSLossless), SAME),
    ("JPEG 2000", lambda f: compress(f, JPEG2000Lossless), SAME),
    ("JPEG lossless, process 14", lambda f: compress(f, "1.2.840.10008.1.2.4.57"), SAME),
    ("JPEG lossless, selection value 1", lambda f: compress(f, "1.2.840.10008.1.2.4.70"), SAME),
    ("enhanced multi-frame", multi_frame, SAME),
    (
        "enhanced, frames in disorder, RLE",
        lambda f: multi_frame(f, order=[3, 0, 5, 1, 4, 2], compress_to=RLELossless),
        SAME,
    ),
    ("enhanced, a rescale in each frame", lambda f: multi_frame(f, per_slice_rescale=True), SAME),
    (
        "legacy converted",
        lambda f: multi_frame(f, sop_class=LegacyConvertedEnhancedCTImageStorage),
        SAME,
    ),
    ("40 kB of private header", long_header, SAME),
    ("elements after the pixels", trailing, SAME),
    ("padding that is air already", lambda f: padded(f, 0, tag=0), "read:"),
    ("a linked folder, a loop", linked, SAME),
    ("linked files in a linked folder", linked_files, SAME),
    ("zips in a folder", zips_inside, SAME),
    ("deflated", deflated, SAME),
    ("deflated, in a zip", lambda f: (deflated(f), zipped(f)), SAME),
    (
        "a reformatted series",
        lambda f: edit_all(f, ImageType=["DERIVED", "SECONDARY", "MPR"]),
        SAME,
    ),
    (
        "a reformatted series of a workstation",
        lambda f: edit_all(
            f, ImageType=["DERIVED", "SECONDARY", "REFORMATTED"], ConversionType="WSD"
        ),
        SAME,
    ),
    # Read with a warning that the report quotes.
    (
        "links that lead nowhere",
        lambda f: linked(f, dead=2),
        "2 link(s) lead nowhere: images may be missing",
    ),
    (
        "a broken zip beside",
        lambda f: (f / "a.zip").write_bytes(b"PK\x03\x04 and no more"),
        "1 packed file(s) could not be unpacked: images may be missing",
    ),
    (
        "a zip in a zip",
        lambda f: zipped(f, **{"more.zip": b"PK\x03\x04"}),
        "1 packed file(s) could not be unpacked: images may be missing",
    ),
    ("a slice twice under another UID", lambda f: beside(f, "again"), "1 file(s) are copies"),
    ("a slice twice, once with a private element", with_private, "1 file(s) are copies"),
    ("a slice twice, once compressed", packed_copy, "1 file(s) are copies"),
    ("a slice twice, once rounded to a tenth", rounded_copy, "1 file(s) are copies"),
    (
        "a screen save beside",
        lambda f: beside(
            f, "save", SeriesInstanceUID="1.2.9", ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]
        ),
        "1 screen save(s)",
    ),
    (
        "a screen save in the series",
        lambda f: beside(f, "save", ImageType=["DERIVED", "SECONDARY", "SCREENSHOT"]),
        "1 screen save(s)",
    ),
    (
        "a picture in colour in the series",
        lambda f: beside(f, "save", SamplesPerPixel=3, PhotometricInterpretation="RGB"),
        "1 screen save(s)",
    ),
    (
        "a picture called dose report beside",
        lambda f: beside(f, "save", SeriesInstanceUID="1.2.9", SeriesDescription="Dose Report"),
        "1 screen save(s)",
    ),
    (
        "text burned into an image beside",
        lambda f: beside(f, "save", SeriesInstanceUID="1.2.9", BurnedInAnnotation="YES"),
        "1 screen save(s) or image(s) with text in them",
    ),
    (
        "a scanned page beside",
        lambda f: beside(f, "page", SeriesInstanceUID="1.2.9", ConversionType="SD"),
        "1 screen save(s)",
    ),
    (
        "a workstation's picture beside",
        lambda f: beside(f, "page", SeriesInstanceUID="1.2.9", ConversionType="WSD"),
        "1 screen save(s)",
    ),
    ("a scout in the series", scout, "1 scout(s), images in another plane"),
    (
        "a scout in the series, called so, in its plane",
        lambda f: scout(f, ImageType=["ORIGINAL", "PRIMARY", "SCOUT"]),
        "1 scout(s), images in another plane",
    ),
    (
        "a scout of other values and another size in the series",
        lambda f: scout(f, RescaleType="ED", PixelSpacing=[1, 1], Rows=48, Columns=40),
        "1 scout(s), images in another plane",
    ),
    ("without SOPClassUID", without_class, "without SOPClassUID: taken for CT"),
    ("a file twice", lambda f: shutil.copy(one(f), f / "again.dcm"), "1 file(s) are copies"),
    (
        "a damaged file among whole ones",
        lambda f: (f / "cut.dcm").write_bytes(one(f).read_bytes()[:140]),
        "1 damaged DICOM file",
    ),
    ("a broken series beside", broken_series_beside, "left out: series 1.2.3.9"),
    (
        "padding with its tag",
        lambda f: padded(f, -2000, tag=-2000),
        "96 voxels outside the field of view",
    ),
    (
        "padding, unsigned tag of signed values",
        lambda f: padded(f, -2000, tag=63536),
        "96 voxels outside the field of view",
    ),
    (
        "padding, unsigned",
        lambda f: padded(f, 63536, tag=63536, dtype="<u2"),
        "96 voxels outside the field of view",
    ),
    (
        "padding without its tag",
        lambda f: padded(f, -2000, tag=None),
        "96 voxels outside the field of view",
    ),
    ("padding like a tissue", lambda f: padded(f, 1064, tag=1064), "were left as they are"),
    (
        "near-lossless JPEG-LS",
        lambda f: compress(f, JPEGLSNearLossless, jls_error=2),
        "compressed with loss",
    ),
    (
        "said to have been compressed with loss",
        lambda f: edit_all(f, LossyImageCompression="01"),
        "compressed with loss",
    ),
    ("MONOCHROME1", lambda f: edit_all(f, PhotometricInterpretation="MONOCHROME1"), "MONOCHROME1"),
    ("overlay in the unused bits", overlay, "an overlay was cut"),
    ("values of unspecified type", lambda f: edit_all(f, RescaleType="US"), "RescaleType US"),
    ("gaps between thin slices", lambda f: edit_all(f, SliceThickness="1"), "was not imaged"),
    (
        "its end missing",
        lambda f: (
            one(f, 1).unlink(),
            one(f, 0).rename(f / "x"),
            edit(f / "x", InstanceNumber=9),
            (f / "x").unlink(),
            edit(one(f, 0), InstanceNumber=1),
        ),
        "image numbers do not occur",
    ),
    ("a single slice", lambda f: [p.unlink() for p in files_of(f)[1:]], "a single slice"),
    (
        "more pixel data than pixels",
        lambda f: [
            edit(p, PixelData=pydicom.dcmread(p).PixelData + bytes(40)) for p in files_of(f)
        ],
        "more pixel data",
    ),
    (
        "a projection",
        lambda f: edit_all(f, ImageType=["DERIVED", "PRIMARY", "MIP"]),
        "a projection",
    ),
    ("NIfTI", as_nifti, "not from DICOM"),
    (
        "NIfTI turned by another tool, plain",
        lambda f: as_nifti(f, "a.nii", canonical=True),
        "not from DICOM",
    ),
    (
        "NIfTI of many names",
        lambda f: (as_nifti(f), shutil.copy(f / "ct.nii.gz", f / "no suffix")),
        "not from DICOM",
    ),
    (
        "NIfTI with voxels that are no numbers",
        lambda f: as_nifti(
            f, change=lambda v: np.where(np.indices(v.shape)[0] < 1, np.nan, v.astype(np.float32))
        ),
        "were set to -1024 HU",
    ),
    ("NRRD, gzip", as_nrrd, "not from DICOM"),
    ("NRRD, raw", lambda f: as_nrrd(f, packed=False), "not from DICOM"),
    (
        "CT and mask in NIfTI",
        lambda f: (
            as_nifti(f),
            nibabel.save(
                nibabel.Nifti1Image(np.ones((48, 40, 6), np.uint8), np.eye(4)), f / "mask.nii.gz"
            ),
        ),
        "left out: a research volume",
    ),
    # Refused.
    ("a slice missing", lambda f: one(f).unlink(), e.MissingSlicesError),
    (
        "three slices missing",
        lambda f: [one(f, 1).unlink() for _ in range(3)],
        e.MissingSlicesError,
    ),
    ("two images in one place", lambda f: moved(one(f), dz=-2.5), e.DuplicateSlicesError),
    (
        "a frame twice in a multi-frame object",
        lambda f: multi_frame(f, order=[0, 1, 2, 2, 3, 4, 5]),
        e.DuplicateSlicesError,
    ),
    (
        "a frame missing in a multi-frame object",
        lambda f: multi_frame(f, order=[0, 1, 3, 4, 5]),
        e.MissingSlicesError,
    ),
    ("acquisitions between each other", between, e.MixedAcquisitionsError),
    (
        "acquisitions a millimetre apart",
        lambda f: between(f, 0.4),
        e.MixedAcquisitionsError,
    ),
    ("uneven", lambda f: moved(one(f), dz=0.8), e.UnevenSpacingError),
    (
        "tilted",
        lambda f: edit_all(f, ImageOrientationPatient=[1, 0, 0, 0, 0.966, -0.259]),
        e.ObliqueError,
    ),
    (
        "tilt stated, positions straight",
        lambda f: edit_all(f, GantryDetectorTilt="15"),
        e.ObliqueError,
    ),
    (
        "sheared by a tilt",
        lambda f: [moved(p, dx=0.5 * k) for k, p in enumerate(files_of(f))],
        e.ObliqueError,
    ),
    (
        "sagittal",
        lambda f: edit_all(f, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
        e.ObliqueError,
    ),
    (
        "mixed orientations",
        lambda f: edit(one(f), ImageOrientationPatient=[1, 0, 0, 0, 0, -1]),
        e.MixedOrientationsError,
    ),
    (
        "a slice turned round",
        lambda f: edit(one(f), ImageOrientationPatient=[-1, 0, 0, 0, -1, 0]),
        e.MixedOrientationsError,
    ),
    ("another matrix", lambda f: edit(one(f), Rows=48, Columns=40), e.InconsistentMatrixError),
    (
        "another pixel size",
        lambda f: edit(one(f), PixelSpacing=[0.75, 0.8]),
        e.InconsistentMatrixError,
    ),
    ("two patients", lambda f: edit(one(f), PatientID="P-2"), e.InconsistentSeriesError),
    (
        "two frames of reference",
        lambda f: edit(one(f), FrameOfReferenceUID="1.2.9"),
        e.InconsistentSeriesError,
    ),
    ("no pixel spacing", lambda f: edit(one(f), PixelSpacing=None), e.SpacingError),
    ("empty pixel spacing", lambda f: edit_all(f, PixelSpacing=""), e.SpacingError),
    ("pixel spacing zero", lambda f: edit_all(f, PixelSpacing=[0, 0]), e.SpacingError),
    ("pixel spacing negative", lambda f: edit_all(f, PixelSpacing=[-0.7, 0.7]), e.SpacingError),
    (
        "pixel spacing of a kilometre",
        lambda f: edit_all(f, PixelSpacing=["1e6", "1e6"]),
        e.SpacingError,
    ),
    ("pixel spacing in words", wrong_number_text, e.SpacingError),
    ("no position", lambda f: edit(one(f), ImagePositionPatient=None), e.SpacingError),
    ("no orientation", lambda f: edit_all(f, ImageOrientationPatient=None), e.SpacingError),
    (
        "a position on the moon",
        lambda f: edit(one(f), ImagePositionPatient=[0, 0, "3.8e11"]),
        e.SpacingError,
    ),
    (
        "single slice of no thickness",
        lambda f: ([p.unlink() for p in files_of(f)[1:]], edit_all(f, SliceThickness="0")),
        e.SpacingError,
    ),
    ("no pixels", lambda f: edit(one(f), PixelData=None), e.NoPixelsError),
    ("empty pixels", lambda f: edit(one(f), PixelData=b""), e.ImpossibleSizeError),
    ("truncated by a little", lambda f: cut(one(f), 0.95), e.TruncatedPixelsError),
    ("truncated by half", lambda f: cut(one(f), 0.6), e.TruncatedPixelsError),
    ("all truncated", lambda f: [cut(p, 0.7) for p in files_of(f)], e.TruncatedPixelsError),
    (
        "enhanced, truncated",
        lambda f: (multi_frame(f), cut(f / "enhanced.dcm", 0.8)),
        e.TruncatedPixelsError,
    ),
    ("RLE cut", lambda f: cut_codestream(f, RLELossless), e.PixelDataError),
    ("JPEG-LS cut", lambda f: cut_codestream(f, JPEGLSLossless), e.PixelDataError),
    ("JPEG 2000 cut", lambda f: cut_codestream(f, JPEG2000Lossless), e.PixelDataError),
    ("JPEG lossless cut", lambda f: cut_codestream(f, "1.2.840.10008.1.2.4.70"), e.PixelDataError),
    ("marked as compressed, is not", lambda f: marked(f, JPEGLSLossless), e.PixelDataError),
    ("a film in a slice's place", lambda f: marked(f, "1.2.840.10008.1.2.4.100"), e.PixelDataError),
    ("marked as deflated, is not", lambda f: marked(f, "1.2.840.10008.1.2.1.99"), e.NotDicomError),
    ("in colour", rgb, e.NoCTError),
    (
        "12 bits that need 13",
        lambda f: change_stored(f, lambda v: v + 3000, BitsStored=12, HighBit=11),
        e.PixelDataError,
    ),
    ("bits from the top", lambda f: edit_all(f, BitsStored=12, HighBit=15), e.PixelDataError),
    ("no rescale", lambda f: edit_all(f, RescaleSlope=None), e.NotHounsfieldError),
    ("slope zero", lambda f: edit_all(f, RescaleSlope="0"), e.NotHounsfieldError),
    ("slope negative", lambda f: edit_all(f, RescaleSlope="-1"), e.NotHounsfieldError),
    ("electron density", lambda f: edit_all(f, RescaleType="ED"), e.NotHounsfieldError),
    (
        "an intercept that makes all of it air",
        lambda f: edit_all(f, RescaleIntercept="-9000"),
        e.NotHounsfieldError,
    ),
    (
        "a slope that makes all of it lead",
        lambda f: edit_all(f, RescaleSlope="1e6"),
        e.NotHounsfieldError,
    ),
    ("a header that claims 60,000 rows", lambda f: edit_all(f, Rows=60_000), e.ImpossibleSizeError),
    ("a header that claims 4,000 rows", lambda f: edit_all(f, Rows=4000), e.ImpossibleSizeError),
    ("rows zero", lambda f: edit(one(f), Rows=0), e.ImpossibleSizeError),
    (
        "a thousand frames in a slice",
        lambda f: edit_all(f, NumberOfFrames=1000),
        e.ImpossibleSizeError,
    ),
    (
        "a multi-frame object that claims more",
        lambda f: multi_frame(f, frames_claimed=30_000),
        e.ImpossibleSizeError,
    ),
    ("a codestream of another size", wrong_codestream, e.ImpossibleSizeError),
    (
        "screen saves only",
        lambda f: edit_all(f, ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]),
        e.NoCTError,
    ),
    ("MR without SOPClassUID", lambda f: without_class(f, Modality="MR"), e.NoCTError),
    ("without SOPClassUID and Modality", lambda f: without_class(f, Modality=""), e.NoCTError),
    (
        "a broken zip in a folder",
        lambda f: (emptied(f), (f / "t").write_text("x"), (f / "z").write_bytes(b"PK" + b"x" * 90)),
        e.ArchiveError,
    ),
    ("deflated, 300 MiB of nothing", deflated_bomb, e.ImpossibleSizeError),
    (
        "links that lead nowhere only",
        lambda f: (emptied(f), [(f / k).symlink_to(f / "gone") for k in "ab"]),
        e.NotDicomError,
    ),
    (
        "two scouts among six slices",
        lambda f: (scout(f), scout(f, "another")),
        e.MixedOrientationsError,
    ),
    ("MR only", lambda f: edit_all(f, SOPClassUID=MRImageStorage), e.NoCTError),
    (
        "localizers only",
        lambda f: edit_all(f, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        e.NoCTError,
    ),
    (
        "secondary captures only",
        lambda f: edit_all(f, SOPClassUID=SecondaryCaptureImageStorage),
        e.NoCTError,
    ),
    (
        "encapsulated PDF only",
        lambda f: (emptied(f), document(f / "a", EncapsulatedPDFStorage)),
        e.NotAnImageError,
    ),
    (
        "dose report only",
        lambda f: (emptied(f), document(f / "a", XRayRadiationDoseSRStorage)),
        e.NotAnImageError,
    ),
    ("nothing", emptied, e.NotDicomError),
    ("text", lambda f: [p.write_text("text") for p in files_of(f)], e.NotDicomError),
    (
        "headers cut",
        lambda f: [p.write_bytes(p.read_bytes()[:140]) for p in files_of(f)],
        e.NotDicomError,
    ),
    ("no folder", shutil.rmtree, e.NotDicomError),
    (
        "zip of text",
        lambda f: (emptied(f), (f / "a.txt").write_text("x"), zipped(f)),
        e.NotDicomError,
    ),
    (
        "zip that names a file above",
        lambda f: zipped(f, **{"../../evil.dcm": b"x"}),
        e.ArchiveError,
    ),
    (
        "zip that names an absolute path",
        lambda f: zipped(f, **{"/etc/evil.dcm": b"x"}),
        e.ArchiveError,
    ),
    ("zip cut", lambda f: (zipped(f), cut(f / "study.zip", 0.7)), e.ArchiveError),
    ("zip with a password", locked_zip, e.ArchiveError),
    ("zip bomb", bomb, e.ImpossibleSizeError),
    ("zip whose list claims 24 GiB", lying_zip, e.ImpossibleSizeError),
    (
        "mask in NIfTI",
        lambda f: as_nifti(f, change=lambda v: (v > 0).astype(np.uint8)),
        e.ResearchVolumeError,
    ),
    ("NIfTI cut", lambda f: (as_nifti(f), cut(f / "ct.nii.gz", 0.5)), e.ResearchVolumeError),
    (
        "NIfTI of four dimensions",
        lambda f: as_nifti(f, change=lambda v: np.stack([v, v], -1)),
        e.ResearchVolumeError,
    ),
    ("NIfTI with voxels of no size", no_size, e.SpacingError),
    ("NIfTI that claims more than it holds", claim, e.ImpossibleSizeError),
    ("NIfTI, oblique", oblique_nifti, e.ObliqueError),
    ("NRRD cut", lambda f: (as_nrrd(f), cut(f / "ct.nrrd", 0.6)), e.ResearchVolumeError),
    (
        "NRRD that names another file",
        lambda f: nrrd_field(f, b"encoding: raw\n", b"encoding: raw\ndata file: /etc/passwd\n"),
        e.ResearchVolumeError,
    ),
    (
        "NRRD that claims more than it holds",
        lambda f: nrrd_field(f, b"sizes: 48 40 6", b"sizes: 2000 2400 600"),
        e.ImpossibleSizeError,
    ),
]
REFUSED = [member for member in ZOO if not isinstance(member[2], str)]


def source_of(folder: Path) -> Path:
    """The archive where the folder holds nothing else, else the folder."""
    inside = list(folder.iterdir()) if folder.exists() else []
    return inside[0] if len(inside) == 1 and inside[0].read_bytes()[:2] == b"PK" else folder


def test_the_zoo_is_large_enough_and_uses_every_error():
    assert len(ZOO) >= 40
    assert len({name for name, _, _ in ZOO}) == len(ZOO)
    kinds = {kind for kind in vars(e).values() if isinstance(kind, type)}
    assert kinds - {e.InputError, e.Iterator} == {
        kind for _, _, kind in ZOO if not isinstance(kind, str)
    }


@pytest.mark.parametrize(("name", "damage", "outcome"), ZOO, ids=[name for name, _, _ in ZOO])
def test_zoo(folder, source, capfd, name, damage, outcome):
    damage(folder)
    given = source_of(folder)
    before = sorted(folder.rglob("*")) if folder.exists() else []
    if isinstance(outcome, str):
        [read] = read_series(given)
        check_read(read, source, outcome)
    else:
        with pytest.raises(MedlibError) as caught:
            read_series(given)
        assert isinstance(caught.value, outcome)
        message = str(caught.value)
        assert message.isprintable(), "one line"
        assert message.count("; ") >= 2, "found, expected, what to do"
        assert "P-1" not in message, "a message names no patient"
    assert (sorted(folder.rglob("*")) if folder.exists() else []) == before
    assert capfd.readouterr() == ("", "")


def check_read(read: Volume, source: Volume, outcome: str) -> None:
    if outcome == SAME:
        assert read.warnings == ()
        assert np.array_equal(read.hu, source.hu)
        assert read.affine == pytest.approx(source.affine)
        assert read.identity == source.identity
        assert len(read.sop_instance_uids) == len(source.hu)
        return
    if outcome != "read:":
        assert any(outcome in warning for warning in read.warnings), read.warnings
    else:
        assert read.warnings == ()
    assert read.hu.min() >= -1024
    assert read.hu.max() <= 3071
    if read.hu.shape == source.hu.shape:
        # What was changed is a corner, a plane, or a rounding: the rest is the source.
        assert np.abs(read.hu - source.hu)[:, 4:, 4:].max() <= 2
        assert read.affine == pytest.approx(source.affine, abs=1e-4)


@pytest.mark.parametrize(("name", "damage", "outcome"), REFUSED, ids=[m[0] for m in REFUSED])
def test_assist_refuses_in_one_line_and_writes_nothing(
    folder, tmp_path, monkeypatch, name, damage, outcome
):
    from medlib import cli

    # Images are refused before a model is looked for, made, or even imported.
    monkeypatch.setitem(sys.modules, "medlib.baseline.inference", None)
    damage(folder)
    given = source_of(folder)
    result = CliRunner().invoke(cli.app, ["assist", str(given), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("medlib: ")
    assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] in (["in"], [])


def test_a_list_of_files_in_any_order(folder, source):
    files = files_of(folder)
    [read] = read_series([files[k] for k in (4, 2, 0, 5, 1, 3)])
    check_read(read, source, SAME)


def test_a_list_of_folders_and_archives(folder, source):
    half = folder / "half"
    half.mkdir()
    for path in files_of(folder)[:3]:
        path.rename(half / path.name)
    zipped(half)
    [read] = read_series([half / "study.zip", *files_of(folder)])
    check_read(read, source, SAME)


def test_unpacked_files_are_gone(folder, source, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    zipped(folder)
    [read] = read_series(folder / "study.zip")
    check_read(read, source, SAME)
    cut(folder / "study.zip", 0.9)
    with pytest.raises(e.ArchiveError):
        read_series(folder / "study.zip")
    assert list(scratch.iterdir()) == []


def test_missing_slices_are_named(folder):
    one(folder, 1).unlink()
    one(folder, 3).unlink()
    with pytest.raises(e.MissingSlicesError, match=r"about 2 missing at z = -210, -202\.5 mm"):
        read_series(folder)


def test_research_volumes_are_known_by_content(folder, source, tmp_path):
    for target, convert in (("a", as_nifti), ("b", as_nrrd)):
        convert(shutil.copytree(folder, tmp_path / target))
    [nifti], [nrrd] = read_series(tmp_path / "a"), read_series(tmp_path / "b")
    assert nifti.identity == nrrd.identity
    assert nifti.identity.series_instance_uid.startswith("2.25.")
    assert len(nifti.identity.series_instance_uid) <= 64
    changed = dataclasses.replace(source, hu=source.hu + (source.hu == source.hu[2, 2, 2]))
    write_series(changed, tmp_path / "c")
    as_nifti(tmp_path / "c")
    [other] = read_series(tmp_path / "c")
    assert other.identity.series_instance_uid != nifti.identity.series_instance_uid


def test_warnings_name_no_file(folder):
    """A report quotes them, and file names may hold a patient's name."""
    broken_series_beside(folder)
    (folder / "DOE_JANE.dcm").write_bytes(one(folder).read_bytes()[:140])
    [read] = read_series(folder)
    assert len(read.warnings) == 2
    assert "DOE" not in " ".join(read.warnings)


def test_faults_of_the_chapter(source):
    table = try_faults(source)
    assert list(table["fault"]) == list(FAULTS)
    assert table["outcome"].value_counts()["read"] == 1
    assert (table["outcome"] == "read with a warning").sum() >= 3
    refused = table[~table["outcome"].str.startswith("read")]
    assert all(hasattr(e, outcome) for outcome in refused["outcome"])
    assert table["said"][1:].str.len().min() > 20
