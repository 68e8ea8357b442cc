"""A CT volume in Hounsfield units and millimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SeriesIdentity:
    """Which series this is, and what took it. Never a name, a birth date or an address."""

    patient_id: str
    study_instance_uid: str
    series_instance_uid: str
    frame_of_reference_uid: str = ""
    manufacturer: str = ""
    manufacturer_model: str = ""
    kernel: str = ""
    body_part: str = ""  # BodyPartExamined, often wrong


class OnGrid:
    """What lies on an upright grid in patient space; both affines as in `Volume`."""

    affine: NDArray[np.float64]
    source_affine: NDArray[np.float64] | None

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along z, y and x in mm."""
        sx, sy, sz = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(sz), float(sy), float(sx)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in mm^3."""
        return float(np.prod(self.spacing_mm))


@dataclass(frozen=True)
class Volume(OnGrid):
    """One CT series: Hounsfield units of shape (z, y, x), and where they lie.

    However a file stores its pixels, z runs to the patient's head, y to the back, x to the left:
    the same patient is the same array. The affine, of shape (4, 4), maps a voxel index
    ``(x, y, z, 1)`` to DICOM patient coordinates in mm (LPS+). NIfTI wants RAS+: flip the first two
    rows. `source_affine` is that of the same voxels with the axes as the file stores them.
    """

    hu: NDArray[np.float32]
    affine: NDArray[np.float64]
    identity: SeriesIdentity
    sop_instance_uids: tuple[str, ...] = ()  # one a slice; none where the source is not DICOM
    warnings: tuple[str, ...] = ()  # what was read with reservations; it must reach the report
    source_affine: NDArray[np.float64] | None = None  # None: stored as it is here
    frame_numbers: tuple[int, ...] = ()  # of the slices in a multi-frame file, from 1

    def __post_init__(self) -> None:
        if self.hu.ndim != 3:
            raise ValueError(f"hu must be [z, y, x], got shape {self.hu.shape}")
        if self.affine.shape != (4, 4):
            raise ValueError(f"affine must be 4 x 4, got shape {self.affine.shape}")

    def to_patient_mm(self, index_zyx: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map voxel indices, shape (..., 3), to x, y, z in mm (DICOM patient coordinates, LPS+)."""
        index_xyz = np.asarray(index_zyx, dtype=np.float64)[..., ::-1]
        return index_xyz @ self.affine[:3, :3].T + self.affine[:3, 3]


def sphere_diameter_mm(volume_mm3: float) -> float:
    """Return the diameter of the sphere of this volume."""
    return float(np.cbrt(6.0 * volume_mm3 / np.pi))
