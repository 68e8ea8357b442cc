from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from toy import Ball, DenserThan, dice, toy_volume

from medlib.baseline.candidates import (
    CANDIDATE_COLUMNS,
    CORE_MM,
    find_candidates,
    load_prediction,
    rescored,
    save_prediction,
)
from medlib.baseline.config import TrainConfig
from medlib.baseline.inference import predict_volume
from medlib.baseline.network_passes import Model
from medlib.images.volume import sphere_diameter_mm

CPU = torch.device("cpu")
BRIGHT = 1500  # HU of the balls: denser than anything else in a toy chest ...
HALF_WAY = 325  # ... and so is the HU half-way between them and the lung


@pytest.mark.parametrize("dz", [1.0, 2.5, 5.0])
@pytest.mark.parametrize("dx", [0.7, 1.0, 1.4])
def test_what_the_network_marks_comes_back_at_the_right_voxels(tiny: TrainConfig, dz, dx):
    balls = [Ball((21.0, 51.0, 33.0), 9.0, hu=BRIGHT), Ball((17.0, 79.0, 95.0), 7.0, hu=BRIGHT)]
    volume, masks = toy_volume(balls, spacing_mm=(dz, dx, dx))
    prediction = predict_volume(DenserThan(HALF_WAY), tiny, volume, CPU)
    assert len(prediction.candidates) == 2
    for ball, mask in zip(balls, masks, strict=True):
        (label,) = set(np.unique(prediction.labels[mask])) - {0}
        found = prediction.labels == label
        assert dice(found, mask) > (0.9 if dz < 5 else 0.85)
        centroid = [
            (np.mean(i) + 0.5) * s for i, s in zip(np.nonzero(found), (dz, dx, dx), strict=True)
        ]
        assert np.abs(np.subtract(centroid, ball.center_mm)).max() < 0.5 * max(dx, 0.4 * dz)
    assert prediction.probability.shape == prediction.labels.shape == volume.hu.shape
    assert prediction.probability.dtype == np.float16
    assert prediction.labels.dtype == np.uint16


def test_only_lung_slices_go_through_and_nothing_outside_the_lung_is_marked(tiny: TrainConfig):
    volume, _ = toy_volume(
        [Ball((60.0, 64.0, 36.0), 6.0, hu=BRIGHT)], size_mm=(120.0, 128.0, 128.0)
    )
    volume.hu[:12] = 30  # 30 mm of belly
    network = DenserThan(HALF_WAY)
    prediction = predict_volume(network, tiny, volume, CPU)
    assert 36 <= network.slices <= 40
    assert (prediction.labels[:10] == 0).all()
    assert (prediction.labels[:, :, :4] == 0).all()
    assert np.flatnonzero(prediction.labels[:, 64, 36]).tolist() == [22, 23, 24, 25]


def test_without_a_lung_there_is_no_candidate(tiny: TrainConfig):
    volume, _ = toy_volume([])
    volume.hu[:] = 40
    network = DenserThan(HALF_WAY)
    prediction = predict_volume(network, tiny, volume, CPU)
    assert network.slices == 0
    assert prediction.candidates.empty
    assert list(prediction.candidates) == list(CANDIDATE_COLUMNS)
    assert not prediction.probability.any()
    assert prediction.not_looked_at == "no lung was found"


@pytest.mark.parametrize("outliner", [None, DenserThan(HALF_WAY)])
def test_a_chest_without_a_candidate_was_looked_at(tiny: TrainConfig, outliner):
    volume, _ = toy_volume([])
    close = outliner and Model(outliner, tiny)
    prediction = predict_volume(DenserThan(HALF_WAY), tiny, volume, CPU, close)
    assert prediction.candidates.empty
    assert prediction.not_looked_at == ""
    [warning] = prediction.warnings
    assert warning.endswith("L of lung were looked at: a whole chest has more")
    litres = float(warning.split()[1])
    assert litres == pytest.approx(2 * np.pi * 42 * 23 * 40 / 1e6, rel=0.05)


