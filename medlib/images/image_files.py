"""CT volumes from image files that are no DICOM: NIfTI and NRRD."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its usual name

from medlib.errors import InputError
from medlib.images.volume import SeriesIdentity, Volume


def read_image(path: Path, patient_id: str = "", series_instance_uid: str = "") -> Volume:
    """Read a volume in Hounsfield units.

    Parameters
    ----------
    path : Path
        ``.nii``, ``.nii.gz`` or ``.nrrd``.
    patient_id, series_instance_uid : str
        Who it is; the file does not say.

    Returns
    -------
    Volume
        Slices as the file has them.

    Raises
    ------
    InputError
        If there is no such file, or it holds no 3D image.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an image in NIfTI or NRRD")
    try:
        image: Any = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(
            f"{path}: not a readable image; expected NIfTI or NRRD; fetch the file again"
        ) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{path}: not a 3D image of one value a voxel; give a CT volume")
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = direction * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    hu = sitk.GetArrayFromImage(image).astype(np.float32)
    return Volume(hu, affine, SeriesIdentity(patient_id, "", series_instance_uid))
