"""A folder of pictures with a mask for each, as ISIC gives them out.

``ISIC_0000000.jpg`` and ``ISIC_0000000_segmentation.png``, in one folder or in two.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from medlib import progress
from medlib.errors import DataError
from medlib.images.datasets.table import finished, named

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")  # no JPEG: it changes the values of a mask
ISIC_ENDING = "_segmentation"


def read_image_folder(
    images: Path,
    masks: Path | None,
    *,
    patients: Mapping[str, str] | None,
    finding: str = "lesion",
    mask_ending: str = ISIC_ENDING,
    site: str | None = None,
    split: str | None = None,
) -> pd.DataFrame:
    """Read pictures and their masks.

    Parameters
    ----------
    images : Path
        Folder of the pictures.
    masks : Path or None
        Folder of the masks, the same one or another. None: there are none, as for a test part.
    patients : mapping of str to str, or None
        The patient of each image by `image_id`: ISIC's metadata tables have one. None says that
        no patient has two images: where that is wrong, a split leaks.
    finding : str
        What the masks outline.
    mask_ending : str
        What follows the picture's name in the mask's.
    site, split : str, optional
        Of all images of the folder.

    Returns
    -------
    DataFrame
        As `medlib.images.datasets` says, a row an image; `image_id` is the name without its
        ending, `label` 1 where the mask has a pixel inside, NaN where there are no masks.

    Raises
    ------
    DataError
        If a picture has no mask or a mask no picture, both differ in size, a mask has more than
        two values, a file cannot be read, or an image has no patient.
    """
    images = Path(images)
    pictures = _by_name(images, IMAGE_SUFFIXES, lambda stem: not stem.endswith(mask_ending))
    outlines: dict[str, Path] = {}
    if masks is not None:
        found = _by_name(Path(masks), MASK_SUFFIXES, lambda stem: stem.endswith(mask_ending))
        outlines = {name.removesuffix(mask_ending): path for name, path in found.items()}
        without, alone = set(pictures) - set(outlines), set(outlines) - set(pictures)
        if without or alone:
            lost = [f"{named(without)} without a mask"] * bool(without)
            lost += [f"masks of {named(alone)} without an image"] * bool(alone)
            raise DataError(
                f"{images}: {'; '.join(lost)}; expected <name>{mask_ending}.png for every image; "
                "add what is missing or move the rest away"
            )
    if patients is not None and (unknown := set(pictures) - set(patients)):
        raise DataError(
            f"{images}: no patient for {named(unknown)}; expected one for every image; complete "
            "the table of patients"
        )
    rows: list[dict[str, Any]] = []
    for name in progress.track(sorted(pictures), f"images of {images.name}"):
        mask = outlines.get(name)
        label = np.nan if mask is None else float(_checked(pictures[name], mask).any())
        rows.append(
            {
                "patient_id": name if patients is None else patients[name],
                "image_id": name,
                "image_path": str(pictures[name]),
                "mask_path": None if mask is None else str(mask),
                "finding": finding,
                "label": label,
                "label_weight": 0.0 if mask is None else 1.0,
                "site": site,
                "split": split,
            }
        )
    return finished(rows, images)


def read_picture_mask(path: Path) -> NDArray[np.bool_]:
    """Read a mask: False outside, True inside.

    Parameters
    ----------
    path : Path
        Of one channel, 0 and one other value; colours that are grey are taken as one channel.

    Returns
    -------
    ndarray of bool, shape (rows, columns)

    Raises
    ------
    DataError
        If it cannot be read or holds more than two values.
    """
    try:
        with Image.open(path) as image:
            values = np.asarray(image.convert("L") if image.mode not in ("1", "I;16") else image)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable image; expected a mask; fetch it again") from error
    found = np.unique(values)
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):
        raise DataError(
            f"{path}: has {len(found)} values from {found[0]} to {found[-1]}; expected 0 outside "
            "and one other inside; a mask is never stored as JPEG or rescaled"
        )
    return np.asarray(values > 0)


def _by_name(folder: Path, suffixes: tuple[str, ...], wanted: Any) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected images; check the path")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in suffixes:
            continue
        if not wanted(path.stem):
            continue
        if path.stem in found:
            raise DataError(
                f"{folder}: {found[path.stem].name} and {path.name} have one name; expected every "
                "image once; remove one"
            )
        found[path.stem] = path
    return found


def _checked(picture: Path, mask: Path) -> NDArray[np.bool_]:
    """Return the mask after comparing its size with the picture's."""
    try:
        with Image.open(picture) as image:
            columns, rows = image.size  # from the header: the pixels are not decoded
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{picture}: not a readable image; fetch it again") from error
    inside = read_picture_mask(mask)
    if inside.shape != (rows, columns):
        raise DataError(
            f"{mask.name} has {inside.shape[0]} x {inside.shape[1]} pixels, {picture.name} {rows} "
            f"x {columns} (rows x columns); expected one size; fetch both again"
        )
    return inside
