"""CT pictures: enlarged crops with the outlines of reference mask and prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours
from skimage.transform import resize

from medlib.images.windows import Window, apply_window

# Okabe and Ito (2008), "Color universal design": told apart with any common colour blindness.
OKABE_ITO = {
    "blue": "#0072b2",
    "orange": "#e69f00",
    "green": "#009e73",
    "vermillion": "#d55e00",
    "sky": "#56b4e9",
    "purple": "#cc79a7",
    "yellow": "#f0e442",
    "grey": "#8c8c8c",
}


@dataclass(frozen=True)
class Tile:
    """One picture of a grid: grey or RGB pixels, what they show in words, a short text below."""

    image: NDArray[np.uint8]
    alt: str
    label: str = ""


@dataclass(frozen=True)
class OutlineStyle:
    """How an outline is drawn: colour and dash both differ, so it reads without colour."""

    colour: str
    dash_px: int  # length of a dash and of the gap after it; 0 is a solid line
    words: str


REFERENCE_STYLE = OutlineStyle(OKABE_ITO["sky"], 0, "solid blue")
PREDICTION_STYLE = OutlineStyle(OKABE_ITO["orange"], 6, "dashed orange")


def overlay(
    slice_hu: NDArray[np.float32],
    reference_mask: NDArray[np.bool_] | None,
    predicted_mask: NDArray[np.bool_] | None,
    window: Window,
    *,
    factor: int = 1,
) -> NDArray[np.uint8]:
    """Draw a CT slice (y, x) in RGB, enlarged by a whole factor, with the outlines of two masks.

    The reference standard is a solid, the prediction a dashed line.
    """
    shape = tuple(factor * length for length in slice_hu.shape)
    grey = apply_window(slice_hu, window)
    grey = resize(grey, shape, order=1)  # type: ignore[no-untyped-call]
    picture = np.repeat(np.round(grey * 255).astype(np.uint8)[..., None], 3, axis=-1)
    for mask, style in ((reference_mask, REFERENCE_STYLE), (predicted_mask, PREDICTION_STYLE)):
        if mask is None:
            continue
        if mask.shape != slice_hu.shape:
            raise ValueError(
                f"mask is {mask.shape}, the slice is {slice_hu.shape}: one grid, please"
            )
        enlarged = mask.astype(bool).repeat(factor, axis=0).repeat(factor, axis=1)
        line = _outline(enlarged, style.dash_px, thick=factor > 1)
        picture[line] = np.round(np.array(to_rgb(style.colour)) * 255).astype(np.uint8)
    return picture


def _outline(mask: NDArray[np.bool_], dash_px: int, *, thick: bool) -> NDArray[np.bool_]:
    """Mark the pixels of the mask's outline, dashed by the length along it."""
    line = np.zeros(mask.shape, dtype=bool)
    padded = np.pad(mask, 1).astype(np.float32)
    for contour in find_contours(padded, 0.5):  # type: ignore[no-untyped-call]
        steps = np.linalg.norm(np.diff(contour, axis=0), axis=1)
        travelled = np.concatenate([[0.0], np.cumsum(steps)])
        drawn = contour if dash_px == 0 else contour[(travelled // dash_px) % 2 == 0]
        rows, columns = (np.round(drawn).astype(int) - 1).T
        rows = rows.clip(0, mask.shape[0] - 1)
        line[rows, columns.clip(0, mask.shape[1] - 1)] = True
    return ndimage.binary_dilation(line) if thick else line
