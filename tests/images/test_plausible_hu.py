"""Values that are no HU are refused, whatever the header says; odd but real CT is not."""

from __future__ import annotations

import numpy as np
import pytest

from medlib.images.image_errors import NotHounsfieldError
from medlib.images.plausible_hu import check_hounsfield


@pytest.fixture(scope="module")
def chest() -> np.ndarray:
    """A drawn chest: air, lungs, fat, muscle, bone, and noise."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    hu = np.full((12, 64, 64), -1000.0)
    hu[:, (x / 0.9) ** 2 + (y / 0.7) ** 2 < 1] = -90
    hu[:, (x / 0.8) ** 2 + (y / 0.6) ** 2 < 1] = 50
    for side in (-0.4, 0.4):
        hu[:, ((x - side) / 0.25) ** 2 + (y / 0.4) ** 2 < 1] = -850
    hu[:, x**2 + (y - 0.4) ** 2 < 0.01] = 700
    return (hu + np.random.default_rng(0).normal(0, 15, hu.shape)).astype(np.float32)


def padded(hu: np.ndarray, value: float) -> np.ndarray:
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    return np.where(x**2 + y**2 > 1, np.float32(value), hu)


def ground_glass(hu: np.ndarray) -> np.ndarray:
    """Part of a lung with a nodule as faint as the rim of others: nowhere is soft tissue."""
    lung = hu[:, 26:38, 15:24].copy()
    lung[4:8, 3:9, 2:7] += 550
    return lung


def grey(hu: np.ndarray) -> np.ndarray:
    return np.round(255 * np.clip((hu + 1000) / 1400, 0, 1))


@pytest.mark.parametrize(
    "moved",
    [
        lambda hu: np.clip((hu + 300) / 700, -1, 1),
        lambda hu: (hu - hu.mean()) / hu.std(),
        lambda hu: hu / 1000,
        lambda hu: hu + 1024,
        lambda hu: padded(hu + 1024, -1024),
        lambda hu: padded(hu + 1000, -1000),
        lambda hu: padded(hu + 1000, -2000).clip(-1024),
        lambda hu: padded(grey(hu), -1024),
        lambda hu: grey(hu) - 128,
        lambda hu: padded(np.abs(hu + 1000) * 0.3, -1024),
        lambda hu: np.clip(hu, -160, 240),
        lambda hu: padded(np.clip(hu, -160, 240), -1024),
        lambda hu: np.maximum(hu, -1024) / 2,
        lambda hu: np.full_like(hu, -1024),
        lambda hu: 2 * hu + 1024,
        lambda hu: hu - 300,
    ],
    ids=[
        *("-1..1", "z-score", "thousandths", "+1024", "+1024 padded", "+1000 padded"),
        *("+1000 padded low", "grey padded", "grey signed", "MRI padded", "window"),
        *("window padded", "halves", "one value", "doubled", "-300"),
    ],
)
def test_what_is_no_hu_is_refused(chest, moved):
    with pytest.raises(NotHounsfieldError, match="expected"):
        check_hounsfield(moved(chest).astype(np.float32))


@pytest.mark.parametrize(
    "part",
    [
        lambda hu: hu,
        lambda hu: padded(hu, -1024),
        lambda hu: np.maximum(hu, -1024),
        lambda hu: hu[:, 20:44, 14:26],  # inside a lung
        lambda hu: hu[:, 26:34, 28:36],  # a few voxels of muscle
        lambda hu: hu[:, 38:52, 24:40],  # around the spine
        lambda hu: hu[6:7],
        lambda hu: np.clip(hu, -1000, 400),
        ground_glass,
    ],
    ids=[
        *("whole", "padded", "clipped", "lung", "muscle", "spine", "one slice", "cut at 400"),
        "ground glass",
    ],
)
def test_what_is_ct_passes(chest, part):
    check_hounsfield(np.ascontiguousarray(part(chest), dtype=np.float32))
