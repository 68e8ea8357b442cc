from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from toy import Ball, toy_volume

from medlib.baseline.candidates import Prediction
from medlib.baseline.config import TrainConfig
from medlib.baseline.inference import ROUND_MM, Candidate, Scan, score
from medlib.baseline.roundness import roundness
from medlib.images.volume import SeriesIdentity, Volume

SPACINGS_MM = [(1.0, 1.0, 1.0), (2.5, 0.7, 0.7), (1.25, 1.1, 1.1)]
AIR_HU, TISSUE_HU = -850.0, 40.0


def drawn(inside, spacing_mm, size_mm=60.0, contrast=1.0) -> tuple[Volume, list[float]]:
    """Draw what `inside` says of (z, y, x) in mm around the middle, with soft edges."""
    shape = [int(size_mm / step) for step in spacing_mm]
    fine = 4  # so that a voxel on the edge is partly inside
    axes = [
        ((np.arange(n * fine) + 0.5) / fine - n / 2) * step
        for n, step in zip(shape, spacing_mm, strict=True)
    ]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    share = np.broadcast_to(inside(z, y, x), [n * fine for n in shape]).astype(np.float32)
    share = share.reshape(shape[0], fine, shape[1], fine, shape[2], fine).mean(axis=(1, 3, 5))
    hu = AIR_HU + contrast * (TISSUE_HU - AIR_HU) * share
    affine = np.diag([*spacing_mm[::-1], 1.0])
    return Volume(hu, affine, SeriesIdentity("p", "", "")), [n / 2 - 0.5 for n in shape]


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
@pytest.mark.parametrize("diameter_mm", [5, 8, 14])
def test_a_ball_is_round_and_what_goes_on_is_not(spacing_mm, diameter_mm):
    r = diameter_mm / 2
    ball = roundness(*drawn(lambda z, y, x: z**2 + y**2 + x**2 < r**2, spacing_mm))
    across = roundness(*drawn(lambda z, y, x: y**2 + x**2 + 0 * z < r**2, spacing_mm))
    along = roundness(*drawn(lambda z, y, x: z**2 + y**2 + 0 * x < r**2, spacing_mm))
    oblique = roundness(*drawn(lambda z, y, x: ((z - x) ** 2 / 2 + y**2) < r**2, spacing_mm))
    wall = roundness(*drawn(lambda z, y, x: (x > -r) & (x < r) & (z == z) & (y == y), spacing_mm))
    assert ball > 0.7
    assert max(across, along, oblique, wall) < 0.15


def test_a_faint_ball_is_as_round_as_a_dense_one():
    def ball(contrast):
        return drawn(lambda z, y, x: z**2 + y**2 + x**2 < 16, SPACINGS_MM[1], contrast=contrast)

    assert roundness(*ball(0.2)) == pytest.approx(roundness(*ball(1.0)), rel=1e-3)


def test_at_the_edge_of_the_image_there_is_an_answer():
    volume, _ = drawn(lambda z, y, x: z**2 + y**2 + x**2 < 16, (2.5, 1.0, 1.0))
    assert 0 <= roundness(volume, (0.0, 0.0, 59.0)) <= 1
    one_slice = replace(volume, hu=volume.hu[12:13])
    assert roundness(one_slice, (0.0, 29.5, 29.5)) < 0.05  # nothing says that it ends


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
def test_a_ball_cut_out_with_its_poles_is_as_round_as_in_the_scan(spacing_mm):
    volume, center = drawn(lambda z, y, x: z**2 + y**2 + x**2 < 16, spacing_mm)
    half = round(4 / spacing_mm[0])
    middle = volume.hu.shape[0] // 2
    cut = replace(volume, hu=volume.hu[middle - half : middle + half])
    place = (center[0] - middle + half, *center[1:])
    whole = roundness(volume, center)
    assert roundness(cut, place, ends_with_the_nodule=True) == pytest.approx(whole, abs=0.02)
    assert roundness(cut, place) < whole - 0.05  # as if it went on


def test_roundness_counts_less_the_larger_a_candidate_is(tiny: TrainConfig):
    volume, center = drawn(lambda z, y, x: y**2 + x**2 + 0 * z < 9, (1.0, 1.0, 1.0))
    scores = []
    for diameter_mm in np.linspace(8, 22, 57):
        found = pd.DataFrame(
            [(1, 0.9, diameter_mm, *center)],
            columns=["candidate_id", "score", "diameter_mm", "center_z", "center_y", "center_x"],
        )
        labels = np.ones(volume.hu.shape, dtype=np.uint16)
        whole = tuple(slice(0, n) for n in labels.shape)
        outlined = Prediction(labels.astype(np.float16), labels, found)
        searched = [Candidate(whole, labels > 0, 0.9)]
        scored = score(Scan.of(volume, tiny, is_window=False), searched, outlined)
        scores.append(scored.candidates["score"].iloc[0])
    assert scores[0] < 0.5
    assert scores[-1] == pytest.approx(0.9)
    steps = np.diff(scores)
    assert (steps >= -1e-9).all()
    assert steps.max() < 0.05


def test_of_two_liked_equally_the_round_one_is_surer_and_a_mass_is_not_judged(tiny: TrainConfig):
    balls = [Ball((30.0, 40.0, 40.0), 4.0)]
    volume, masks = toy_volume(balls, size_mm=(60.0, 128.0, 128.0))
    hu = volume.hu.copy()
    hu[:, 88:94, 36:42] = 40  # a vessel through all slices
    labels = np.zeros(hu.shape, dtype=np.uint16)
    labels[masks[0]] = 1
    labels[10:13, 88:94, 36:42] = 2
    found = pd.DataFrame(
        {
            "candidate_id": [1, 2, 3],
            "score": 0.9,
            "diameter_mm": [8.0, 7.0, ROUND_MM[1]],
            "center_z": [11.5, 11.0, 11.0],
            "center_y": [39.5, 90.5, 90.5],
            "center_x": [39.5, 38.5, 38.5],
        }
    )
    labels[20:, :8, :8] = 3
    whole = tuple(slice(0, n) for n in hu.shape)
    searched = [Candidate(whole, labels > 0, 0.9)]
    outlined = Prediction(labels.astype(np.float16), labels, found)
    scan = Scan.of(replace(volume, hu=hu), tiny, is_window=False)
    scores = score(scan, searched, outlined).candidates
    by_diameter = scores.set_index("diameter_mm")["score"]
    assert by_diameter[ROUND_MM[1]] == pytest.approx(0.9)
    assert 0.8 < by_diameter[8.0] < 0.9
    assert by_diameter[7.0] < 0.6
