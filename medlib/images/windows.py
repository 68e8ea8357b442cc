"""Display windows: which part of the Hounsfield scale the grey levels show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """A display window: the value shown as middle grey, and the range from black to white."""

    center_hu: float
    width_hu: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.center_hu) and 0 < self.width_hu < np.inf):
            raise ValueError(
                f"a window has a finite centre and a width above 0 HU, got {self.center_hu:g} and "
                f"{self.width_hu:g}"
            )

    @property
    def low_hu(self) -> float:
        """What is shown black, with all below it."""
        return self.center_hu - self.width_hu / 2

    @property
    def high_hu(self) -> float:
        """What is shown white, with all above it."""
        return self.center_hu + self.width_hu / 2


# Common presets. Readers and vendors vary by a hundred HU; the header of a series may name its own.
WINDOWS: Mapping[str, Window] = MappingProxyType(
    {
        "lung": Window(-600.0, 1500.0),
        "soft_tissue": Window(40.0, 400.0),
        "bone": Window(400.0, 1800.0),
        "brain": Window(40.0, 80.0),
    }
)


def apply_window(hu: NDArray[np.floating], window: Window) -> NDArray[np.float32]:
    """Map Hounsfield units of any shape to grey levels from 0 (black) to 1 (white).

    0 at ``center - width / 2`` and below, 1 at ``center + width / 2`` and above, linear between:
    the function LINEAR_EXACT of DICOM PS3.3 C.11.2.1.3.2.
    """
    center, width = np.float32(window.center_hu), np.float32(window.width_hu)
    grey = (np.asarray(hu, dtype=np.float32) - center) / width
    shown: NDArray[np.float32] = np.clip(grey + np.float32(0.5), 0, 1)
    return shown
