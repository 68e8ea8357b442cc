"""Good series turned into odd or damaged ones."""

from __future__ import annotations

import copy
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dcm"))


def edit(path: Path, **values) -> None:
    """Change a file's elements; None deletes."""
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path)


def edit_all(folder: Path, **values) -> None:
    for path in files_of(folder):
        edit(path, **values)


def moved(path: Path, dx: float = 0.0, dz: float = 0.0) -> None:
    position = [float(v) for v in pydicom.dcmread(path).ImagePositionPatient]
    edit(path, ImagePositionPatient=[position[0] + dx, position[1], position[2] + dz])


def change_stored(
    folder: Path,
    change: Callable[[np.ndarray], np.ndarray],
    dtype: str = "<i2",
    **values,
) -> None:
    """Store other numbers for the pixels, in another type, with other elements."""
    for path in files_of(folder):
        dataset = pydicom.dcmread(path)
        stored = change(dataset.pixel_array.astype(np.int64))
        edit(path, PixelData=stored.astype(dtype).tobytes(), **values)


def rewrite(folder: Path, syntax: str) -> None:
    """Write all files in another uncompressed transfer syntax."""
    for path in files_of(folder):
        dataset = pydicom.dcmread(path)
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(
            path,
            dataset,
            implicit_vr=syntax == ImplicitVRLittleEndian,
            little_endian=syntax != ExplicitVRBigEndian,
        )


def without_meta(folder: Path) -> None:
    """Leave the bare data set, as some archives send it."""
    for path in files_of(folder):
        dataset = pydicom.dcmread(path)
        bare = Dataset()
        bare.update(dataset)
        pydicom.dcmwrite(path, bare, implicit_vr=True, little_endian=True)


def compress(folder: Path, syntax: str, **options) -> None:
    """Compress every file by pydicom's encoders, JPEG lossless by GDCM."""
    for path in files_of(folder):
        if syntax in GDCM_SYNTAXES:
            _compress_by_gdcm(path, syntax)
        else:
            dataset = pydicom.dcmread(path)
            dataset.compress(syntax, generate_instance_uid=False, **options)
            dataset.save_as(path)


GDCM_SYNTAXES = {
    "1.2.840.10008.1.2.4.57": gdcm.TransferSyntax.JPEGLosslessProcess14,
    "1.2.840.10008.1.2.4.70": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
}


def _compress_by_gdcm(path: Path, syntax: str) -> None:
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(GDCM_SYNTAXES[syntax]))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax


_OF_A_SLICE = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "SliceLocation",
    "PixelData",
)


def multi_frame(
    folder: Path,
    *,
    sop_class: str = EnhancedCTImageStorage,
    order: Iterable[int] | None = None,
    per_slice_rescale: bool = False,
    compress_to: str | None = None,
    frames_claimed: int | None = None,
) -> None:
    """Replace a series by one enhanced multi-frame object (DICOM PS3.3 A.38)."""
    slices = [pydicom.dcmread(path) for path in files_of(folder)]
    slices = [slices[k] for k in order] if order is not None else slices
    whole = copy.deepcopy(slices[0])
    for keyword in _OF_A_SLICE:
        whole.pop(keyword, None)
    whole.SOPClassUID = sop_class
    whole.NumberOfFrames = frames_claimed or len(slices)
    shared = Dataset()
    shared.PlaneOrientationSequence = _item(slices[0], "ImageOrientationPatient")
    shared.PixelMeasuresSequence = _item(slices[0], "PixelSpacing", "SliceThickness")
    if not per_slice_rescale:
        shared.PixelValueTransformationSequence = _item(
            slices[0], "RescaleSlope", "RescaleIntercept", "RescaleType"
        )
    whole.SharedFunctionalGroupsSequence = Sequence([shared])
    groups, pixels = [], []
    for k, one in enumerate(slices):
        group = Dataset()
        group.PlanePositionSequence = _item(one, "ImagePositionPatient")
        stored = one.pixel_array
        if per_slice_rescale:
            one.RescaleIntercept = float(one.RescaleIntercept) - 10 * k
            stored = stored + np.int16(10 * k)
            group.PixelValueTransformationSequence = _item(
                one, "RescaleSlope", "RescaleIntercept", "RescaleType"
            )
        groups.append(group)
        pixels.append(stored.tobytes())
    whole.PerFrameFunctionalGroupsSequence = Sequence(groups)
    whole.PixelData = b"".join(pixels)
    whole["PixelData"].VR = "OW"
    whole.file_meta.MediaStorageSOPClassUID = sop_class
    for path in files_of(folder):
        path.unlink()
    if compress_to:
        whole.compress(compress_to, generate_instance_uid=False)
    whole.save_as(folder / "enhanced.dcm")


def _item(source: Dataset, *keywords: str) -> Sequence:
    item = Dataset()
    for keyword in keywords:
        if keyword in source:
            setattr(item, keyword, getattr(source, keyword))
    return Sequence([item])


def document(path: Path, sop_class: str, **values) -> None:
    """Write a DICOM object that is no image."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def zipped(folder: Path, prefix: str = "", **extra: bytes | str) -> None:
    """Replace what a folder holds by one archive with the same files."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    with zipfile.ZipFile(folder / "study.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, prefix + str(path.relative_to(folder)))
        for name, content in extra.items():
            archive.writestr(name, content)
    for path in files:
        path.unlink()
