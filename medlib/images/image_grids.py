"""Voxels and their grid from NIfTI and NRRD files, whatever a damaged one claims."""

from __future__ import annotations

import gzip
import io
import logging
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from nibabel.imageglobals import logger as nibabel_logger
from numpy.typing import NDArray

from medlib.errors import InputError
from medlib.images.dicom_frames import MAX_POSITION_MM, PIXEL_MM
from medlib.images.dicom_pixels import MAX_VOXELS
from medlib.images.image_errors import ImpossibleSizeError, ResearchVolumeError, SpacingError
from medlib.images.volume import OnGrid

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI's world axes against DICOM's
_GZIP = b"\x1f\x8b"
_NRRD = b"NRRD000"
_NIFTI_1, _NIFTI_2 = 348, 540  # bytes of the header, and its first number
_MOST_INFLATION = 1032  # deflate cannot do better
_MOST_HEADER_BYTES = 2**20
_FORMS_APART_MM = 0.5
_TWO_ORIENTATIONS = "the file places the voxels twice (sform, qform), and not alike: sform was used"
_NO_ORIENTATION = "the file does not say how the patient lies: left and right are a guess"


class Grid(NamedTuple):
    """Voxels ``[x, y, z]`` in the file's order and type; `affine` takes an index to LPS in mm."""

    values: NDArray[Any]
    affine: NDArray[np.float64]
    notes: tuple[str, ...]


def kind_of(path: Path) -> str:
    """Return "NIfTI" (plain or gzip) or "NRRD" as a file starts, whatever its name; else ""."""
    try:
        start = _start(path)
    except (OSError, EOFError, zlib.error):
        return ""
    return "NRRD" if start.startswith(_NRRD) else "NIfTI" if _nifti_class(start) else ""


def read_grid(path: Path) -> Grid:
    """Read one volume of one number a voxel.

    Raises InputError if the file is damaged, claims more voxels than it can hold, or lies nowhere.
    """
    try:
        grid = (_read_nrrd if _start(path).startswith(_NRRD) else _read_nifti)(path)
    except InputError:
        raise
    except Exception as error:  # both libraries raise many kinds on a damaged file
        raise ResearchVolumeError(
            f"not a readable NIfTI file, nor NRRD ({type(error).__name__}); expected a whole "
            "volume; write it again"
        ) from error
    spacing = np.linalg.norm(grid.affine[:3, :3], axis=0)
    most = np.abs(grid.affine[:3, 3]).max()
    if not ((spacing >= PIXEL_MM[0]) & (spacing <= 5 * PIXEL_MM[1])).all():
        raise SpacingError(
            f"voxels of {' x '.join(f'{step:.3g}' for step in spacing)} mm; expected positive "
            "sizes in mm; write it again"
        )
    if not most <= MAX_POSITION_MM:
        raise SpacingError(
            f"lies {most:g} mm away; expected a position within the scanner; write it again"
        )
    return grid


