"""Whether values can be Hounsfield units: air near -1000, soft tissue near 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medlib.images.image_errors import NotHounsfieldError

_LUNG_BELOW_HU = -200.0  # what is lower holds air
_AIR_REACHES_HU = -520.0  # where there is lung, some of it is lower; half of -1024 is not
_DENSE_ABOVE_HU = 600.0  # cortical bone, teeth, metal
_NO_AIR = 0.01  # less than this share holds air: taken alone, a field of view inside the body
_LUNG = 0.05  # more than this share holds air: not only the rim of something
_MOST_DENSE = 0.05  # share of bone in a body without any air: beyond, it is tissue moved upwards
_CUT_OFF = 0.02  # share of one least value: beyond, what was lower was set to it
# Of what is no air 0.91 of a chest or more is soft tissue, 0.86 of a head; doubled 0.06.
_BODY_ABOVE_HU, _SOFT_UP_TO_HU, _LEAST_SOFT = -400.0, 300.0, 0.3
_LEAST_BODY = 0.25  # share of the voxels: around a nodule in the lung it is less, and half rim
# Of padding, -2000 or -3024, blurred where it was compressed with loss.
_PADDING_FROM_HU, _PADDING_UP_TO_HU = -4096.0, -1950.0
_MOST_STRAY = 0.05  # of all voxels, below air and no padding
_LEAST_RANGE_HU, _TISSUE_RANGE_HU = 20.0, 150.0  # noise alone; a body without fat
_DRAWN_WITH = 8  # whole numbers at most, besides the least: a picture of a few tissues, no scan
_SAMPLED = 2**16  # voxels, at least: time is short, and the whole of a small volume
_EXPECTED = "expected HU, air near -1000 and soft tissue near 0"


def check_hounsfield(hu: NDArray[np.float32]) -> None:
    """Refuse a volume whose values cannot be HU, whatever its header says.

    Padding, by now air, is left out with all voxels of the least value: a scale that was moved or
    squeezed shows in what is left. Raises NotHounsfieldError.
    """
    step = max(1, int(np.sqrt(hu.size / _SAMPLED)))
    sample = hu[:, ::step, ::step]
    measured = sample[sample > sample.min()]
    some = np.unique(measured[:: measured.size // 1000 + 1])
    drawn = not (some % 1).any() and some.size <= _DRAWN_WITH
    if drawn:
        measured = sample
    low, median, high = np.percentile(measured, (0.1, 50, 99.9)).tolist()
    if high - low < _LEAST_RANGE_HU:
        raise NotHounsfieldError(
            f"values lie between {low:.3g} and {high:.3g}; {_EXPECTED}: a scaled picture is no CT; "
            "give the CT in HU"
        )
    air, dense = np.mean(measured < _LUNG_BELOW_HU), np.mean(measured > _DENSE_ABOVE_HU)
    if air < _NO_AIR and dense > _MOST_DENSE:
        raise NotHounsfieldError(
            f"{100 * dense:.0f} % of the values are above {_DENSE_ABOVE_HU:g} and none is air "
            f"(median {median:.0f}); {_EXPECTED}: the intercept of the rescale is lost; give the "
            "CT in HU"
        )
    body = measured[measured > _BODY_ABOVE_HU]
    soft = np.mean((body > _LUNG_BELOW_HU) & (body < _SOFT_UP_TO_HU)) if body.size else 1.0
    if soft < _LEAST_SOFT and body.size > _LEAST_BODY * measured.size:
        raise NotHounsfieldError(
            f"values lie between {low:.0f} and {high:.0f}, and only {100 * soft:.0f} % of what is "
            f"no air are soft tissue; {_EXPECTED}: this is another scale; give the CT in HU"
        )
    least = sample.min() if sample.min() > _LUNG_BELOW_HU else measured.min()
    cut = np.mean(sample == least) > _CUT_OFF or (low >= 0 and high - low > _TISSUE_RANGE_HU)
    if (air < _NO_AIR and cut and not drawn) or (air > _LUNG and low > _AIR_REACHES_HU):
        raise NotHounsfieldError(
            f"values lie between {low:.3g} and {high:.3g}, and none is air; {_EXPECTED}: a grey "
            "picture, or a squeezed scale, is no CT; give the CT in HU"
        )


def stray_below_air(low: NDArray[np.float32]) -> int:
    """Count values of those below air that are no padding: not where padding is, nor one value."""
    stray = low[(low > _PADDING_UP_TO_HU) | (low < _PADDING_FROM_HU)]
    return int(np.count_nonzero(stray > stray.min())) if stray.size else 0


def check_stray(stray: int, n_voxels: int) -> None:
    """Refuse a scale that was stretched, or moved down: much of it lies below air."""
    if stray > _MOST_STRAY * n_voxels:
        raise NotHounsfieldError(
            f"{stray} values lie far below air, and not all at that of padding; {_EXPECTED}: "
            "rescaled twice, perhaps; give the CT in HU"
        )
