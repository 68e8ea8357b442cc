"""Whether the air in a body is lung: where none is, nothing is looked at, and that is said.

The limits were chosen on the phantom and on the four whole scans that train or tune.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.images.lungs import CoarseScan, field_around

# Away from its border a lung of the four has at most 3 % of gas (emphysema: up to two thirds), a
# stomach 98 %; its median is -910 to -770 HU, and half of its voxels lie within 100 HU.
_GAS_BELOW_HU = -950.0
_MOST_GAS = 0.75
_LUNG_BELOW_HU = -600.0  # median; what is denser all over is not told from stool
_MIXED_HU = 175.0  # between the quartiles: pneumonia, or stool; beside stool there is gas:
_GAS_IN_MIXED = 0.025
_MOST_STOOL_L = 2.0  # no bowel holds more in one piece: two lungs with a pneumothorax do
_LEAST_AROUND = 0.1  # share of the body before and behind it; lung .37 or more, foam of a table .07
_LEAST_AREA_MM2 = 2000.0  # of the lungs in their largest slice: an apex alone is not judged
_GAS_APART = 0.02  # of the lungs' volume, in slices without lung; the four have 0.008 (a stomach)
_WHOLE_CHEST_L = 1.5  # the four have 2.7 or more
_ONE_SIDED = 0.2  # share of the lesser side; the four have 0.4 or more
# What a header may state; of CHESTABDOMEN the chest counts. No other text of it reaches a report.
_WITH_LUNGS = re.compile("CHEST|THORA|LUNG|HEART|BREAST|BODY|TRUNK|TSPINE")
_WITHOUT = re.compile(
    "HEAD|SKULL|BRAIN|FACE|SINUS|NECK|SPINE|SHOULDER|ARM|ELBOW|HAND|ABDOMEN|LIVER|KIDNEY|COLON|"
    "PELVIS|HIP|LEG|KNEE|ANKLE|FOOT|EXTREMITY"
)


class Lungs(NamedTuple):
    """The lungs of a scan as far as they may be searched, and what has to be said of them."""

    field: NDArray[np.bool_]  # on the grid of the scan
    not_looked_at: str = ""  # why the field is empty
    warnings: tuple[str, ...] = ()


def plausible_lungs(
    hu: NDArray[np.float32], spacing_mm: tuple[float, float, float], body_part: str = ""
) -> Lungs:
    """Find the lungs of a chest: its `lung_field`.

    Of an abdomen in the same scan, slices that hold gas and no lung are left out. Lungs that the
    side of the image cuts off are taken where there is no whole one. `body_part` is what the header
    states; that is often wrong, and decides nothing.
    """
    coarse = CoarseScan.of(hu, spacing_mm)
    inner = coarse.air()
    lung = _lung_parts(inner, coarse)
    is_cut_off = not lung.any()
    if is_cut_off:
        lung = _lung_parts(coarse.air(at_side=True), coarse)
    chest = _WITH_LUNGS.search(body_part.upper())
    word = chest or _WITHOUT.search(body_part.upper())
    stated = f"the header states BodyPartExamined {word[0]}" if word else ""
    if not lung.any():
        litres = coarse.litres(inner)
        gas = f" (the air in the body, {litres:.2f} L, does not look like it)" if litres else ""
        reason = f"no lung was found{gas}" + (f"; {stated}" if word else "")
        return Lungs(np.zeros(hu.shape, dtype=bool), reason)
    beside = inner & lung.any(axis=(1, 2), keepdims=True)
    is_abdomen_too = coarse.litres(inner & ~beside) > _GAS_APART * coarse.litres(lung)
    air = lung if is_cut_off else beside if is_abdomen_too else inner
    warnings = list(_warnings(air, coarse, is_cut_off=is_cut_off))
    if word and not chest:
        warnings.append(f"{stated}, but lung was found and searched: is this the right scan?")
    return Lungs(field_around(air, coarse), warnings=tuple(warnings))


def _lung_parts(air: NDArray[np.bool_], coarse: CoarseScan) -> NDArray[np.bool_]:
    """Keep the parts of the air that are lung; none where they are too small to tell."""
    labels = cc3d.connected_components(air, connectivity=6)
    labels_inside = labels * ndimage.binary_erosion(air, border_value=1)  # gas has a dense border
    before = np.cumsum(coarse.tissue(axis=1))
    is_lung = np.zeros(labels.max() + 1, dtype=bool)
    for number, box in enumerate(ndimage.find_objects(labels_inside), start=1):
        if box is not None:
            inside = labels_inside[box] == number
            middle = box[1].start + int(np.nonzero(inside)[1].mean())
            around = before[middle] / before[-1]
            is_lung[number] = _LEAST_AROUND < around < 1 - _LEAST_AROUND and _is_lung(
                coarse.hu[box][inside], coarse.litres(inside)
            )
    lung = is_lung[labels]
    area_mm2 = lung.sum(axis=(1, 2)).max() * coarse.spacing_mm[1] * coarse.spacing_mm[2]
    return lung & bool(area_mm2 >= _LEAST_AREA_MM2)


def _is_lung(hu: NDArray[np.float32], litres: float) -> bool:
    """Tell lung by what is inside a part of the air."""
    low, median, high = np.percentile(hu, (25, 50, 75))
    gas = np.mean(hu < _GAS_BELOW_HU)
    is_mixed = high - low > _MIXED_HU and gas > _GAS_IN_MIXED and litres < _MOST_STOOL_L
    return bool(gas < _MOST_GAS and median < _LUNG_BELOW_HU and not is_mixed)


def _warnings(air: NDArray[np.bool_], coarse: CoarseScan, *, is_cut_off: bool) -> Iterator[str]:
    """Say what of two whole lungs is missing."""
    litres = coarse.litres(air)
    if is_cut_off:
        yield "the lungs are cut off by the side of the image: what lies outside was not looked at"
    elif litres < _WHOLE_CHEST_L:
        yield f"only {litres:.2f} L of lung were looked at: a whole chest has more"
    right = coarse.litres(air[:, :, : coarse.middle()]) / litres
    if min(right, 1 - right) < _ONE_SIDED:
        found, other = ("right", "left") if right > 0.5 else ("left", "right")
        yield f"lung was found on the {found} side, and next to none on the {other}"
