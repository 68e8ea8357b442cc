from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from medlib.annotation.case import LESION_COLUMNS, Case
from medlib.baseline.candidates import CANDIDATE_COLUMNS, Prediction
from medlib.gallery import cases
from medlib.gallery.cases import NARROWEST_MM, lesion_tiles, reading, slice_tile, what_is_shown
from medlib.gallery.tiles import OKABE_ITO
from medlib.images.volume import SeriesIdentity, Volume

SHAPE = (5, 80, 100)


@pytest.fixture
def case():
    """One lesion of two readers, largest in slice 3, near a corner of the picture."""
    readers, labels = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    readers[2, 4:8, 4:8] = readers[3, 2:12, 2:12] = 3
    readers[4, 2:12, 2:30] = 1  # one reader alone goes further
    labels[readers > 0] = 1
    affine = np.diag([0.8, 0.8, 2.5, 1.0])
    volume = Volume(np.full(SHAPE, -800, np.float32), affine, SeriesIdentity("c0", "1.2", "1.2.3"))
    row = dict.fromkeys(LESION_COLUMNS, 3.0) | {"lesion_id": "c0-1", "label": 1, "n_readers": 2}
    return Case("c0", "p0", "site-a", "test", volume, readers, labels, pd.DataFrame([row]))


@pytest.fixture
def prediction():
    labels = np.zeros(SHAPE, np.uint16)
    labels[3, 3:12, 3:14] = 1
    labels[1, 60:70, 80:95] = 2
    rows = [
        dict.fromkeys(CANDIDATE_COLUMNS, 1.0) | {"candidate_id": i, "score": score}
        for i, score in ((1, 0.9), (2, 0.3))
    ]
    return Prediction(np.zeros(SHAPE, np.float16), labels, pd.DataFrame(rows))


def has(image, colour):
    rgb = [int(OKABE_ITO[colour][i : i + 2], 16) for i in (1, 3, 5)]
    return bool((image == rgb).all(-1).any())


def test_three_tiles_of_a_lesion(case, prediction):
    tiles = lesion_tiles(case, prediction, 0.5, lesion_id="c0-1")
    assert [tile.label for tile in tiles] == [
        "CT, 32 mm wide",
        "Reference standard",
        "Prediction",
    ]
    assert [has(tile.image, "sky") for tile in tiles] == [False, True, True]
    assert [has(tile.image, "orange") for tile in tiles] == [False, False, True]
    assert "slice 3" in tiles[0].alt, "where the readers' consensus is largest, not the union"
    side_px = round(NARROWEST_MM / 0.8)
    assert {tile.image.shape for tile in tiles} == {(9 * side_px, 9 * side_px, 3)}


def test_what_scores_below_the_operating_point_is_not_drawn(case, prediction):
    missed = lesion_tiles(case, prediction, 0.95, lesion_id="c0-1")
    assert not has(missed[2].image, "orange")
    assert missed[2].label == "Prediction: nothing marked"
    assert "predicted" not in missed[2].alt


def test_tiles_of_a_false_alarm(case, prediction):
    tiles = lesion_tiles(case, prediction, 0.2, candidate_id=2)
    assert "slice 1" in tiles[0].alt
    assert "marked region 2" in tiles[0].alt
    assert has(tiles[2].image, "orange")
    assert not has(tiles[1].image, "sky")


def test_a_large_lesion_gets_a_wider_crop_that_stays_in_the_picture(case, prediction):
    case.readers[3, 2:42, 2:42] = 3
    case.lesion_labels[3, 2:42, 2:42] = 1
    tile = lesion_tiles(case, prediction, 0.5, lesion_id="c0-1")[0]
    assert tile.image.shape[:2] == (80 * 4, 100 * 4), "2.5 times 32 mm, but no more than there is"


def test_the_whole_slice(case, prediction):
    tile = slice_tile(case, prediction, 0.5, "c0-1")
    assert tile.image.shape == (160, 200, 3)
    assert "slice 4" in tile.alt or "slice 3" in tile.alt


def test_reading_of_a_hit_a_miss_and_a_false_alarm():
    hit = SimpleNamespace(
        case_id="c0", site="site-a", diameter_mm=8.25, n_readers=4, best_score=0.91, dice=0.8,
        reader_dice=0.834,
    )  # fmt: skip
    assert reading(hit) == (
        "c0, site-a: 8.2 mm, drawn by 4 of 4 readers, score 0.91, Dice 0.80, "
        "the readers among themselves 0.83."
    )
    miss = SimpleNamespace(
        case_id="c1", site="site-x", diameter_mm=12.0, n_readers=3, high_risk=True, score=np.nan,
        dice=np.nan, reader_dice=np.nan, cause="never marked at any score",
    )  # fmt: skip
    assert reading(miss) == (
        "c1, site-x: 12.0 mm, drawn by 3 of 4 readers, high risk, no score. "
        "Never marked at any score."
    )
    alarm = SimpleNamespace(
        case_id="c2", site="site-x", diameter_mm=4.0, n_readers=pd.NA, score=0.7, cause="looks so"
    )
    assert reading(alarm) == "c2, site-x: 4.0 mm, score 0.70. Looks so."


def test_pictures_of_the_phantom_say_so():
    assert "not a patient" in what_is_shown("phantom")
    assert what_is_shown("lung-ct") == "From the dataset lung-ct."
    assert "solid blue" in what_is_shown("lung-ct", outlines=True)


def test_only_the_named_cases_are_kept(monkeypatch):
    asked = []

    def predictions(run, cohort, method, splits):
        asked.append(splits)
        for name in ("c0", "c1", "c2"):
            yield SimpleNamespace(case_id=name), f"prediction of {name}"

    monkeypatch.setattr(cases, "predictions", predictions)
    table = pd.DataFrame({"case_id": ["c0", "c1", "c2"], "split": ["test", "external", "test"]})
    evaluation = SimpleNamespace(run=None, cohort=SimpleNamespace(table=table))
    found = cases.load_cases(evaluation, ["c2", "c0", "c2"])
    assert {name: marked for name, (_, marked) in found.items()} == {
        "c0": "prediction of c0",
        "c2": "prediction of c2",
    }
    assert asked == [("test",)], "other parts are not read"
