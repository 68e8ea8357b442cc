"""Augmentation: what another patient, posture or scanner could have shown, and nothing else.

Left out on purpose:

- left-right flip: it puts the heart, the aortic arch and the three-lobed lung on the wrong side, as
  almost nobody has them;
- up-down flip (front to back): patients lie on their back, so blood and density gather behind; the
  spine would stand in front;
- strong shear, large rotation, cut-out: no scan looks so, and cut-out hides small lesions whole.
"""

from __future__ import annotations

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no look for a newer version on import

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray


class Augmentation:
    """Random change of a crop and its target, the same for the same seed.

    Images are floats in -1..1 over 1400 HU: a shift of 0.03 is about 20 HU. `kind` is one of the
    configuration's.
    """

    def __init__(self, kind: str = "all") -> None:
        edges = {"border_mode": cv2.BORDER_REFLECT_101, "mask_interpolation": cv2.INTER_NEAREST}
        shape = [
            # Posture and body size.
            A.Affine(rotate=(-12, 12), scale=(0.85, 1.15), translate_px=(-4, 4), p=0.7, **edges),
            # Breathing and the shape of soft tissue: about a pixel.
            A.ElasticTransform(alpha=30, sigma=6, approximate=True, p=0.2, **edges),
        ]
        intensity = [
            # Calibration of the scanner, contrast agent.
            A.RandomBrightnessContrast(
                brightness_limit=0.04, contrast_limit=0.08, brightness_by_max=False, p=0.5
            ),
            # Kernel and dose.
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 0.9), p=0.2),
            A.GaussNoise(std_range=(0.005, 0.04), per_channel=True, p=0.4),
        ]
        parts = {"all": shape + intensity, "shape": shape, "intensity": intensity, "none": []}
        self.transform = A.Compose(parts[kind])

    def __call__(
        self, image: NDArray[np.float32], target: NDArray[np.uint8], seed: int
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Change an image (y, x, n_slices) in -1..1 and its target (y, x)."""
        self.transform.set_random_seed(seed)
        # albumentations clips floats to 0..1, so the image travels on that scale.
        changed = self.transform(image=(image + 1) / 2, mask=target)
        return changed["image"] * 2 - 1, changed["mask"]
