"""A small volume, and one phantom patient shared by all tests of this room."""

from __future__ import annotations

import numpy as np
import pytest

from medlib.images.volume import SeriesIdentity, Volume

SPACING_MM = (2.5, 0.75, 0.7)


@pytest.fixture
def volume() -> Volume:
    """Six slices, every voxel another value."""
    hu = np.arange(6 * 12 * 10, dtype=np.float32).reshape(6, 12, 10) * 4 - 1024
    affine = np.diag([SPACING_MM[2], SPACING_MM[1], SPACING_MM[0], 1.0])
    affine[:3, 3] = (-170.3, -160.1, -212.5)
    return Volume(hu, affine, SeriesIdentity("P-1", "1.2.3", "1.2.3.4", "1.2.3.5", "M", "X", "K"))
