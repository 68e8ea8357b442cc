"""NIfTI and NRRD volumes as research input: pixels and a grid, but no patient and no scanner."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.imageglobals import logger as nibabel_logger
from numpy.typing import NDArray

from medlib.errors import InputError
from medlib.images.dicom_frames import MAX_POSITION_MM, PIXEL_MM
from medlib.images.dicom_pixels import AIR_HU, HIGHEST_HU, LOWEST_HU, MAX_VOXELS
from medlib.images.image_errors import (
    ImpossibleSizeError,
    ObliqueError,
    ResearchVolumeError,
    SpacingError,
)
from medlib.images.nifti import LPS_TO_RAS
from medlib.images.volume import SeriesIdentity, Volume

_GZIP = b"\x1f\x8b"
_NRRD = b"NRRD000"
_NIFTI_1, _NIFTI_2 = 348, 540  # bytes of the header, and its first number
_MOST_INFLATION = 1032  # deflate cannot do better
_MOST_HEADER_BYTES = 2**20
_AXIS_TOLERANCE = 0.01
_NO_DICOM = "read from a {kind} file, not from DICOM: patient, scanner and rescale are unknown"

Grid = tuple[NDArray[Any], NDArray[np.float64], list[str]]  # [x, y, z], index to LPS mm, notes


def is_research_volume(path: Path) -> bool:
    """Whether a file starts as NIfTI (plain or gzip) or NRRD does, whatever its name."""
    try:
        start = _start(path)
    except (OSError, EOFError, zlib.error):
        return False
    return start.startswith(_NRRD) or _nifti_kind(start) is not None


def read_research_volume(path: Path, name: str) -> Volume:
    """Read a NIfTI or NRRD file that holds a CT in Hounsfield units.

    Axes are turned so that x runs to the patient's left, y to the back and z to the head, as
    in DICOM slices of a patient on the back.

    Parameters
    ----------
    path : Path
    name : str
        What messages call it.

    Returns
    -------
    Volume
        Its identity follows from its content, so that the same voxels on the same grid have the
        same UIDs in any file. A warning says that it is no DICOM.

    Raises
    ------
    InputError
        If the file is damaged, claims more voxels than it can hold, lies oblique, or has values
        that are not HU (a mask, say).
    """
    try:
        kind = "NRRD" if _start(path).startswith(_NRRD) else "NIfTI"
        values, affine, notes = (
            _read_nrrd(path, name) if kind == "NRRD" else _read_nifti(path, name)
        )
    except InputError:
        raise
    except Exception as error:  # both libraries raise many kinds on a damaged file
        raise ResearchVolumeError(
            f"{name}: cannot be read as NIfTI or NRRD ({type(error).__name__}); expected a whole "
            "CT volume; write it again"
        ) from error
    hu, affine = _upright(name, values, affine)
    more = _check_hounsfield(name, hu)
    identity = _identity(hu, affine)
    return Volume(hu, affine, identity, (), (_NO_DICOM.format(kind=kind), *notes, *more))


def _start(path: Path, count: int = _NIFTI_2) -> bytes:
    with path.open("rb") as stream:
        start = stream.read(count)
        if not start.startswith(_GZIP):
            return start
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(start + stream.read(4096), count)


def _nifti_kind(start: bytes) -> Any:
    if start[344:348] == b"n+1\0":
        return nibabel.Nifti1Image
    return nibabel.Nifti2Image if start[4:8] == b"n+2\0" else None


def _check_claim(
    name: str, path: Path, shape: tuple[int, ...], item_bytes: int, packed: bool
) -> None:
    """Refuse a header that claims more than the file can hold, before memory is taken."""
    sizes = tuple(n for n in shape if n != 1) if len(shape) > 3 else shape
    if len(shape) < 3 or len(sizes) > 3 or not all(n >= 1 for n in shape):
        raise ResearchVolumeError(
            f"{name}: an array of {' x '.join(map(str, shape[:8]))}; expected three dimensions; "
            "give one volume a file"
        )
    voxels = math.prod(shape)
    most = path.stat().st_size * (_MOST_INFLATION if packed else 1)
    if voxels > MAX_VOXELS or voxels * item_bytes > most:
        raise ImpossibleSizeError(
            f"{name}: claims {' x '.join(map(str, shape[:8]))} voxels, a file of "
            f"{path.stat().st_size} bytes cannot hold them or memory cannot; expected a CT of the "
            "chest; write it again"
        )


def _read_nifti(path: Path, name: str) -> Grid:
    start = _start(path)
    make = _nifti_kind(start)
    if make is None:
        raise ResearchVolumeError(
            f"{name}: a NIfTI header without its voxels; expected both in one file; write it again"
        )
    # Unchecked: the check mends impossible sizes to 1 mm, and that must not pass for a size.
    first = io.BytesIO(start[: make.header_class.sizeof_hdr])
    header = make.header_class.from_fileobj(first, check=False)
    dtype, packed = header.get_data_dtype(), path.open("rb").read(2) == _GZIP
    if dtype.kind not in "iuf":
        raise ResearchVolumeError(
            f"{name}: voxels of the type {dtype}; expected one number each; give the CT in HU"
        )
    if not _NIFTI_1 <= header.get_data_offset() <= _MOST_HEADER_BYTES:
        raise ImpossibleSizeError(
            f"{name}: its voxels are said to start at byte {header.get_data_offset()}; expected "
            "them behind the header; write it again"
        )
    steps = header["pixdim"][1:4]
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        raise SpacingError(
            f"{name}: voxels of {' x '.join(f'{step:g}' for step in steps)} mm; expected positive "
            "sizes in mm; write it again"
        )
    _check_claim(name, path, header.get_data_shape(), dtype.itemsize, packed)
    with (
        _silent(nibabel_logger),
        gzip.open(path) if packed else path.open("rb") as stream,
    ):
        image = make.from_stream(stream)
        values = np.asanyarray(image.dataobj)
    notes = []
    if not (int(image.header["sform_code"]) or int(image.header["qform_code"])):
        notes.append("the file does not say how the patient lies: left and right are a guess")
    unit = image.header.get_xyzt_units()[0]
    if unit not in ("mm", "unknown"):
        raise SpacingError(f"{name}: lengths in {unit}; expected mm; write it again")
    return values, LPS_TO_RAS @ image.affine, notes


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Keep a library from writing what it mends to standard error."""
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _read_nrrd(path: Path, name: str) -> Grid:
    sitk: Any = import_module("SimpleITK")  # half a second: only where there is a NRRD
    fields = _nrrd_fields(path)
    if "data file" in fields or "datafile" in fields:
        raise ResearchVolumeError(
            f"{name}: names another file for its voxels; expected one file; write it as .nrrd"
        )
    packed = fields.get("encoding", "raw").lower() not in ("raw", "txt", "text", "ascii", "hex")
    shape = tuple(int(size) for size in fields["sizes"].split())
    _check_claim(name, path, shape, 1, packed)
    warned = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        reader = sitk.ImageFileReader()
        reader.SetImageIO("NrrdImageIO")
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        if reader.GetNumberOfComponents() != 1 or reader.GetDimension() != 3:
            raise ResearchVolumeError(
                f"{name}: {reader.GetDimension()} dimensions, {reader.GetNumberOfComponents()} "
                "values a voxel; expected a grey volume; give the CT in HU"
            )
        image = reader.Execute()
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warned)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    notes = []
    if "space" not in fields:
        notes.append("the file does not say how the patient lies: left and right are a guess")
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), affine, notes


