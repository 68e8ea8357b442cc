from __future__ import annotations

import numpy as np
import pytest

from medlib.images.windows import WINDOWS, Window, apply_window


def test_window_maps_its_range_to_0_and_1():
    hu = np.array([-5000, -1350, -975, -600, 150, 5000], dtype=np.float32)
    grey = apply_window(hu, WINDOWS["lung"])
    assert grey.dtype == np.float32
    assert grey == pytest.approx([0, 0, 0.25, 0.5, 1, 1])


def test_presets():
    assert {name: (w.center_hu, w.width_hu) for name, w in WINDOWS.items()} == {
        "lung": (-600, 1500),
        "soft_tissue": (40, 400),
        "bone": (400, 1800),
        "brain": (40, 80),
    }


def test_integers_are_not_wrapped():
    assert apply_window(np.array([-2000], dtype=np.int16), Window(0, 10)) == pytest.approx([0])