def turned(
    values: NDArray[Any], affine: NDArray[np.float64], like: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Flip and reorder the axes of ``[x, y, z]`` values to run as those of another affine do."""
    axes: Any = nibabel.orientations
    turn = axes.ornt_transform(axes.io_orientation(affine), axes.io_orientation(like))
    return axes.apply_orientation(values, turn), affine @ axes.inv_ornt_aff(turn, values.shape)


def turned_upright(
    stored: NDArray[Any], affine: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64] | None]:
    """Turn ``[z, y, x]`` values to patient axes: x to the left, y to the back, z to the head.

    Returns them with their affine, and the one that they had; None if they were upright.
    """
    values, own = turned(stored.transpose(2, 1, 0), affine, np.eye(4))
    if np.array_equal(own, affine):
        return stored, affine, None
    return np.ascontiguousarray(values.transpose(2, 1, 0)), own, affine


def as_stored(values: NDArray[Any], grid: OnGrid) -> NDArray[Any]:
    """Turn upright ``[z, y, x]`` values to the axes of the grid's file, in reverse order too."""
    if grid.source_affine is None:
        return values
    return turned(values.transpose(2, 1, 0), grid.affine, grid.source_affine)[0].transpose(2, 1, 0)


def upright(stored: NDArray[Any], grid: OnGrid) -> NDArray[Any]:
    """Undo `as_stored`."""
    if grid.source_affine is None:
        return stored
    return turned(stored.transpose(2, 1, 0), grid.source_affine, grid.affine)[0].transpose(2, 1, 0)


def _start(path: Path, count: int = _NIFTI_2) -> bytes:
    with path.open("rb") as stream:
        start = stream.read(count)
        if not start.startswith(_GZIP):
            return start
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(start + stream.read(4096), count)


def _nifti_class(start: bytes) -> Any:
    if start[344:348] == b"n+1\0":
        return nibabel.Nifti1Image
    return nibabel.Nifti2Image if start[4:8] == b"n+2\0" else None


def _check_claim(path: Path, shape: tuple[int, ...], item_bytes: int, packed: bool) -> None:
    """Refuse a header that claims more than the file can hold, before memory is taken."""
    claimed, held = " x ".join(map(str, shape[:8])), path.stat().st_size
    if len(shape) < 3 or not all(n >= 1 for n in shape) or sum(n > 1 for n in shape[3:]):
        raise ResearchVolumeError(
            f"an array of {claimed}; expected three dimensions; give one volume a file"
        )
    voxels = math.prod(shape)
    if voxels > MAX_VOXELS or voxels * item_bytes > held * (_MOST_INFLATION if packed else 1):
        raise ImpossibleSizeError(
            f"claims {claimed} voxels, a file of {held} bytes cannot hold them or memory cannot; "
            "expected a CT of the chest; write it again"
        )


def _read_nifti(path: Path) -> Grid:
    start, packed = _start(path), path.open("rb").read(2) == _GZIP
    make = _nifti_class(start)
    if make is None:
        raise ValueError("no NIfTI header with its voxels in one file")
    # Unchecked: the check mends impossible sizes to 1 mm, and that must not pass for a size.
    first = io.BytesIO(start[: make.header_class.sizeof_hdr])
    header = make.header_class.from_fileobj(first, check=False)
    dtype, unit = header.get_data_dtype(), header.get_xyzt_units()[0]
    if dtype.kind not in "iuf":
        raise ResearchVolumeError(
            f"voxels of the type {dtype}; expected one number each; give the CT in HU"
        )
    if not _NIFTI_1 <= header.get_data_offset() <= _MOST_HEADER_BYTES:
        raise ImpossibleSizeError(
            f"its voxels are said to start at byte {header.get_data_offset()}; expected them "
            "behind the header; write it again"
        )
    steps = header["pixdim"][1:4]
    if not (np.isfinite(steps).all() and (steps > 0).all()) or unit not in ("mm", "unknown"):
        raise SpacingError(
            f"voxels of {' x '.join(f'{step:g}' for step in steps)} {unit}; expected positive "
            "sizes in mm; write it again"
        )
    _check_claim(path, header.get_data_shape(), dtype.itemsize, packed)
    with _silent(nibabel_logger), gzip.open(path) if packed else path.open("rb") as stream:
        image = make.from_stream(stream)
        values = np.asanyarray(image.dataobj)
        while packed and stream.read(2**20):
            pass  # at the end of the stream stands its checksum, which is compared there
    return Grid(values.reshape(values.shape[:3]), LPS_TO_RAS @ image.affine, _placing_notes(image))


def _placing_notes(image: Any) -> tuple[str, ...]:
    """Say where a NIfTI header does not place its voxels, or places them twice."""
    sform, qform = (form(coded=True)[0] for form in (image.get_sform, image.get_qform))
    if sform is None and qform is None:
        return (_NO_ORIENTATION,)
    far = sform is not None and qform is not None and np.abs(sform - qform).max() > _FORMS_APART_MM
    return (_TWO_ORIENTATIONS,) * bool(far)


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Keep a library from writing what it mends to standard error."""
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _read_nrrd(path: Path) -> Grid:
    sitk: Any = import_module("SimpleITK")  # half a second: only where there is a NRRD
    fields = _nrrd_fields(path)
    if "data file" in fields or "datafile" in fields:
        raise ResearchVolumeError(
            "names another file for its voxels; expected one file; write it as .nrrd"
        )
    packed = fields.get("encoding", "raw").lower() not in ("raw", "txt", "text", "ascii", "hex")
    _check_claim(path, tuple(map(int, fields["sizes"].split())), 1, packed)
    warned = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        reader = sitk.ImageFileReader()
        reader.SetImageIO("NrrdImageIO")
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        if reader.GetNumberOfComponents() != 1 or reader.GetDimension() != 3:
            raise ResearchVolumeError(
                f"{reader.GetDimension()} dimensions, {reader.GetNumberOfComponents()} values a "
                "voxel; expected a grey volume; give the CT in HU"
            )
        image = reader.Execute()
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warned)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    notes = () if "space" in fields else (_NO_ORIENTATION,)
    return Grid(sitk.GetArrayFromImage(image).transpose(2, 1, 0), affine, notes)


def _nrrd_fields(path: Path) -> dict[str, str]:
    """Return the fields of a NRRD header, names in small letters."""
    with path.open("rb") as stream:
        text = stream.read(_MOST_HEADER_BYTES).replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    lines = text.decode("ascii", "replace").splitlines()
    pairs = [line.partition(": ") for line in lines if not line.startswith("#")]
    return {key.strip().lower(): value.strip() for key, colon, value in pairs if colon}
