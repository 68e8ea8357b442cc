"""Volumes to DICOM: one CT Image Storage file a slice."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from medlib.images.volume import Volume

_INTERCEPT = -1024
_DATE = "20200101"  # fixed, so that the same volume gives the same bytes
_TIME = "120000"


def write_series(
    volume: Volume,
    folder: Path,
    *,
    sex: Literal["F", "M", "O"] | None = None,
    age_years: int | None = None,
    kvp: float | None = None,
    tube_current_ma: float | None = None,
    description: str = "",
    phantom: bool = False,
) -> list[Path]:
    """Write a volume as a DICOM series.

    The same volume gives the same bytes: dates are fixed and missing UIDs follow from the
    identity. Nothing names a person.

    Parameters
    ----------
    volume : Volume
        HU are rounded to whole numbers. Its UIDs are used where it has them.
    folder : Path
        Made if it does not exist; files ``0001.dcm`` and on, from the feet to the head. Either
        all of them are written or none.
    sex, age_years, kvp, tube_current_ma, description : optional
        For the header.
    phantom : bool
        Whether to mark the subject as a phantom (QualityControlSubject).

    Returns
    -------
    list of Path
        In the order of z.

    Raises
    ------
    FileExistsError
        If the folder holds DICOM files already.
    """
    folder = Path(folder)
    if any(folder.glob("*.dcm")):
        raise FileExistsError(f"{folder} holds DICOM files already")
    header = _shared_header(volume)
    _add_details(header, sex, age_years, kvp, tube_current_ma, description, phantom)
    stored = np.rint(volume.hu - np.float32(_INTERCEPT)).astype("<i2")
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    names = [f"{k + 1:04d}.dcm" for k in range(len(stored))]
    try:
        for k, name in enumerate(names):
            _make_slice(header, volume, k, stored[k].tobytes())
            header.save_as(beside / name, enforce_file_format=True)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (beside / name).replace(folder / name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return [folder / name for name in names]


def _uid(volume: Volume, *what: str) -> str:
    """Return a UID that depends on nothing but the series and what it is for."""
    identity = volume.identity
    return generate_uid(
        entropy_srcs=["medlib", identity.patient_id, identity.series_instance_uid, *what]
    )


def _ds(value: float) -> DSfloat:
    """Return a decimal string of at most 16 characters."""
    return DSfloat(value, auto_format=True)


def _shared_header(volume: Volume) -> Dataset:
    """Return what all slices of the series have in common."""
    identity, spacing = volume.identity, volume.spacing_mm
    header = Dataset()
    header.SOPClassUID = CTImageStorage
    header.StudyDate = header.SeriesDate = header.AcquisitionDate = header.ContentDate = _DATE
    header.StudyTime = header.SeriesTime = header.AcquisitionTime = header.ContentTime = _TIME
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.AccessionNumber = header.ReferringPhysicianName = ""
    header.StudyID = "1"
    header.Modality = "CT"
    header.Manufacturer = identity.manufacturer
    header.ManufacturerModelName = identity.manufacturer_model or "unknown"
    header.PatientName = "ANONYMOUS"
    header.PatientID = identity.patient_id
    header.PatientBirthDate = header.PatientSex = ""
    header.BodyPartExamined = "CHEST"
    header.KVP = None
    header.SliceThickness = _ds(spacing[0])
    header.SpacingBetweenSlices = _ds(spacing[0])
    header.PatientPosition = "HFS"
    if identity.kernel:
        header.ConvolutionKernel = identity.kernel
    header.StudyInstanceUID = identity.study_instance_uid or _uid(volume, "study")
    header.SeriesInstanceUID = identity.series_instance_uid or _uid(volume, "series")
    header.FrameOfReferenceUID = identity.frame_of_reference_uid or _uid(volume, "frame")
    header.SeriesNumber = 1
    header.AcquisitionNumber = 1
    header.PositionReferenceIndicator = ""
    header.ImageOrientationPatient = [
        _ds(float(value))
        for axis in (0, 1)
        for value in volume.affine[:3, axis] / np.linalg.norm(volume.affine[:3, axis])
    ]
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.Rows, header.Columns = volume.hu.shape[1:]
    header.PixelSpacing = [_ds(spacing[1]), _ds(spacing[2])]
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit = 15
    header.PixelRepresentation = 1
    header.WindowCenter, header.WindowWidth = "-600", "1500"
    header.RescaleIntercept, header.RescaleSlope = str(_INTERCEPT), "1"
    header.RescaleType = "HU"
    return header


def _add_details(
    header: Dataset,
    sex: str | None,
    age_years: int | None,
    kvp: float | None,
    tube_current_ma: float | None,
    description: str,
    phantom: bool,
) -> None:
    if sex is not None:
        header.PatientSex = sex
    if age_years is not None:
        header.PatientAge = f"{age_years:03d}Y"
    if kvp is not None:
        header.KVP = _ds(kvp)
    if tube_current_ma is not None:
        header.XRayTubeCurrent = round(tube_current_ma)
    if description:
        header.SeriesDescription = description
    if phantom:
        header.PatientName = "PHANTOM^CHEST"
        header.QualityControlSubject = "YES"


def _make_slice(header: Dataset, volume: Volume, k: int, pixels: bytes) -> None:
    """Turn the header into that of slice k."""
    sops = volume.sop_instance_uids
    header.SOPInstanceUID = sops[k] if sops else _uid(volume, "slice", str(k))
    header.InstanceNumber = k + 1
    position = volume.affine[:3, 2] * k + volume.affine[:3, 3]
    header.ImagePositionPatient = [_ds(float(value)) for value in position]
    header.SliceLocation = _ds(float(position[2]))
    header.PixelData = pixels
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = header.SOPClassUID
    meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = generate_uid(entropy_srcs=["medlib", "implementation"])
    meta.ImplementationVersionName = "MEDLIB"
    header.file_meta = meta
