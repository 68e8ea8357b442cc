"""Masks as boxes, for those who train a detector: COCO and YOLO.

The pixel convention, which tools differ in: a pixel is a square of side 1, and pixel (row 0,
column 0) covers 0 to 1 along both axes. A lesion in the columns a to b, both *inside*, has
``x = a`` and ``width = b - a + 1``: the box touches the outer faces of its pixels. COCO stores
``[x, y, width, height]`` in pixels, YOLO the centre and the size as shares of the image. Tools that
take the last pixel's index for the far side draw boxes one pixel too small.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from medlib.errors import DataError
from medlib.images.volume import Volume
from medlib.images.windows import Window, apply_window


@dataclass(frozen=True)
class Box:
    """The pixels from `x` to `x + width - 1` and from `y` to `y + height - 1`.

    Attributes
    ----------
    x, y, width, height : int
        Column and row of the first pixel, number of columns and rows.
    pixels : int
        Of the mask inside, not of the box.
    category : int
        Index into the names of the categories, from 0.
    """

    x: int
    y: int
    width: int
    height: int
    pixels: int
    category: int = 0


@dataclass(frozen=True)
class BoxedImage:
    """An image and its boxes; an image without a lesion has none and is kept.

    Attributes
    ----------
    file_name : str
    width, height : int
        Columns and rows.
    boxes : tuple of Box
    patient_id : str
        Kept beside the boxes, because a detector's images are split by patient too.
    """

    file_name: str
    width: int
    height: int
    boxes: tuple[Box, ...]
    patient_id: str = ""


def boxes_of(mask: NDArray[Any], category: int = 0) -> tuple[Box, ...]:
    """Return the boxes of one image.

    Parameters
    ----------
    mask : ndarray of bool or integer, shape (rows, columns)
        Of whole numbers: one box a label. Of bool: one a connected piece, pixels that touch at a
        corner taken together.
    category : int

    Returns
    -------
    tuple of Box
        In the order of the labels, or of the pieces' first pixels.
    """
    if mask.ndim != 2:
        raise ValueError(f"boxes are of an image, rows and columns; got shape {mask.shape}")
    labels = ndimage.label(mask, np.ones((3, 3)))[0] if mask.dtype == np.bool_ else mask
    found = []
    for label, place in enumerate(ndimage.find_objects(labels.astype(np.int64)), start=1):
        if place is None:
            continue
        rows, columns = place
        found.append(
            Box(
                x=columns.start,
                y=rows.start,
                width=columns.stop - columns.start,
                height=rows.stop - rows.start,
                pixels=int((labels[place] == label).sum()),
                category=category,
            )
        )
    return tuple(found)


def write_slices(
    volume: Volume, labels: NDArray[Any], folder: Path, name: str, window: Window
) -> list[BoxedImage]:
    """Write the slices of a CT as grey PNG files and return their boxes.

    Parameters
    ----------
    volume : Volume
    labels : ndarray of integer or bool, shape (z, y, x)
        Lesion k where it is k; of bool, pieces are told apart in each slice.
    folder : Path
        Made if it does not exist; files ``<name>_0000.png`` and on, in the order of z.
    name : str
    window : Window
        What is black and what is white; it cannot be undone.

    Returns
    -------
    list of BoxedImage
        All slices, those without a lesion too.
    """
    if labels.shape != volume.hu.shape:
        raise ValueError(f"labels are {labels.shape}, the volume {volume.hu.shape}: one grid")
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for k, (hu, here) in enumerate(zip(volume.hu, labels, strict=True)):
        file_name = f"{name}_{k:04d}.png"
        grey = np.round(255 * apply_window(hu, window)).astype(np.uint8)
        Image.fromarray(grey).save(folder / file_name)
        images.append(
            BoxedImage(
                file_name, hu.shape[1], hu.shape[0], boxes_of(here), volume.identity.patient_id
            )
        )
    return images


def write_coco(images: Sequence[BoxedImage], path: Path, categories: Sequence[str]) -> None:
    """Write boxes as a COCO detection file.

    Parameters
    ----------
    images : sequence of BoxedImage
    path : Path
        ``.json``. Written beside and renamed.
    categories : sequence of str
        Names; COCO counts them from 1.

    Raises
    ------
    DataError
        If two images have one name, or a box leaves its image or has no category.
    """
    _check(images, categories)
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, start=1):
        for box in image.boxes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": box.category + 1,
                    "bbox": [box.x, box.y, box.width, box.height],
                    "area": box.pixels,
                    "iscrowd": 0,
                }
            )
    content = {
        "images": [
            {
                "id": image_id,
                "file_name": image.file_name,
                "width": image.width,
                "height": image.height,
                "patient_id": image.patient_id,
            }
            for image_id, image in enumerate(images, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": k, "name": name} for k, name in enumerate(categories, start=1)],
    }
    _write(path, json.dumps(content, indent=1) + "\n")


def write_yolo(images: Sequence[BoxedImage], folder: Path, categories: Sequence[str]) -> None:
    """Write boxes as YOLO text files, one an image, and ``classes.txt``.

    Parameters
    ----------
    images : sequence of BoxedImage
    folder : Path
        Made if it does not exist. ``a/b.png`` gives ``a/b.txt``, empty where there is no box.
    categories : sequence of str
        Names; YOLO counts them from 0.

    Raises
    ------
    DataError
        As `write_coco`; also if two images differ in their ending only.
    """
    _check(images, categories)
    names = [Path(image.file_name).with_suffix(".txt") for image in images]
    if len(set(names)) < len(names) or Path("classes.txt") in names:
        raise DataError(
            f"{folder}: two images would share one YOLO file; expected names that differ before "
            "the ending; rename them"
        )
    for image, name in zip(images, names, strict=True):
        # Ten decimals: the pixel is found again by rounding, whatever the size of the image.
        lines = [
            f"{box.category} {(box.x + box.width / 2) / image.width:.10f} "
            f"{(box.y + box.height / 2) / image.height:.10f} "
            f"{box.width / image.width:.10f} {box.height / image.height:.10f}\n"
            for box in image.boxes
        ]
        _write(folder / name, "".join(lines))
    _write(folder / "classes.txt", "".join(f"{name}\n" for name in categories))


def _check(images: Sequence[BoxedImage], categories: Sequence[str]) -> None:
    names = [image.file_name for image in images]
    if len(set(names)) < len(names):
        raise DataError("two images have one name; expected every image once; rename one")
    for image in images:
        for box in image.boxes:
            if not (
                0 <= box.x < box.x + box.width <= image.width
                and 0 <= box.y < box.y + box.height <= image.height
            ):
                raise DataError(
                    f"{image.file_name}: {box} leaves the image of {image.width} x {image.height} "
                    "pixels; expected boxes inside; make them with boxes_of"
                )
            if not 0 <= box.category < len(categories):
                raise DataError(
                    f"{image.file_name}: category {box.category}, but {len(categories)} names; "
                    "expected one for each, from 0"
                )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
