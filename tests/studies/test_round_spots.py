from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from medlib.phantom import PhantomLesion, acquire, insert_lesions
from studies.round_spots import COLUMNS, round_spots


@pytest.fixture(scope="module")
def lesion_and_spots(anatomy):
    """An 8 mm ball away from vessels, and all spots of that scan."""
    occupancy = np.linalg.norm(
        (np.indices((5, 9, 9)) - np.array([2, 4, 4])[:, None, None, None])
        * np.array([2.5, 1.05, 1.05])[:, None, None, None],
        axis=0,
    )
    occupancy = (occupancy < 4).astype(np.float32)
    near_vessel = ndimage.maximum_filter(anatomy.vessel, size=(7, 13, 13))
    free = anatomy.pleural_depth_mm() > 15
    free &= ~near_vessel
    free[:6] = free[-6:] = False
    center = np.argwhere(free)[0]
    lesion = PhantomLesion(occupancy, tuple((center - [2, 4, 4]).tolist()), 5, 6, 5)
    return center, round_spots(acquire(insert_lesions(anatomy, [lesion], 0), 0))


def test_a_nodule_ends_after_its_diameter_a_vessel_runs_on(lesion_and_spots):
    center, spots = lesion_and_spots
    apart = np.hypot(spots["row"] - center[1], spots["column"] - center[2])
    nodule = spots[(spots["slice"] == center[0]) & (apart < 2)]
    assert len(nodule) == 1
    assert 5 < nodule["diameter_mm"].item() < 10
    assert 5 <= nodule["height_mm"].item() <= 12.5
    others = spots.drop(nodule.index)
    assert len(others) > 40
    assert others["height_mm"].median() > 25


def test_spots_are_round_and_of_the_size_asked_for(lesion_and_spots):
    _, spots = lesion_and_spots
    assert list(spots.columns) == list(COLUMNS)
    assert spots["diameter_mm"].between(3, 12).all()
    assert spots["roundness"].between(0.6, 1).all()
    assert (spots["mean_hu"] > -500).all()


def test_none_in_an_empty_volume(volume):
    spots = round_spots(dataclasses.replace(volume, hu=np.full((3, 40, 40), -900, np.float32)))
    assert spots.empty
    assert list(spots.columns) == list(COLUMNS)
