from __future__ import annotations

import numpy as np
import pytest
from toy import Ball, toy_volume

from medlib.baseline.blob_filter import dot_enhancement
from medlib.baseline.comparators import predict_nothing, predict_threshold
from medlib.baseline.config import TrainConfig
from medlib.images.volume import Volume


def shape_image(exponents: tuple[int, int, int], spacing_mm) -> np.ndarray:
    """Draw a Gaussian dot (1, 1, 1), a tube (0, 1, 1) or a sheet (0, 0, 1), sigma 3 mm."""
    axes = [(np.arange(round(40 / s)) - round(20 / s)) * s for s in spacing_mm]
    squares = [e * axis**2 for e, axis in zip(exponents, axes, strict=True)]
    r2 = squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :]
    return (-800 + 800 * np.exp(-r2 / (2 * 3.0**2))).astype(np.float32)


@pytest.mark.parametrize(
    "spacing_mm",
    [(1.0, 1.0, 1.0), (2.5, 1.0, 1.0), (1.0, 0.7, 0.7), (1.25, 0.5, 0.5), (0.6, 0.4, 0.4)],
)
def test_a_dot_answers_and_tubes_and_sheets_do_not(spacing_mm):
    answers = {}
    for name, exponents in {"dot": (1, 1, 1), "tube": (0, 1, 1), "sheet": (0, 0, 1)}.items():
        hu = shape_image(exponents, spacing_mm)
        middle = tuple(n // 2 for n in hu.shape)
        near = np.zeros(hu.shape, dtype=bool)
        near[tuple(slice(m - 1, m + 2) for m in middle)] = True
        answers[name] = dot_enhancement(hu, spacing_mm, near).max()
    assert answers["dot"] > 100
    assert answers["tube"] < 0.02 * answers["dot"]
    assert answers["sheet"] < 0.02 * answers["dot"]


def test_fine_voxels_are_answered_for_by_the_block_they_lie_in():
    rng = np.random.default_rng(0)
    coarse = rng.normal(-800, 100, (9, 30, 31)).astype(np.float32)
    fine = coarse.repeat(3, axis=1).repeat(3, axis=2)[:, :-1, :-2]  # the last blocks are not full
    where = np.zeros(fine.shape, dtype=bool)
    where[3:6, 40:50, 61:] = True  # begins inside a block and ends at the edge
    found = dot_enhancement(fine, (1.3, 0.4, 0.4), where)
    expected = dot_enhancement(coarse, (1.3, 1.2, 1.2), np.ones(coarse.shape, dtype=bool))
    expected = expected.repeat(3, axis=1).repeat(3, axis=2)[:, :-1, :-2]
    assert found[where].max() > 0
    np.testing.assert_allclose(found[where], expected[where], rtol=1e-3, atol=1e-2)
    assert not found[~where].any()


def test_the_blob_detector_finds_balls_and_passes_over_vessels(tiny: TrainConfig):
    balls = [Ball((20.0, 64.0, 36.0), 4.0), Ball((20.0, 64.0, 92.0), 6.0)]
    volume, masks = toy_volume(balls, noise_hu=20.0)
    prediction = predict_threshold(tiny, volume)
    assert len(prediction.candidates) >= 2
    for mask in masks:
        found = set(np.unique(prediction.labels[mask])) - {0}
        assert len(found) == 1
        assert found < {1, 2}  # the two surest
        part = prediction.labels == found.pop()
        assert 2 * (part & mask).sum() / (part.sum() + mask.sum()) > 0.6
    assert prediction.candidates["score"].between(0, 1).all()
    assert (prediction.candidates["score"].iloc[2:] < 0.6 * prediction.candidates["score"][1]).all()


def test_a_lung_without_a_dot_has_no_candidate(tiny: TrainConfig):
    volume, _ = toy_volume([], noise_hu=0.0)
    assert predict_threshold(tiny, volume).candidates.empty


def test_in_a_window_no_lung_field_is_needed(tiny: TrainConfig):
    volume, [ball] = toy_volume([Ball((20.0, 64.0, 36.0), 4.0)], noise_hu=20.0)
    window = np.s_[2:14, 50:78, 22:50]  # lung and ball alone: no body around it
    cut = Volume(volume.hu[window], volume.affine, volume.identity)
    assert predict_threshold(tiny, cut).candidates.empty
    found = predict_threshold(tiny, cut, is_window=True).labels == 1
    assert 2 * (found & ball[window]).sum() / (found.sum() + ball[window].sum()) > 0.6


def test_the_empty_predictor_marks_nothing(tiny: TrainConfig):
    volume, _ = toy_volume([Ball((20.0, 64.0, 36.0), 4.0)])
    prediction = predict_nothing(tiny, volume)
    assert prediction.candidates.empty
    assert prediction.labels.shape == volume.hu.shape
    assert not prediction.labels.any()
    assert not prediction.probability.any()
