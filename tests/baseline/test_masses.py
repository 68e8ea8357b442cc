from __future__ import annotations

import numpy as np
import pytest

from medlib.baseline.masses import (
    EDGE_HU,
    ENLARGED,
    LEAST_SHOWN,
    enlarged,
    set_into,
    with_masses,
)
from medlib.baseline.slices import BACKGROUND, LESION, TrainingVolume, flat_indices
from medlib.baseline.transplant import Graft

NEAR_MM = (1.25, 0.7, 0.7)
FAR_MM = (5.0, 1.6, 1.6)
LUNG_HU, WALL_HU = -850, 40


def nodule(radius_mm: float = 6.0, hu: float = 30.0) -> tuple[np.ndarray, np.ndarray]:
    """A ball whose edge is 2 mm wide, in lung."""
    z, y, x = np.mgrid[:24, :44, :44]
    r_mm = np.hypot.reduce(
        [(z - 11.5) * NEAR_MM[0], (y - 21.5) * NEAR_MM[1], (x - 21.5) * NEAR_MM[2]]
    )
    inside = 1 / (1 + np.exp((r_mm - radius_mm) / 0.5))
    return (LUNG_HU + inside * (hu - LUNG_HU)).astype(np.float32), r_mm < radius_mm


def lungs(shape=(24, 120, 120)) -> TrainingVolume:
    """Two lungs in a wall."""
    hu = np.full(shape, WALL_HU, dtype=np.int16)
    hu[2:-2, 20:-20, 10:55] = hu[2:-2, 20:-20, 65:110] = LUNG_HU
    lung = hu == LUNG_HU
    return TrainingVolume(
        patient_id="A",
        hu=hu,
        target=np.full(shape, BACKGROUND, dtype=np.uint8),
        lesions=(),
        lung=flat_indices(lung),
        dense=flat_indices(~lung),
        aerated=flat_indices(lung),
    )


@pytest.fixture
def mass() -> Graft:
    made = enlarged(*nodule(), NEAR_MM, FAR_MM)
    assert made is not None
    return made


def test_a_mass_has_the_shape_of_its_nodule(mass: Graft):
    _, small = nodule()
    volume_mm3 = mass.mask.sum() * np.prod(FAR_MM)
    assert volume_mm3 == pytest.approx(small.sum() * np.prod(NEAR_MM) * ENLARGED**3, rel=0.05)
    depth, rows, columns = (
        np.ptp(np.argwhere(mass.mask), axis=0) * np.array(FAR_MM) / (ENLARGED * 12.0)
    )
    assert (depth, rows, columns) == pytest.approx((1, 1, 1), abs=0.15)


def test_the_edge_of_a_mass_is_as_wide_as_that_of_its_nodule(mass: Graft):
    hu, small = nodule()

    def edge_mm(row: np.ndarray, step_mm: float) -> float:
        """Distance over which the row rises by half the contrast at its edge."""
        slope = np.abs(np.diff(row[: len(row) // 2])).max() / step_mm
        return (30 - LUNG_HU) / 2 / slope

    near = edge_mm(hu[12, 22], NEAR_MM[2])
    far = edge_mm(mass.hu[len(mass.hu) // 2, mass.hu.shape[1] // 2], FAR_MM[2])
    assert far < max(1.5 * near, 1.5 * FAR_MM[2])
    assert np.median(mass.hu[mass.mask]) == pytest.approx(np.median(hu[small]), abs=2)
    assert (mass.hu[mass.mask] > EDGE_HU).mean() > 0.9


@pytest.mark.parametrize("hu", [-600.0, 400.0])
def test_ground_glass_and_calcium_make_no_mass(hu: float):
    assert enlarged(*nodule(hu=hu), NEAR_MM, FAR_MM) is None


def test_no_nodule_makes_no_mass():
    hu, small = nodule()
    assert enlarged(hu, np.zeros_like(small), NEAR_MM, FAR_MM) is None


def test_a_mass_shows_in_the_lung_and_nowhere_else(mass: Graft):
    before = lungs()
    rng = np.random.default_rng(0)
    for _ in range(20):
        after = set_into(before, mass, rng)
        assert after is not None
        (voxels,) = after.lesions
        marked = np.zeros(after.hu.shape, dtype=bool)
        marked[tuple(voxels.T)] = True
        assert (marked == (after.target == LESION)).all()
        lung = before.hu == LUNG_HU
        assert not (marked & ~lung).any()
        assert (after.hu[~lung] == WALL_HU).all()
        assert marked.sum() >= LEAST_SHOWN * mass.mask.sum()
        assert np.median(after.hu[marked]) > -100
        far_from_it = lung & ~_near(marked)
        assert (after.hu[far_from_it] == LUNG_HU).all()
    assert (before.hu == lungs().hu).all()
    assert not before.target.any()


def _near(marked: np.ndarray) -> np.ndarray:
    z, y, x = (np.flatnonzero(marked.any(axis=a)) for a in ((1, 2), (0, 2), (0, 1)))
    box = np.zeros_like(marked)
    box[tuple(slice(max(i[0] - 5, 0), i[-1] + 6) for i in (z, y, x))] = True
    return box


def test_where_a_mass_does_not_fit_the_volume_comes_as_it_is(mass: Graft):
    narrow = lungs((3, 60, 60))  # no slice of lung
    assert set_into(narrow, mass, np.random.default_rng(0)) is None
    (same,) = with_masses([narrow], [mass], 1, seed=0)
    assert same is narrow


def test_masses_and_volumes_come_in_turn_and_the_same_for_a_seed(mass: Graft):
    volumes = [lungs(), lungs((20, 120, 120))]
    made = with_masses(volumes, [mass], 6, seed=1)
    assert [len(v.hu) for v in made] == [24, 20] * 3
    sizes = {len(volume.lesions[0]) for volume in made}
    assert len(sizes) > 3  # varied
    again = with_masses(volumes, [mass], 6, seed=1)
    assert all((a.hu == b.hu).all() for a, b in zip(made, again, strict=True))
    other = with_masses(volumes, [mass], 6, seed=2)
    assert any((a.hu != b.hu).any() for a, b in zip(made, other, strict=True))
    assert with_masses(volumes, [], 6, seed=1) == volumes
    assert with_masses([], [mass], 6, seed=1) == []