def test_gas_of_an_abdomen_is_no_candidate_and_the_stated_part_is_named(tiny: TrainConfig):
    volume, _ = toy_volume([Ball((20.0, 64.0, 36.0), 6.0, hu=BRIGHT)])
    volume.hu[volume.hu == -850] = -990
    identity = dataclasses.replace(volume.identity, body_part="ABDOMEN")
    network = DenserThan(HALF_WAY)
    prediction = predict_volume(network, tiny, dataclasses.replace(volume, identity=identity), CPU)
    assert network.slices == 0
    assert prediction.candidates.empty
    assert prediction.not_looked_at.endswith("; the header states BodyPartExamined ABDOMEN")


def test_a_single_slice_is_a_volume(tiny: TrainConfig):
    volume, masks = toy_volume(
        [Ball((5.0, 64.0, 36.0), 8.0, hu=BRIGHT)],
        spacing_mm=(10.0, 1.0, 1.0),
        size_mm=(10.0, 128.0, 128.0),
    )
    prediction = predict_volume(DenserThan(HALF_WAY), tiny, volume, CPU)
    assert prediction.labels.shape == (1, 128, 128)
    assert dice(prediction.labels > 0, masks[0]) > 0.9


def test_candidates_join_at_corners_and_drop_what_is_too_small(tiny: TrainConfig):
    probability = np.zeros((6, 20, 20), dtype=np.float32)
    probability[1, 2:6, 2:6] = 0.6
    probability[2, 6:10, 6:10] = 0.9  # touches the first by a corner
    probability[4, 15, 15] = 0.95  # 2.5 mm^3: a sphere of 1.7 mm
    probability[4, 2:7, 14:19] = 0.7
    probability[5, 12:14, 2:4] = 0.3  # below the level
    prediction = find_candidates(probability, (2.5, 1.0, 1.0), tiny)
    table = prediction.candidates
    assert table["candidate_id"].tolist() == [1, 2]
    odds = np.sqrt(0.6 / 0.4 * 0.9 / 0.1)  # half of the voxels have 0.6, half 0.9
    assert table["score"].tolist() == pytest.approx([odds / (1 + odds), 0.7])
    assert table["volume_mm3"].tolist() == pytest.approx([32 * 2.5, 25 * 2.5])
    assert table["diameter_mm"][0] == pytest.approx(2 * (3 * 80 / 4 / np.pi) ** (1 / 3))
    assert table.loc[0, ["center_z", "center_y", "center_x"]].tolist() == [1.5, 5.5, 5.5]
    assert (prediction.labels == 1).sum() == 32
    assert (prediction.labels == 2).sum() == 25
    assert prediction.labels[4, 15, 15] == 0
    assert prediction.labels[1, 2, 2] == prediction.labels[2, 9, 9] == 1


def test_equal_volume_sphere():
    assert sphere_diameter_mm(4 / 3 * np.pi * 5**3) == pytest.approx(10)


def test_a_stored_prediction_comes_back_only_for_its_key(tiny: TrainConfig, tmp_path):
    probability = np.random.default_rng(0).random((4, 12, 12)).astype(np.float32)
    prediction = dataclasses.replace(
        find_candidates(probability, (2.5, 1.0, 1.0), tiny),
        not_looked_at="no lung",
        warnings=("one", "two"),
    )
    path = tmp_path / "network" / "case.npz"
    assert load_prediction(path, "a") is None
    save_prediction(prediction, path, "a")
    again = load_prediction(path, "a")
    assert np.array_equal(again.probability, prediction.probability)
    assert np.array_equal(again.labels, prediction.labels)
    pd.testing.assert_frame_equal(again.candidates, prediction.candidates, check_dtype=False)
    assert (again.not_looked_at, again.warnings) == ("no lung", ("one", "two"))
    assert load_prediction(path, "b") is None
    assert [p.name for p in path.parent.iterdir()] == ["case.npz"]


