"""Volumes to DICOM: one CT Image Storage file a slice."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from medlib.images.volume import Volume

_INTERCEPT = -1024
_DATE, _TIME = "20200101", "120000"  # fixed, so that the same volume gives the same bytes


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
    """Write a volume as a DICOM series, HU rounded to whole numbers; return the files.

    They are ``0001.dcm`` and on, from the feet to the head, all of them or none. The same volume
    gives the same bytes: dates are fixed and missing UIDs follow from the identity. Nothing names
    a person; `phantom` marks the subject as one (QualityControlSubject). Raises FileExistsError if
    the folder holds DICOM files already.
    """
    if any(folder.glob("*.dcm")):
        raise FileExistsError(f"{folder} holds DICOM files already")
    header = _shared_header(volume)
    header.PatientSex = sex or ""
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
    stored = np.rint(volume.hu - np.float32(_INTERCEPT)).astype("<i2")
    names = [f"{k + 1:04d}.dcm" for k in range(len(stored))]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside:
        for k, name in enumerate(names):
            _make_slice(header, volume, k)
            header.set_pixel_data(stored[k], "MONOCHROME2", 16, generate_instance_uid=False)
            header.save_as(Path(beside) / name, enforce_file_format=True)
        folder.mkdir(exist_ok=True)
        for name in names:
            (Path(beside) / name).replace(folder / name)
    return [folder / name for name in names]


def _uid(volume: Volume, *what: str) -> str:
    """Return a UID that depends on nothing but the series and what it is for."""
    one = volume.identity
    return generate_uid(entropy_srcs=["medlib", one.patient_id, one.series_instance_uid, *what])


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
    header.PatientBirthDate = ""
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
    directions = volume.affine[:3, :2] / np.linalg.norm(volume.affine[:3, :2], axis=0)
    header.ImageOrientationPatient = [_ds(value) for value in directions.T.ravel().tolist()]
    header.PixelSpacing = [_ds(spacing[1]), _ds(spacing[2])]
    header.WindowCenter, header.WindowWidth = "-600", "1500"
    header.RescaleIntercept, header.RescaleSlope = str(_INTERCEPT), "1"
    header.RescaleType = "HU"
    return header


def _make_slice(header: Dataset, volume: Volume, k: int) -> None:
    """Turn the header into that of slice k."""
    sops = volume.sop_instance_uids
    header.SOPInstanceUID = sops[k] if sops else _uid(volume, "slice", str(k))
    header.InstanceNumber = k + 1
    position = volume.affine[:3, 2] * k + volume.affine[:3, 3]
    header.ImagePositionPatient = [_ds(value) for value in position.tolist()]
    header.SliceLocation = header.ImagePositionPatient[2]
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = generate_uid(entropy_srcs=["medlib", "implementation"])
    meta.ImplementationVersionName = "MEDLIB"
    header.file_meta = meta
