"""Faults that real folders have, made on purpose in a good one, to show what the reader says."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pydicom
from pydicom.uid import EncapsulatedPDFStorage
from series_tools import edit, edit_all, moved

from medlib.errors import InputError
from medlib.images.dicom import read_series, write_series
from medlib.images.volume import Volume


def _edit_all(files: list[Path], **values: Any) -> None:
    edit_all(files[0].parent, **values)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _mark_padding(files: list[Path]) -> None:
    """Write -2000 into a corner, as scanners do outside the round field of view."""
    for path in files:
        dataset = pydicom.dcmread(path)
        stored = dataset.pixel_array.copy()
        stored[:10, :10] = -2000
        dataset.PixelData = stored.tobytes()
        dataset.PixelPaddingValue = -2000
        dataset["PixelPaddingValue"].VR = "SS"
        dataset.save_as(path)


def _copy(path: Path) -> None:
    path.with_name("a copy").write_bytes(path.read_bytes())


# Each is given the files of a good series in ascending z, at least five.
FAULTS: dict[str, Callable[[list[Path]], object]] = {
    "nothing done to it": lambda _: None,
    "a file is there twice": lambda files: _copy(files[2]),
    "padding outside the field of view": _mark_padding,
    "marked as compressed with loss": lambda files: _edit_all(files, LossyImageCompression="01"),
    "a slice is missing": lambda files: files[2].unlink(),
    "two images in one place": lambda files: moved(files[2], dz=_z(files[1]) - _z(files[2])),
    "a slice has slipped": lambda files: moved(files[2], dz=0.35 * (_z(files[1]) - _z(files[0]))),
    "tilted gantry": lambda files: _edit_all(
        files, ImageOrientationPatient=[1, 0, 0, 0, 0.966, -0.259]
    ),
    "one slice turned round": lambda files: edit(
        files[2], ImageOrientationPatient=[-1, 0, 0, 0, -1, 0]
    ),
    "pixels of no size": lambda files: _edit_all(files, PixelSpacing=[0, 0]),
    "a file that ends too early": lambda files: _cut(files[2]),
    "a file without pixels": lambda files: edit(files[2], PixelData=None),
    "a header that claims 60,000 rows": lambda files: _edit_all(files, Rows=60_000),
    "values that are no HU": lambda files: _edit_all(files, RescaleType="ED"),
    "documents only": lambda files: _edit_all(files, SOPClassUID=EncapsulatedPDFStorage),
    "text files": lambda files: [path.write_text("text") for path in files],
}


def _z(path: Path) -> float:
    return float(pydicom.dcmread(path).ImagePositionPatient[2])


def try_faults(volume: Volume) -> pd.DataFrame:
    """Damage a series of at least five slices by each fault, read it back, and say what came of it.

    ``outcome`` is "read", "read with a warning" or the error's class, ``said`` the warning or the
    error's line without the series' name.
    """
    rows = []
    with tempfile.TemporaryDirectory(prefix="medlib-") as scratch:
        for k, (fault, damage) in enumerate(FAULTS.items()):
            folder = Path(scratch) / str(k)
            damage(write_series(volume, folder))
            rows.append((fault, *_outcome(folder)))
    return pd.DataFrame(rows, columns=["fault", "outcome", "said"])


def _outcome(folder: Path) -> tuple[str, str]:
    try:
        [volume] = read_series(folder)
    except InputError as error:
        # The name of the series or of the folder stands before the first colon.
        return type(error).__name__, str(error).partition(": ")[2]
    return "read with a warning" if volume.warnings else "read", "; ".join(volume.warnings)
