"""Masks as boxes, for those who train a detector: COCO and YOLO.

The pixel convention, which tools differ in: a pixel is a square of side 1, and pixel (row 0,
column 0) covers 0 to 1 along both axes. A lesion in the columns a to b, both *inside*, has
``x = a`` and ``width = b - a + 1``: the box touches the outer faces of its pixels. COCO stores
``[x, y, width, height]`` in pixels, YOLO the centre and the size as shares of the image. Tools that
take the last pixel's index for the far side draw boxes one pixel too small.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from medlib.annotation.mask_files import read_label_values
from medlib.errors import InputError
from medlib.files import write_file, write_json
from medlib.images.dicom import read_series
from medlib.images.volume import Volume
from medlib.images.windows import WINDOWS, apply_window

CATEGORY = "lesion"


class Box(NamedTuple):
    """The pixels from `x` to `x + width - 1` and from `y` to `y + height - 1`."""

    x: int
    y: int
    width: int
    height: int
    pixels: int  # of the mask inside, not of the box


class BoxedImage(NamedTuple):
    """An image and its boxes; an image without a lesion has none and is kept.

    The patient stands beside the boxes, because a detector's images are split by patient too.
    """

    file_name: str
    width: int
    height: int
    boxes: tuple[Box, ...]
    patient_id: str = ""


def convert_ct(source: Path, mask: Path, out: Path, form: str) -> list[BoxedImage]:
    """Write the slices of a CT in the lung window to ``out/images``, and the boxes of its lesions.

    `source` is one CT series: a folder in DICOM, or a NIfTI, NRRD or MetaImage file. The `mask` on
    its grid has k inside lesion k, or 0 and 1, where each connected piece of a slice is a lesion.
    In the `form` ``"coco"`` the boxes are ``boxes.json``, in ``"yolo"`` a text an image in
    ``labels``.

    Raises
    ------
    InputError
        If the images cannot be read, there is more than one series, or the mask is of another, or
        holds no whole numbers.
    """
    volumes = read_series(source)
    if len(volumes) > 1:
        raise InputError(f"{source}: holds {len(volumes)} CT series; expected one; give its folder")
    [volume] = volumes
    values = read_label_values(mask, volume)
    labels = values if values.max() > 1 else values > 0
    images = write_slices(volume, labels, out / "images", source.resolve().name.split(".")[0])
    if form == "coco":
        write_coco(images, out / "boxes.json")
    else:
        write_yolo(images, out / "labels")
    return images


def boxes_of(mask: NDArray[Any]) -> tuple[Box, ...]:
    """Return the boxes of one image, in the order of the labels or of the pieces' first pixels.

    A `mask` (row, column) of whole numbers gives one box a label, of bool one a connected piece;
    pixels that touch at a corner are of one piece.
    """
    labels = ndimage.label(mask, np.ones((3, 3)))[0] if mask.dtype == np.bool_ else mask
    found = []
    for label, place in enumerate(ndimage.find_objects(labels.astype(np.int64)), start=1):
        if place is None:
            continue
        (y, x), (height, width) = (s.start for s in place), (s.stop - s.start for s in place)
        pixels = int((labels[place] == label).sum())
        found.append(Box(x, y, width, height, pixels))
    return tuple(found)


def write_slices(volume: Volume, labels: NDArray[Any], folder: Path, name: str) -> list[BoxedImage]:
    """Write all slices of a CT, in the order of z, as ``<name>_0000.png`` and on.

    Their boxes are those of the `labels` (z, y, x), as `boxes_of` takes them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for k, (hu, here) in enumerate(zip(volume.hu, labels, strict=True)):
        file_name, (height, width) = f"{name}_{k:04d}.png", hu.shape
        grey = np.round(255 * apply_window(hu, WINDOWS["lung"])).astype(np.uint8)
        Image.fromarray(grey).save(folder / file_name)
        patient = volume.identity.patient_id
        images.append(BoxedImage(file_name, width, height, boxes_of(here), patient))
    return images


def write_coco(images: Sequence[BoxedImage], path: Path) -> None:
    """Write boxes as a COCO detection file; COCO counts from 1."""
    described = [{"id": number, **image._asdict()} for number, image in enumerate(images, start=1)]
    boxes = [(image["id"], box) for image in described for box in image.pop("boxes")]
    annotations = [
        {"id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0}
        | {"bbox": box[:4], "area": box.pixels}
        for number, (image_id, box) in enumerate(boxes, start=1)
    ]
    categories = [{"id": 1, "name": CATEGORY}]
    write_json(path, {"images": described, "annotations": annotations, "categories": categories})


def write_yolo(images: Sequence[BoxedImage], folder: Path) -> None:
    """Write boxes as YOLO text files, one an image, and ``classes.txt``; YOLO counts from 0."""
    for image in images:
        # Ten decimals: the pixel is found again by rounding, whatever the size of the image.
        lines = [
            f"0 {(box.x + box.width / 2) / image.width:.10f} "
            f"{(box.y + box.height / 2) / image.height:.10f} "
            f"{box.width / image.width:.10f} {box.height / image.height:.10f}\n"
            for box in image.boxes
        ]
        write_file(folder / Path(image.file_name).with_suffix(".txt"), "".join(lines))
    write_file(folder / "classes.txt", f"{CATEGORY}\n")
