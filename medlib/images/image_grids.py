"""Voxels and their grid from NIfTI, NRRD and MetaImage, whatever a damaged file claims."""

from __future__ import annotations

import gzip
import io
import logging
import math
import re
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
from medlib.images.complaints import complaints_held
from medlib.images.dicom_frames import MAX_POSITION_MM, PIXEL_MM
from medlib.images.dicom_pixels import MAX_VOXELS
from medlib.images.image_errors import ImpossibleSizeError, ResearchVolumeError, SpacingError
from medlib.images.volume import OnGrid

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI's world axes against DICOM's
_GZIP = b"\x1f\x8b"
_NRRD = b"NRRD000"
_METAIMAGE = re.compile(rb"\s*\w+ *=[^\0]*\bNDims *=")
_BYTES = {"SHORT": 2, "INT": 4, "LONG": 4, "FLOAT": 4, "DOUBLE": 8}  # a voxel of MetaImage
_PLACED = {"space", "transformmatrix", "rotation", "orientation"}  # fields that place the voxels
_NIFTI_1, _NIFTI_2 = 348, 540  # bytes of the header, and its first number
_MOST_INFLATION = 1032  # deflate cannot do better
_MOST_HEADER_BYTES = 2**20
_FORMS_APART_MM = 0.5
_NO_ROTATION = np.full((4, 4), np.inf)
_TWO_ORIENTATIONS = "the file places the voxels twice (sform, qform), and not alike: sform was used"
_NO_ORIENTATION = "the file does not say how the patient lies: left and right are a guess"


class Grid(NamedTuple):
    """Voxels ``[x, y, z]`` in the file's order and type; `affine` takes an index to LPS in mm."""

    values: NDArray[Any]
    affine: NDArray[np.float64]
    notes: tuple[str, ...]


def kind_of(path: Path) -> str:
    """Return "NIfTI" (plain or gzip), "NRRD" or "MetaImage" as a file starts; else ""."""
    try:
        start = _start(path)
    except (OSError, EOFError, zlib.error):
        return ""
    if start.startswith(_NRRD):
        return "NRRD"
    return "NIfTI" if _nifti_class(start) else "MetaImage" if _METAIMAGE.match(start) else ""


def read_grid(path: Path) -> Grid:
    """Read one volume of one number a voxel.

    Raises InputError if the file is damaged, claims more voxels than it can hold, or lies nowhere.
    """
    try:
        grid = (_read_by_itk if kind_of(path) in ("NRRD", "MetaImage") else _read_nifti)(path)
    except InputError:
        raise
    except Exception as error:  # both libraries raise many kinds on a damaged file
        raise ResearchVolumeError(
            f"not a readable NIfTI file, NRRD or MetaImage ({type(error).__name__}); expected a "
            "whole volume; write it again"
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


def _check_claim(
    path: Path, shape: tuple[int, ...], item_bytes: int, packed: bool, header_bytes: int = 0
) -> None:
    """Refuse a header that claims more than the file can hold, before memory is taken."""
    claimed, held = " x ".join(map(str, shape[:8])), path.stat().st_size - header_bytes
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
    if int(header["sform_code"]) <= 0 and _qform(header) is _NO_ROTATION:
        raise ResearchVolumeError(
            "the quaternion in its header is no rotation; expected one, or a matrix (sform); write "
            "it again"
        )
    with _silent(nibabel_logger), gzip.open(path) if packed else path.open("rb") as stream:
        image = make.from_stream(stream)
        values = np.asanyarray(image.dataobj)
        while packed and stream.read(2**20):
            pass  # at the end of the stream stands its checksum, which is compared there
    return Grid(values.reshape(values.shape[:3]), LPS_TO_RAS @ image.affine, _placing_notes(image))


def _qform(header: Any) -> NDArray[np.float64] | None:
    """Return the affine of a header's quaternion; None without one."""
    try:
        return header.get_qform(coded=True)[0]  # type: ignore[no-any-return]
    except ValueError:
        return _NO_ROTATION


def _placing_notes(image: Any) -> tuple[str, ...]:
    """Say where a NIfTI header does not place its voxels, or places them twice."""
    sform, qform = image.get_sform(coded=True)[0], _qform(image.header)
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


def _read_by_itk(path: Path) -> Grid:
    """Read a NRRD or a MetaImage file, once its header and its stream are believed."""
    sitk: Any = import_module("SimpleITK")  # half a second: only where there is one
    is_nrrd = _start(path).startswith(_NRRD)
    fields, offset = _text_header(path, ":" if is_nrrd else "=")
    voxels = path if is_nrrd else _voxels_of_metaimage(path, fields["elementdatafile"])
    if "data file" in fields or "datafile" in fields:
        raise ResearchVolumeError(
            "names another file for its voxels; expected one file; write it as .nrrd"
        )
    encoding = fields.get("encoding", fields.get("compresseddata", "raw")).lower()
    packed = encoding not in ("raw", "txt", "text", "ascii", "hex", "false")
    shape = fields["sizes" if is_nrrd else "dimsize"]
    item_bytes = _BYTES.get(fields.get("elementtype", "").removeprefix("MET_").removeprefix("U"), 1)
    header_bytes = offset if voxels == path else 0
    _check_claim(voxels, tuple(map(int, shape.split())), item_bytes, packed, header_bytes)
    if encoding in ("true", "gz", "gzip"):
        _check_stream(voxels, header_bytes)
    with complaints_held():
        reader = sitk.ImageFileReader()
        reader.SetImageIO("NrrdImageIO" if is_nrrd else "MetaImageIO")
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        size = reader.GetSize()
        if reader.GetNumberOfComponents() != 1 or len(size) < 3 or max((1, *size[3:])) > 1:
            raise ResearchVolumeError(
                f"{reader.GetDimension()} dimensions, {reader.GetNumberOfComponents()} values a "
                "voxel; expected a grey volume; give the CT in HU"
            )
        image = reader.Execute()
    image = image[:, :, :, 0] if len(size) == 4 else image
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    notes = () if _PLACED & fields.keys() else (_NO_ORIENTATION,)
    return Grid(sitk.GetArrayFromImage(image).transpose(2, 1, 0), affine, notes)


def _text_header(path: Path, colon: str) -> tuple[dict[str, str], int]:
    """Return the fields of a header, names in small letters, and where it ends."""
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        while stream.tell() < _MOST_HEADER_BYTES and (line := stream.readline(2**16).strip()):
            key, found, value = line.decode("ascii", "replace").partition(colon)
            if found and not key.startswith("#"):
                fields[key.strip().lower()] = value.strip()
            if "elementdatafile" in fields:  # the last one of MetaImage; NRRD has an empty line
                break
        return fields, stream.tell()


def _voxels_of_metaimage(path: Path, name: str) -> Path:
    if name.upper() == "LOCAL":
        return path
    if Path(name).name != name or not path.with_name(name).is_file():
        raise ResearchVolumeError(
            "names a file for its voxels that does not lie beside it; expected header and voxels "
            "in one folder; write it as one .mha file"
        )
    return path.with_name(name)


def _check_stream(path: Path, offset: int) -> None:
    """Unpack a stream to its end, where its checksum is: ITK goes on without."""
    unpacked, stream = 0, zlib.decompressobj(zlib.MAX_WBITS | 32)  # zlib or gzip
    with path.open("rb") as file:
        file.seek(offset)
        while not stream.eof and unpacked <= 8 * MAX_VOXELS and (part := file.read(2**16)):
            unpacked += len(stream.decompress(part))
    if not stream.eof:
        raise EOFError("the stream does not end")
