from __future__ import annotations

import numpy as np
import pytest

from medlib.gallery.tiles import OKABE_ITO, overlay
from medlib.images.windows import WINDOWS


def rgb(name):
    return np.round(np.array([int(OKABE_ITO[name][i : i + 2], 16) for i in (1, 3, 5)])).astype(int)


def test_overlay_draws_a_solid_and_a_dashed_outline():
    mask = np.zeros((24, 24), bool)
    mask[6:18, 6:18] = True
    hu = np.full((24, 24), -600.0, np.float32)
    plain = overlay(hu, None, None, WINDOWS["lung"], factor=4)
    assert plain.shape == (96, 96, 3)
    assert np.ptp(plain) == 0
    solid = overlay(hu, mask, None, WINDOWS["lung"], factor=4)
    dashed = overlay(hu, None, mask, WINDOWS["lung"], factor=4)
    n_solid = (solid == rgb("sky")).all(-1).sum()
    n_dashed = (dashed == rgb("orange")).all(-1).sum()
    assert 0.4 * n_solid < n_dashed < 0.8 * n_solid, "gaps of the length of the dashes"
    assert (solid[8, 8] == plain[8, 8]).all(), "far outside the mask nothing is drawn"
    assert (solid[48, 48] == plain[48, 48]).all(), "inside, the CT stays visible"


def test_overlay_outline_lies_on_the_edge():
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    picture = overlay(np.zeros((9, 9), np.float32), mask, None, WINDOWS["lung"])
    drawn = (picture == rgb("sky")).all(-1)
    assert drawn.any()
    rows, columns = np.nonzero(drawn)
    assert abs(rows - 4).max() <= 1
    assert abs(columns - 4).max() <= 1


def test_overlay_needs_one_grid():
    with pytest.raises(ValueError, match="one grid"):
        overlay(np.zeros((4, 4), np.float32), np.zeros((5, 5), bool), None, WINDOWS["lung"])


def test_the_ct_is_enlarged_smoothly_and_to_the_whole_factor():
    window = WINDOWS["lung"]
    slice_hu = np.array([[window.low_hu, window.high_hu]], np.float32)
    assert overlay(slice_hu, None, None, window)[..., 0].tolist() == [[0, 255]]
    picture = overlay(slice_hu, None, None, window, factor=2)
    assert picture.shape == (2, 4, 3)
    assert picture[0, :, 0].tolist() == [64, 64, 191, 191]