def test_the_score_is_of_a_nodules_whole_region_and_not_of_its_best_voxels(tiny: TrainConfig):
    probability = np.zeros((4, 40, 40), dtype=np.float32)
    probability[1:3, 4:7, 4:7] = 0.9
    probability[:, 15:25, 15:25] = 0.6
    probability[:, 15:20, 15:20] = 0.99  # a quarter of it
    found = find_candidates(probability, (1.0, 1.0, 1.0), tiny).candidates
    assert found["diameter_mm"].is_monotonic_increasing  # the small one first
    odds = (0.6 / 0.4) ** 0.75 * (0.99 / 0.01) ** 0.25
    assert found["score"].to_list() == pytest.approx([0.9, odds / (1 + odds)], abs=1e-6)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (2.5, 0.8, 0.8)])
def test_a_mass_is_judged_by_as_much_of_it_as_a_nodule_has(tiny: TrainConfig, spacing_mm):
    in_core = round(np.pi / 6 * CORE_MM**3 / np.prod(spacing_mm))
    probability = np.full((10, 60, 60), 0.6, dtype=np.float32)
    flat = probability.reshape(-1)
    flat[: in_core // 2], flat[in_core // 2 : in_core] = 0.99, 0.9
    found = find_candidates(probability, spacing_mm, tiny).candidates
    half = (in_core // 2) / in_core
    odds = 99**half * 9 ** (1 - half)
    assert found["score"].to_list() == pytest.approx([odds / (1 + odds)], abs=1e-6)


def test_in_a_window_no_lung_is_looked_for(tiny: TrainConfig):
    ball = Ball((20.0, 24.0, 24.0), 6.0, hu=BRIGHT)
    volume, masks = toy_volume([ball], size_mm=(40.0, 48.0, 48.0))
    volume.hu[:] = np.where(masks[0], BRIGHT, 40)  # no air at all
    assert predict_volume(DenserThan(HALF_WAY), tiny, volume, CPU).candidates.empty
    found = predict_volume(DenserThan(HALF_WAY), tiny, volume, CPU, is_window=True)
    assert len(found.candidates) == 1
    assert dice(found.labels > 0, masks[0]) > 0.9
    assert (found.not_looked_at, found.warnings) == ("", ())


def test_what_is_certain_has_a_score_all_the_same(tiny: TrainConfig):
    certain = find_candidates(np.ones((4, 8, 8), dtype=np.float32), (1.0, 1.0, 1.0), tiny)
    assert certain.candidates["score"].to_list() == pytest.approx([1.0], abs=1e-5)


def test_other_scores_number_the_candidates_anew(tiny: TrainConfig):
    probability = np.zeros((4, 40, 40), dtype=np.float32)
    probability[:, :10, :10], probability[:, 20:30, :10], probability[:, 20:, 20:] = 0.9, 0.8, 0.7
    found = find_candidates(probability, (1.0, 1.0, 1.0), tiny)
    again = rescored(found, [0.2, 0.6, 0.4])
    assert again.candidates["candidate_id"].to_list() == [1, 2, 3]
    assert again.candidates["score"].to_list() == [0.6, 0.4, 0.2]
    for box, k in (((0, 25, 5), 1), ((0, 30, 30), 2), ((0, 5, 5), 3)):
        assert again.labels[box] == k
        row = again.candidates.iloc[k - 1]
        assert row["volume_mm3"] == (again.labels == k).sum()


def test_marks_in_one_column_of_voxels_are_told_apart(tiny):
    """The library for components fails on booleans so thin."""
    probability = np.zeros((5, 9, 9), np.float32)
    probability[[1, 3], 4, 4] = 0.9
    config = tiny.model_copy(update={"min_diameter_mm": 0.0})
    assert len(find_candidates(probability, (2.5, 1.0, 1.0), config).candidates) == 2
