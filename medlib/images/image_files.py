"""Volumes and masks in NIfTI and NRRD files: pixels and a grid, but no patient and no scanner."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from medlib.errors import InputError
from medlib.files import put_in_place
from medlib.images.dicom_pixels import AIR_HU, HIGHEST_HU, LOWEST_HU
from medlib.images.image_errors import ObliqueError, ResearchVolumeError, naming
from medlib.images.image_grids import LPS_TO_RAS, kind_of, read_grid, turned
from medlib.images.volume import SeriesIdentity, Volume

_AXIS_TOLERANCE = 0.01  # sine of the angle
_SAME_GRID_MM = 1e-3  # for each voxel of the longest axis


def read_image(path: Path, patient_id: str = "", series_instance_uid: str = "") -> Volume:
    """Read a NIfTI or NRRD file as it is: its order of axes, its values.

    Raises InputError if it holds no whole 3D image of one value a voxel.
    """
    with naming(str(path)):
        values, affine, _ = read_grid(path)
    hu = np.ascontiguousarray(values.transpose(2, 1, 0), dtype=np.float32)
    return Volume(hu, affine, SeriesIdentity(patient_id, "", series_instance_uid))


def read_research_volume(path: Path) -> Volume:
    """Read a NIfTI or NRRD file that holds a CT in Hounsfield units, and be sure of it.

    Axes are turned so that x runs to the patient's left, y to the back and z to the head, as
    in DICOM slices of a patient on the back. What was not measured is set to air. The identity
    follows from the content, so that the same voxels on the same grid have the same UIDs in any
    file; a warning says that it is no DICOM.

    Raises
    ------
    InputError
        If the file is damaged, claims more voxels than it can hold, lies oblique, or has values
        that are not HU (a mask, say).
    """
    values, affine, notes = read_grid(path)
    directions = np.abs(affine[:3, :3]) / np.linalg.norm(affine[:3, :3], axis=0)
    straight = directions.round()
    one_each = (straight.sum(axis=0) == 1).all() and (straight.sum(axis=1) == 1).all()
    if not one_each or np.abs(directions - straight).max() > _AXIS_TOLERANCE:
        raise ObliqueError(
            "its axes are oblique to the patient; expected axial slices without tilt; resample the "
            "volume to axial slices"
        )
    values, affine = turned(values, affine, np.eye(4))
    hu = np.ascontiguousarray(values.transpose(2, 1, 0), dtype=np.float32)
    changed = _check_hounsfield(hu)
    notes = (
        f"read from a {kind_of(path)} file, not from DICOM: patient, scanner and rescale are "
        "unknown",
        *notes,
        *changed,
    )
    return Volume(hu, affine, _identity(hu, affine), (), notes)


def _check_hounsfield(hu: NDArray[np.float32]) -> list[str]:
    """Set what was not measured to air; refuse what is not in HU."""
    unmeasured = ~np.isfinite(hu) | (hu < LOWEST_HU)
    changed = int(np.count_nonzero(unmeasured))
    hu[unmeasured] = AIR_HU
    if hu.min() >= 0 or hu.max() > HIGHEST_HU or 2 * changed > hu.size:
        raise ResearchVolumeError(
            f"values from {hu.min():g} to {hu.max():g}; expected Hounsfield units, air near -1000: "
            "a mask or a rescaled picture is no CT; give the CT in HU"
        )
    notes = [f"{changed} voxels outside the field of view (padding) were set to {AIR_HU:g} HU"]
    return notes * (changed > 0)


def _identity(hu: NDArray[np.float32], affine: NDArray[np.float64]) -> SeriesIdentity:
    total = hashlib.sha256(repr(hu.shape).encode())
    total.update((affine.round(3) + 0.0).astype("<f8").tobytes())
    total.update(hu.astype("<f4", copy=False).tobytes())

    def uid(role: str) -> str:
        number = hashlib.sha256(total.digest() + role.encode()).digest()[:16]
        return f"2.25.{int.from_bytes(number, 'big')}"  # DICOM PS3.5 B.2

    return SeriesIdentity(
        patient_id=f"content-{total.hexdigest()[:16]}",
        study_instance_uid=uid("study"),
        series_instance_uid=uid("series"),
        frame_of_reference_uid=uid("frame of reference"),
    )


def read_mask(path: Path, volume: Volume) -> NDArray[Any]:
    """Read a mask or label volume, shape (z, y, x), back onto the grid of its series.

    Axes that another tool has flipped or reordered are turned back; the type is the file's.

    Raises InputError if the file is no NIfTI or NRRD, or its grid is not that of the series.
    """
    with naming(str(path)):
        stored, affine, _ = read_grid(path)
    values, affine = turned(stored, affine, volume.affine)
    shape_xyz = volume.hu.shape[::-1]
    if values.shape != shape_xyz:
        raise InputError(
            f"{path}: the mask has {values.shape} voxels along x, y, z, the series {shape_xyz}; "
            "give the mask of this series"
        )
    corners = np.array([[0, 0, 0, 1], [*(n - 1 for n in shape_xyz), 1]])
    apart = float(np.abs(corners @ (affine - volume.affine).T).max())
    if apart > _SAME_GRID_MM * max(shape_xyz):
        raise InputError(
            f"{path}: the mask lies {apart:.1f} mm from the series; expected the same grid; give "
            "the mask of this series"
        )
    return np.ascontiguousarray(values.transpose(2, 1, 0))


def write_mask(mask: NDArray[Any], volume: Volume, path: Path) -> None:
    """Write a mask or label volume, shape (z, y, x), on the grid of a series.

    `path` is ``.nii`` or ``.nii.gz``; the same mask gives the same bytes. Raises ValueError if
    the mask does not have the shape of the volume.
    """
    if mask.shape != volume.hu.shape:
        raise ValueError(f"mask is {mask.shape}, the volume is {volume.hu.shape}: one grid, please")
    values = mask.astype(np.uint8) if mask.dtype == np.bool_ else mask
    make: Any = nibabel.Nifti1Image
    image = make(values.transpose(2, 1, 0), LPS_TO_RAS @ volume.affine)
    image.header.set_xyzt_units("mm")
    with put_in_place(path) as beside:
        nibabel.save(image, beside)
