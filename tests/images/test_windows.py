from __future__ import annotations

import dataclasses

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


def test_presets_are_data_that_nobody_changes():
    with pytest.raises(TypeError):
        WINDOWS["lung"] = Window(0, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        WINDOWS["lung"].width_hu = 1.0


def test_limits_of_a_window():
    assert (WINDOWS["lung"].low_hu, WINDOWS["lung"].high_hu) == (-1350, 150)
    grey = apply_window(
        np.array([WINDOWS["brain"].low_hu, WINDOWS["brain"].high_hu]), WINDOWS["brain"]
    )
    assert grey.tolist() == [0, 1]


@pytest.mark.parametrize(("center", "width"), [(0, 0), (0, -5), (np.nan, 5), (0, np.inf)])
def test_impossible_windows(center, width):
    with pytest.raises(ValueError, match="width above 0 HU"):
        Window(center, width)


def test_integers_are_not_wrapped():
    assert apply_window(np.array([-2000], dtype=np.int16), Window(0, 10)) == pytest.approx([0])
