"""Masks as NIfTI: a label file for one reader, or a cohort's pair of files for several.

The pair is that of `medlib.cohorts.cohort`: ``readers.nii.gz`` with a bit for each reader and
``labels.nii.gz`` with the lesion's number.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.annotation.drawings import (
    UNKNOWN,
    Annotation,
    Author,
    GridMismatchError,
    LesionMask,
    SeriesGrid,
)
from medlib.errors import InputError
from medlib.images import image_files
from medlib.images.volume import Volume

READERS_FILE = "readers.nii.gz"
LABELS_FILE = "labels.nii.gz"
# What `medlib assist` leaves: a model's mask, and the report that names the model.
MODEL_MASK, MODEL_REPORT = "mask.nii.gz", "report.json"
MAX_READERS = 8  # bits of a byte


def write_labels(annotation: Annotation, path: Path, volume: Volume) -> None:
    """Write one reader's lesions as a label file; InputError for more readers, or an overlap."""
    if len(annotation.readers) > 1:
        raise InputError(
            f"a label file holds one reader, the annotation has {len(annotation.readers)}; name a "
            "folder, a .csv or a .dcm file"
        )
    author = "".join(
        annotation.author(k).brief(image_files.DESCRIPTION_BYTES) for k in annotation.readers
    )
    image_files.write_mask(_labels(annotation), volume, path, author)


def write_pair(annotation: Annotation, folder: Path, volume: Volume) -> None:
    """Write up to eight readers' lesions as a bit field and a label file; no overlap."""
    if max(annotation.readers, default=0) > MAX_READERS:
        raise InputError(
            f"a bit field holds readers 1 to {MAX_READERS}, the annotation has reader "
            f"{max(annotation.readers)}; write a .csv or .dcm file"
        )
    if any(annotation.author(reader).kind != "reader" for reader in annotation.readers):
        raise InputError(
            "a cohort's pair of files holds what readers drew, and this was drawn by an algorithm; "
            "write a label file (.nii.gz), a .csv or a .dcm file"
        )
    labels = _labels(annotation)
    readers = np.zeros(labels.shape, dtype=np.uint8)
    for mask in annotation.masks:
        readers[mask.block] |= mask.mask.astype(np.uint8) << np.uint8(mask.reader - 1)
    folder.mkdir(parents=True, exist_ok=True)
    image_files.write_mask(readers, volume, folder / READERS_FILE)
    image_files.write_mask(labels, volume, folder / LABELS_FILE)


def _labels(annotation: Annotation) -> NDArray[np.uint8 | np.uint16]:
    kind = np.uint8 if max(annotation.lesions, default=0) < 256 else np.uint16
    labels = np.zeros(annotation.grid.shape_zyx, dtype=kind)
    for mask in annotation.masks:
        part = labels[mask.block]
        other = part[mask.mask & (part > 0) & (part != mask.lesion)]
        if len(other):
            raise InputError(
                f"lesions {int(other[0])} and {mask.lesion} share {len(other)} voxels, and a label "
                "file holds one lesion a voxel; write a .csv or .dcm file"
            )
        part[mask.mask] = mask.lesion
    return labels


def read_labels(path: Path, volume: Volume) -> Annotation:
    """Read a label file as the lesions of one reader; errors as of `read_label_values`."""
    labels = read_label_values(path, volume)
    drawn = Annotation.gather(SeriesGrid.of(volume), _lesions(labels, np.sign(labels)), (), (1,))
    return replace(drawn, authors={1: _author(path)})


def _author(path: Path) -> Author:
    """Take who drew from the report beside a model's mask, else from the file's own header."""
    with suppress(Exception):  # whatever a foreign file lacks: then nobody is named
        if path.name == MODEL_MASK:
            model = json.loads(path.with_name(MODEL_REPORT).read_text(encoding="utf-8"))["model"]
            return Author("algorithm", str(model["name"]), "", str(model["sha256"]))
    with suppress(Exception):
        image: Any = nibabel.load(path)
        return Author.parse(bytes(image.header["descrip"].item()).decode())
    return UNKNOWN


def read_pair(folder: Path, volume: Volume) -> Annotation:
    """Read a cohort's bit field and label file; errors as of `read_label_values`."""
    readers = read_label_values(folder / READERS_FILE, volume)
    labels = read_label_values(folder / LABELS_FILE, volume)
    if astray := int(((readers > 0) & (labels == 0)).sum()):
        raise InputError(
            f"{folder}: {astray} voxels of {READERS_FILE} belong to no lesion of {LABELS_FILE}; "
            "expected one pair; write both again"
        )
    return Annotation.gather(SeriesGrid.of(volume), _lesions(labels, readers))


def _lesions(labels: NDArray[np.integer], readers: NDArray[np.integer]) -> list[LesionMask]:
    found = []
    for number, block in enumerate(ndimage.find_objects(labels), start=1):
        if block is None:
            continue
        z, y, x = (side.start for side in block)
        marked = np.where(labels[block] == number, readers[block], 0)
        for bit in range(int(marked.max()).bit_length()):
            mask = (marked >> bit & 1).astype(bool)
            found.append(LesionMask.cut(number, bit + 1, mask, (z, y, x)))
    return [mask for mask in found if mask.n_voxels]


def read_label_values(path: Path, volume: Volume) -> NDArray[np.integer]:
    """Read the whole numbers of a NIfTI file; GridMismatchError if its grid is another."""
    try:
        values = image_files.read_mask(path, volume)
    except InputError as error:
        if error.__cause__ is not None:  # the file itself could not be read
            raise
        raise GridMismatchError(str(error)) from None
    with np.errstate(invalid="ignore"):  # NaN
        whole = values.astype(np.uint16)
    if not np.array_equal(whole, values):
        raise InputError(
            f"{path}: holds values that are no whole numbers from 0; expected a label file; "
            "export the mask as labels"
        )
    return whole