def _nrrd_fields(path: Path) -> dict[str, str]:
    """Return the fields of a NRRD header, names in small letters."""
    with path.open("rb") as stream:
        text = stream.read(_MOST_HEADER_BYTES).replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    lines = text.decode("ascii", "replace").splitlines()
    pairs = [line.partition(": ") for line in lines if not line.startswith("#")]
    return {key.strip().lower(): value.strip() for key, colon, value in pairs if colon}


def _upright(
    name: str, values: NDArray[Any], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Turn ``[x, y, z]`` values of any axis order into HU ``[z, y, x]`` with ascending axes."""
    values = values.reshape(
        [n for n in values.shape if n != 1] if values.ndim > 3 else values.shape
    )
    if values.ndim != 3:
        values = values.reshape((*values.shape, *[1] * (3 - values.ndim)))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not (
        (spacing >= PIXEL_MM[0]).all() and (spacing <= 5 * PIXEL_MM[1]).all()
    ):
        raise SpacingError(
            f"{name}: voxels of {' x '.join(f'{step:.3g}' for step in spacing)} mm; expected "
            "positive sizes in mm; write it again"
        )
    if np.abs(affine[:3, 3]).max() > MAX_POSITION_MM:
        raise SpacingError(
            f"{name}: lies {np.abs(affine[:3, 3]).max():g} mm away; expected a position within "
            "the scanner; write it again"
        )
    directions = affine[:3, :3] / spacing
    axis = np.abs(directions).argmax(axis=1)  # which array axis runs along x, y and z
    signs = np.array([directions[world, axis[world]] for world in range(3)])
    straight = np.zeros((3, 3))
    straight[range(3), axis] = signs.round()
    if sorted(axis) != [0, 1, 2] or np.abs(directions - straight).max() > _AXIS_TOLERANCE:
        raise ObliqueError(
            f"{name}: its axes are oblique to the patient; expected axial slices without tilt; "
            "resample the volume to axial slices"
        )
    turned = np.eye(4)
    turned[:3, :3] = affine[:3, axis] * np.sign(signs)
    far = [0 if signs[world] > 0 else values.shape[axis[world]] - 1 for world in range(3)]
    turned[:3, 3] = affine[:3, 3] + affine[:3, axis] @ far
    values = values.transpose(axis)
    values = values[tuple(slice(None, None, 1 if sign > 0 else -1) for sign in signs)]
    return np.ascontiguousarray(values.transpose(2, 1, 0), dtype=np.float32), turned


def _check_hounsfield(name: str, hu: NDArray[np.float32]) -> list[str]:
    """Set what was not measured to air; refuse what is not in HU."""
    unmeasured = ~np.isfinite(hu) | (hu < LOWEST_HU)
    changed = int(np.count_nonzero(unmeasured))
    hu[unmeasured] = AIR_HU
    if hu.min() >= 0 or hu.max() > HIGHEST_HU or 2 * changed > hu.size:
        raise ResearchVolumeError(
            f"{name}: values from {hu.min():g} to {hu.max():g}; expected Hounsfield units, air "
            "near -1000: a mask or a rescaled picture is no CT; give the CT in HU"
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
