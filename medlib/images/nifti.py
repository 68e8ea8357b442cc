"""Masks as NIfTI files on the grid of the series that they belong to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from medlib.errors import InputError
from medlib.images.volume import Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI's world axes against DICOM's
_AFFINE_TOLERANCE_MM = 1e-3


def write_mask(mask: NDArray[Any], volume: Volume, path: Path) -> None:
    """Write a mask or label volume on the grid of a series.

    Parameters
    ----------
    mask : ndarray of bool or integer, shape (z, y, x)
        On the grid of `volume`.
    volume : Volume
        Gives the affine.
    path : Path
        ``.nii`` or ``.nii.gz``. The same mask gives the same bytes.

    Raises
    ------
    ValueError
        If the mask does not have the shape of the volume.
    """
    if mask.shape != volume.hu.shape:
        raise ValueError(f"mask is {mask.shape}, the volume is {volume.hu.shape}: one grid, please")
    values = mask.astype(np.uint8) if mask.dtype == np.bool_ else mask
    make: Any = nibabel.Nifti1Image
    image = make(values.transpose(2, 1, 0), LPS_TO_RAS @ volume.affine)
    image.header.set_xyzt_units("mm")
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        nibabel.save(image, beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_mask(path: Path, volume: Volume) -> NDArray[Any]:
    """Read a mask or label volume back onto the grid of its series.

    Axes that another tool has flipped or reordered are turned back.

    Parameters
    ----------
    path : Path
    volume : Volume
        The series that the mask belongs to.

    Returns
    -------
    ndarray, shape (z, y, x)
        In the integer type of the file.

    Raises
    ------
    InputError
        If the file is no NIfTI, or its grid is not that of the series.
    """
    try:
        image: Any = nibabel.load(path)
        values = np.asanyarray(image.dataobj)
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError) as error:
        raise InputError(
            f"{path}: not a readable NIfTI file ({type(error).__name__}); expected a mask on the "
            "grid of the series; write it again"
        ) from error
    expected = LPS_TO_RAS @ volume.affine
    axes: Any = nibabel.orientations
    turn = axes.ornt_transform(axes.io_orientation(image.affine), axes.io_orientation(expected))
    affine = image.affine @ axes.inv_ornt_aff(turn, image.shape[:3])
    values = axes.apply_orientation(values, turn)
    shape_xyz = volume.hu.shape[::-1]
    if values.shape != shape_xyz:
        raise InputError(
            f"{path}: the mask has {values.shape} voxels along x, y, z, the series {shape_xyz}; "
            "give the mask of this series"
        )
    corner = np.array([*(n - 1 for n in shape_xyz), 1.0])
    origin = np.array([0.0, 0.0, 0.0, 1.0])
    apart = max(float(np.abs((affine - expected) @ point).max()) for point in (origin, corner))
    if apart > _AFFINE_TOLERANCE_MM * max(shape_xyz):
        raise InputError(
            f"{path}: the mask lies {apart:.1f} mm from the series; expected the same grid; give "
            "the mask of this series"
        )
    return np.ascontiguousarray(values.transpose(2, 1, 0))
