"""Volumes and masks in NIfTI, NRRD and MetaImage: pixels and a grid, no patient, no scanner."""

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
from medlib.images.image_grids import (
    LPS_TO_RAS,
    as_stored,
    kind_of,
    read_grid,
    turned,
    turned_upright,
)
from medlib.images.plausible_hu import check_hounsfield, check_stray, stray_below_air
from medlib.images.volume import SeriesIdentity, Volume

DESCRIPTION_BYTES = 80  # of a NIfTI header
_AXIS_TOLERANCE = 0.01  # sine of the angle
_SAME_VOXEL = 0.1  # how far the corners of a mask may lie from those of its series, in voxels


def read_image(path: Path, patient_id: str = "", name: str = "") -> Volume:
    """Read a NIfTI, NRRD or MetaImage file that holds a CT in Hounsfield units, and be sure of it.

    Axes are turned to those of every `Volume`. What was not measured is set to air. The identity
    follows from the content, so that the same voxels on the same grid have the same UIDs in any
    file; a warning says that it is no DICOM. Messages call it `name`, by default its path.

    Raises
    ------
    InputError
        If the file is damaged, claims more voxels than it can hold, lies oblique, or has values
        that are not HU (a mask, say).
    """
    with naming(name or str(path)):
        return _read_image(path, patient_id)


def _read_image(path: Path, patient_id: str) -> Volume:
    values, affine, notes = read_grid(path)
    directions = np.abs(affine[:3, :3]) / np.linalg.norm(affine[:3, :3], axis=0)
    straight = directions.round()
    one_each = (straight.sum(axis=0) == 1).all() and (straight.sum(axis=1) == 1).all()
    if not one_each or np.abs(directions - straight).max() > _AXIS_TOLERANCE:
        raise ObliqueError(
            "its axes are oblique to the patient; expected axial slices without tilt; resample the "
            "volume to axial slices"
        )
    stored = np.ascontiguousarray(values.transpose(2, 1, 0), dtype=np.float32)
    hu, affine, source_affine = turned_upright(stored, affine)
    notes = (
        f"read from a {kind_of(path)} file, not from DICOM: patient, scanner and rescale are "
        "unknown",
        *notes,
        *_without_padding(hu),
    )
    check_hounsfield(hu)
    return Volume(hu, affine, _identity(hu, affine, patient_id), (), notes, source_affine)


def _without_padding(hu: NDArray[np.float32]) -> list[str]:
    """Set what was not measured to air."""
    unmeasured = ~np.isfinite(hu) | (hu < LOWEST_HU)
    changed = int(np.count_nonzero(unmeasured))
    check_stray(stray_below_air(hu[unmeasured & np.isfinite(hu)]), hu.size)
    hu[unmeasured] = AIR_HU
    if hu.min() >= 0 or hu.max() > HIGHEST_HU or 2 * changed > hu.size:
        raise ResearchVolumeError(
            f"values from {hu.min():g} to {hu.max():g}; expected Hounsfield units, air near -1000: "
            "a mask or a rescaled picture is no CT; give the CT in HU"
        )
    notes = [f"{changed} voxels outside the field of view (padding) were set to {AIR_HU:g} HU"]
    return notes * (changed > 0)


def _identity(
    hu: NDArray[np.float32], affine: NDArray[np.float64], patient_id: str
) -> SeriesIdentity:
    total = hashlib.sha256(repr(hu.shape).encode())
    total.update((affine.round(3) + 0.0).astype("<f8").tobytes())
    total.update(hu.astype("<f4", copy=False).tobytes())

    def uid(role: str) -> str:
        number = hashlib.sha256(total.digest() + role.encode()).digest()[:16]
        return f"2.25.{int.from_bytes(number, 'big')}"  # DICOM PS3.5 B.2

    return SeriesIdentity(
        patient_id=patient_id or f"content-{total.hexdigest()[:16]}",
        study_instance_uid=uid("study"),
        series_instance_uid=uid("series"),
        frame_of_reference_uid=uid("frame of reference"),
    )


def read_mask(path: Path, volume: Volume) -> NDArray[Any]:
    """Read a mask or label volume, shape (z, y, x), onto the upright grid of its series.

    However its axes run, they are turned; the type is the file's.

    Raises InputError if the file is no NIfTI, NRRD or MetaImage, or its grid is another.
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
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape_xyz], [1]), axis=-1).reshape(-1, 4)
    there = corners @ (np.linalg.inv(volume.affine) @ affine).T  # in voxels of the series
    apart = np.abs(there - corners).max(axis=0)[:3]
    if apart.max() > _SAME_VOXEL:
        steps = " x ".join(f"{share:.2g}" for share in apart)
        raise InputError(
            f"{path}: the mask lies {steps} voxels from the series (x, y, z); expected the same "
            "grid; give the mask of this series"
        )
    return np.ascontiguousarray(values.transpose(2, 1, 0))


def write_mask(mask: NDArray[Any], volume: Volume, path: Path, description: str = "") -> None:
    """Write a mask or label volume, shape (z, y, x), with the axes of the file of its series.

    `path` is ``.nii`` or ``.nii.gz``; the same mask gives the same bytes. Of `description` the
    header holds `DESCRIPTION_BYTES`. Raises ValueError if the mask does not have the shape of the
    volume.
    """
    if mask.shape != volume.hu.shape:
        raise ValueError(f"mask is {mask.shape}, the volume is {volume.hu.shape}: one grid, please")
    values = mask.astype(np.uint8) if mask.dtype == np.bool_ else mask
    affine = volume.affine if volume.source_affine is None else volume.source_affine
    make: Any = nibabel.Nifti1Image
    image = make(as_stored(values, volume).transpose(2, 1, 0), LPS_TO_RAS @ affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode()[:DESCRIPTION_BYTES]
    with put_in_place(path) as beside:
        nibabel.save(image, beside)
