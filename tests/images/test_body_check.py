"""What is no chest is not searched, and every chest is."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import ndimage

from medlib.cohorts.whole_scans import open_table, read_case
from medlib.images.body_check import plausible_lungs
from medlib.images.lungs import lung_field

SPACING_MM = (5.0, 2.0, 2.0)
SHAPE = (40, 130, 180)
Z, Y, X = (
    np.reshape(
        (np.arange(n) + 0.5) * step - n * step / 2, [-1 if k == axis else 1 for k in range(3)]
    )
    for axis, (n, step) in enumerate(zip(SHAPE, SPACING_MM, strict=True))
)
BODY = np.broadcast_to((Y / 110) ** 2 + (X / 165) ** 2 < 1, SHAPE)
SHELL, FOAM = (
    np.broadcast_to((np.abs(Y - 118) < 6 + mm) & (np.abs(X) < 160 + mm), SHAPE) for mm in (4, 0)
)
BOTH = ((Y / 75) ** 2 + ((np.abs(X) - 80) / 55) ** 2 + (Z / 90) ** 2) < 1


def drawn(regions: dict[float, np.ndarray], noise_hu: float = 8.0) -> np.ndarray:
    """Draw a body of 40 HU with these regions in it."""
    hu = np.where(BODY, 40.0, -1000.0)
    for value, inside in regions.items():
        hu[inside] = value
    noise = np.random.default_rng(0).normal(0, noise_hu, SHAPE)
    return (hu + noise).astype(np.float32)


def bubbles(number: int, least_mm: float, most_mm: float) -> np.ndarray:
    rng = np.random.default_rng(number)
    inside = np.zeros(SHAPE, dtype=bool)
    for _ in range(number):
        z, y, x = rng.uniform(-95, 95), rng.uniform(-75, 75), rng.uniform(-120, 120)
        inside |= (Z - z) ** 2 + (Y - y) ** 2 + (X - x) ** 2 < rng.uniform(least_mm, most_mm) ** 2
    return inside & BODY


def stool(share_of_gas: float, grain_mm: float) -> np.ndarray:
    """Draw two loops of bowel with gas and stool in grains."""
    noise = np.random.default_rng(1).normal(size=SHAPE)
    if grain_mm:
        noise = ndimage.gaussian_filter(noise, [grain_mm / step for step in SPACING_MM])
    gas = BOTH & (noise < np.quantile(noise, share_of_gas))
    return drawn({-990.0: gas})


def mixed(mean: float, grain_mm: float) -> np.ndarray:
    """Draw the same where gas and stool are mixed more finely than the voxels."""
    noise = ndimage.gaussian_filter(
        np.random.default_rng(2).normal(size=SHAPE), [grain_mm / step for step in SPACING_MM]
    )
    hu = drawn({})
    share = np.clip(mean + 0.25 * noise / noise.std(), 0, 1)
    return np.where(BOTH, 40 - 1030 * share, hu).astype(np.float32)


def neck() -> np.ndarray:
    hu = np.full(SHAPE, -1000.0)
    hu[np.broadcast_to(np.hypot(Y, X) < 60, SHAPE)] = 50
    hu[np.broadcast_to(np.hypot(Y + 15, X) < 10, SHAPE)] = -990
    return hu.astype(np.float32)


NO_CHEST = {
    "abdomen without gas": lambda: drawn({}),
    "few large bubbles": lambda: drawn({-990.0: bubbles(5, 30, 60)}),
    "many bubbles": lambda: drawn({-990.0: bubbles(60, 10, 25)}),
    "two symmetric bubbles, as large as lungs": lambda: drawn({-990.0: BOTH}),
    "gas that is less pure": lambda: drawn({-965.0: BOTH}),
    "foam of a table": lambda: drawn({40.0: SHELL, -905.0: FOAM, -990.0: bubbles(5, 30, 60)}),
    "neck": neck,
    "water": lambda: np.where(np.hypot(Y, X) < 100, 0.0, np.full(SHAPE, -1000.0)).astype(
        np.float32
    ),
    "lost rescale": lambda: drawn({-850.0: BOTH}) + 1024,
} | {
    f"stool: {name} {values}": lambda draw=draw, values=values: draw(*values)
    for name, draw, many in (
        ("grains", stool, [(0.5, 0), (0.7, 0), (0.9, 0), (0.5, 6), (0.8, 12)]),
        ("mixed", mixed, [(0.5, 6), (0.7, 6), (0.7, 12), (0.9, 12)]),
    )
    for values in many
}


@pytest.mark.parametrize("name", NO_CHEST)
def test_what_is_no_chest_is_not_looked_at(name):
    found = plausible_lungs(NO_CHEST[name](), SPACING_MM, "CHEST")
    assert not found.field.any()
    assert found.not_looked_at.startswith("no lung was found")
    assert found.not_looked_at.endswith("the header states BodyPartExamined CHEST")
    assert found.warnings == ()


def test_the_reason_names_the_air_that_is_no_lung():
    found = plausible_lungs(drawn({-990.0: BOTH}), SPACING_MM)
    litres = BOTH.sum() * 20e-6
    [stated] = re.findall(r"[\d.]+ L", found.not_looked_at)
    assert float(stated.split()[0]) == pytest.approx(litres, rel=0.05)
    assert "header" not in found.not_looked_at


def lungs(hu: float = -850.0, noise_hu: float = 25.0) -> np.ndarray:
    return drawn({hu: BOTH}, noise_hu)


CHESTS = {
    "as usual": lungs(),
    "without noise": lungs(noise_hu=0),
    "noisy": lungs(noise_hu=60),
    "emphysema": lungs(-935),
    "in expiration": lungs(-680),
    "holes of emphysema": np.where(bubbles(400, 6, 16) & BOTH, -985, lungs()).astype(np.float32),
    "half of it ground glass": np.where(BOTH & (Z > 0), lungs() + 220, lungs()).astype(np.float32),
}


@pytest.mark.parametrize("name", CHESTS)
def test_a_chest_is_searched_where_the_lung_field_is(name):
    hu = CHESTS[name]
    found = plausible_lungs(hu, SPACING_MM, "CHEST")
    assert found.not_looked_at == ""
    assert found.warnings == ()
    assert found.field[BOTH].mean() > 0.97
    assert np.array_equal(found.field, lung_field(hu, SPACING_MM))


def test_a_pneumothorax_is_searched():
    """Gas beside collapsed lung on one side, and both sides touch in front of the heart."""
    air = BOTH | ((np.abs(X) < 30) & (np.abs(Y + 30) < 15) & (np.abs(Z) < 60))
    gas = air & (X > 0) & (Y < -20)
    hu = drawn({-850.0: air, -620.0: air & (X > 0), -990.0: gas}, noise_hu=25)
    found = plausible_lungs(hu, (8.0, 2.0, 2.0))
    assert found.field[air].mean() > 0.97
    assert plausible_lungs(hu, (2.0, 2.0, 2.0)).not_looked_at  # as little as bowel may hold


@pytest.mark.parametrize("slices", [1, 2, 3])
@pytest.mark.parametrize("step_mm", [0.6, 1.0, 8.0])
def test_a_few_slices_of_a_chest_are_searched(slices, step_mm):
    hu = lungs()[20 : 20 + slices]
    found = plausible_lungs(hu, (step_mm, 2.0, 2.0))
    assert found.field[BOTH[20 : 20 + slices]].mean() > 0.95
    [warning] = found.warnings
    assert "L of lung were looked at: a whole chest has more" in warning


@pytest.mark.parametrize(("side", "lost"), [("left", X < 0), ("right", X > 0)])
def test_one_lung_is_searched_with_a_warning(side, lost):
    hu = np.where(BOTH & lost, 30, lungs()).astype(np.float32)
    found = plausible_lungs(hu, SPACING_MM)
    assert found.field[BOTH & ~lost].mean() > 0.97
    other = {"left": "right", "right": "left"}[side]
    assert f"lung was found on the {side} side, and next to none on the {other}" in found.warnings


def test_lungs_that_the_side_cuts_off_are_searched_with_a_warning():
    crop = np.s_[:, 30:-30, 40:-40]
    found = plausible_lungs(lungs()[crop], SPACING_MM)
    assert found.field[BOTH[crop]].mean() > 0.97
    assert "cut off by the side of the image" in found.warnings[0]
    assert not lung_field(lungs()[crop], SPACING_MM).any()


def test_below_the_lungs_gas_is_not_searched():
    """An abdomen that begins with the bases of the lungs."""
    bases, bowel = BOTH & (Z > 40), bubbles(12, 25, 45) & (Z < 10)
    found = plausible_lungs(drawn({-850.0: bases, -990.0: bowel}), SPACING_MM, "ABDOMEN")
    assert found.field[bases].mean() > 0.95
    assert not found.field[:20].any()
    assert "a whole chest has more" in found.warnings[0]
    assert found.warnings[-1].startswith("the header states BodyPartExamined ABDOMEN, but lung")


@pytest.mark.parametrize(
    ("stated", "shown"),
    [
        ("", ""),
        ("CHEST", ""),
        ("CHESTABDOMEN", ""),
        ("Kim", ""),
        ("HEADNECK", "HEAD"),
        ("leg", "LEG"),
    ],
)
def test_the_stated_part_of_the_body_is_no_judge_and_no_leak(stated, shown):
    found = plausible_lungs(lungs(), SPACING_MM, stated)
    assert found.field.any()
    expected = f"the header states BodyPartExamined {shown}, but lung was found and searched"
    assert [expected] * bool(shown) == [warning.split(":")[0] for warning in found.warnings]
    assert "Kim" not in plausible_lungs(drawn({}), SPACING_MM, stated).not_looked_at


def test_every_phantom_lung_is_searched(scan):
    found = plausible_lungs(scan.hu, scan.spacing_mm)
    assert np.array_equal(found.field, lung_field(scan.hu, scan.spacing_mm))
    assert not found.not_looked_at


@pytest.mark.real_ct
@pytest.mark.parametrize("part", ["full_ct", "whole_ct"])
def test_every_real_chest_is_searched(real_ct, part):
    """Four of the fifteen chose the limits: see `medlib.cohorts.project_split`."""
    for _, row in open_table(real_ct / part).iterrows():
        volume = read_case(real_ct / part, row).volume
        field = lung_field(volume.hu, volume.spacing_mm)
        found = plausible_lungs(volume.hu, volume.spacing_mm, "CHEST")
        assert np.array_equal(found.field, field)
        few = ("only 1.30 L of lung were looked at: a whole chest has more",)
        assert found.warnings == (few if row["case"] == "LungFCP-01-0001" else ())
