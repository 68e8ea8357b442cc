"""Structure sets as other programs write them."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

SQUARE = np.array([(9.5, 11.5), (9.5, 19.5), (17.5, 19.5), (17.5, 11.5)])  # 8 x 8 voxels
INNER = np.array([(11.5, 13.5), (11.5, 16.5), (14.5, 16.5), (14.5, 13.5)])  # 3 x 3


def item(**values):
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def contour(grid, points_yx, k, kind="CLOSED_PLANAR", decimals=6, image=None):
    """One contour; `k` may lie between slices, `image` is the UID that it names."""
    points = np.asarray(points_yx, dtype=float).reshape(-1, 2)
    index = np.c_[points[:, 1], points[:, 0], np.full(len(points), k), np.ones(len(points))]
    points_mm = (grid.affine @ index.T)[:3].T
    made = item(
        ContourGeometricType=kind,
        NumberOfContourPoints=len(points_mm),
        ContourData=[f"{value:.{decimals}f}" for value in points_mm.flat],
    )
    if image:
        made.ContourImageSequence = [item(ReferencedSOPInstanceUID=image)]
    return made


def structures(path, *contours, name="GTV", more=()):
    """Write a structure set of one structure; `more` are (number, name, type, contours)."""
    dataset = FileDataset(path, {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.9"
    dataset.StructureSetROISequence = [
        item(ROINumber=1, ROIName=name, ROIGenerationAlgorithm="MANUAL")
    ]
    dataset.ROIContourSequence = [item(ReferencedROINumber=1, ContourSequence=list(contours))]
    dataset.RTROIObservationsSequence = []
    for number, label, kind, lines in more:
        roi = item(ROINumber=number, ROIName=label, ROIGenerationAlgorithm="MANUAL")
        dataset.StructureSetROISequence.append(roi)
        if lines is not None:
            drawn = item(ReferencedROINumber=number, ContourSequence=list(lines))
            dataset.ROIContourSequence.append(drawn)
        seen = item(ObservationNumber=number, ReferencedROINumber=number, ROIInterpreter="")
        seen.RTROIInterpretedType = kind
        dataset.RTROIObservationsSequence.append(seen)
    dataset.save_as(path)
    return path
