from __future__ import annotations

from dataclasses import replace

import cc3d
import numpy as np
import pytest
from scipy import ndimage

from medlib.baseline import enlarged_nodules as masses_module
from medlib.baseline.enlarged_nodules import (
    EDGE_HU,
    ENLARGED,
    LEAST_SHOWN,
    NOISE_HU,
    RIM_VOXELS,
    VARIED,
    enlarged,
    set_into,
    with_masses,
)
from medlib.baseline.grafts import Graft, vary
from medlib.baseline.training_volume import (
    BACKGROUND,
    DENSE_HU,
    LESION,
    TrainingVolume,
    flat_indices,
)

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


def lungs(shape=(24, 120, 120), dense_rows: slice | None = None) -> TrainingVolume:
    """Two lungs in a wall, perhaps with something dense in them."""
    hu = np.full(shape, WALL_HU, dtype=np.int16)
    hu[2:-2, 20:-20, 10:55] = hu[2:-2, 20:-20, 65:110] = LUNG_HU
    lung = hu == LUNG_HU
    if dense_rows is not None:
        hu[:, dense_rows] = WALL_HU
    return TrainingVolume(
        patient_id="A",
        hu=hu,
        target=np.full(shape, BACKGROUND, dtype=np.uint8),
        lesions=(np.array([[2, 20, 10]]),),
        lung=flat_indices(lung),
        dense=flat_indices(hu > DENSE_HU),
        aerated=flat_indices(hu == LUNG_HU),
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


def lesion_of(volume: TrainingVolume) -> np.ndarray:
    (voxels,) = volume.lesions
    marked = np.zeros(volume.hu.shape, dtype=bool)
    marked[tuple(voxels.T)] = True
    return marked


def test_a_mass_shows_in_the_lung_and_nowhere_else(mass: Graft):
    before, rng = lungs(), np.random.default_rng(0)
    lung = before.hu == LUNG_HU
    for _ in range(20):
        after = set_into(before, mass, rng)
        assert after is not None
        marked = lesion_of(after)
        assert (marked == (after.target == LESION)).all()
        assert cc3d.connected_components(marked, connectivity=26).max() == 1
        assert not (marked & ~lung).any()
        assert (after.hu[~lung] == WALL_HU).all()
        assert marked.sum() >= LEAST_SHOWN * mass.mask.sum()
        assert np.median(after.hu[marked]) > -100
        elsewhere = lung & ~ndimage.binary_dilation(marked, iterations=2 * RIM_VOXELS)
        assert (after.hu[elsewhere] == LUNG_HU).all()
    assert (before.hu == lungs().hu).all()
    assert not before.target.any()


def test_a_mass_has_the_noise_of_a_scan_and_no_plateau(mass: Graft):
    rng = np.random.default_rng(0)
    deviations = []
    for _ in range(20):
        after = set_into(lungs(), mass, rng)
        core = ndimage.binary_erosion(lesion_of(after), iterations=2)
        inside = after.hu[core]
        assert np.bincount(inside - inside.min()).max() < 0.3 * inside.size
        deviations.append(inside.std())
    steep_hu = mass.hu[ndimage.binary_erosion(mass.mask, iterations=2)].std()
    assert min(deviations) > steep_hu - 1
    assert max(deviations) == pytest.approx(np.hypot(steep_hu, NOISE_HU[1]), rel=0.2)


def test_what_is_dense_already_is_no_place_for_a_mass(mass: Graft):
    rng = np.random.default_rng(0)
    consolidated = lungs(dense_rows=slice(20, 70))
    for _ in range(20):
        if after := set_into(consolidated, mass, rng):
            shown = lesion_of(after) & (consolidated.hu == LUNG_HU)
            assert shown.sum() >= LEAST_SHOWN * mass.mask.sum()


def test_a_mass_that_does_not_fit_is_left_out(mass: Graft):
    narrow = lungs(dense_rows=slice(24, 120))  # four rows of lung
    assert len(narrow.aerated)
    assert set_into(narrow, mass, np.random.default_rng(0)) is None
    assert with_masses([narrow], [mass], 2, np.random.default_rng(0)) == [narrow]
    without_lung = lungs((3, 60, 60))
    assert set_into(without_lung, mass, np.random.default_rng(0)) is None


def test_volumes_and_masses_come_in_turn_and_the_same_for_a_seed(monkeypatch, mass: Graft):
    volumes = [lungs(), lungs((20, 120, 120))]
    masses = [replace(mass, hu=mass.hu + shift) for shift in (0, 1000, 2000)]
    asked = []

    def unchanged(graft: Graft, rng: np.random.Generator, scale: tuple[float, float]) -> Graft:
        asked.append((float(graft.hu.max() - mass.hu.max()), scale))
        return vary(graft, rng, scale)

    monkeypatch.setattr(masses_module, "vary", unchanged)
    made = with_masses(volumes, masses, 6, np.random.default_rng(1))
    assert made[:2] == volumes
    assert [len(volume.hu) for volume in made[2:]] == [24, 20] * 3
    shifts = [shift for shift, _ in asked]
    assert sorted(shifts[:3]) == sorted(shifts[3:]) == [0, 1000, 2000]
    assert {scale for _, scale in asked} == {VARIED}
    assert len({len(volume.lesions[0]) for volume in made[2:]}) > 3
    again = with_masses(volumes, masses, 6, np.random.default_rng(1))
    assert all((a.hu == b.hu).all() for a, b in zip(made, again, strict=True))
    few = with_masses(volumes, masses, 2, np.random.default_rng(1))
    assert len(few) == 4
