from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from medlib.annotation.case import Case
from medlib.cohorts import nodule_volumes as voi
from medlib.errors import DataError
from medlib.images.volume import SeriesIdentity, Volume
from medlib.phantom import SITES
from studies import realism
from studies.nodule_features import FEATURES, NOT_CLASSIFIED, measure

SPACING = (1.25, 0.7, 0.7)
IDENTITY = SeriesIdentity("p", "1.2", "1.2.3", "1.2.4", "M", "X", "K")


def ball_in_lung(seed=0, *, sigma_mm=0.7, noise_hu=30.0, radius_mm=5.0, hu=0.0):
    """A ball of known edge and noise, with its true outline from three readers."""
    rng = np.random.default_rng(seed)
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip((9, 43, 43), SPACING, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    inside = np.sqrt(z**2 + y**2 + x**2) < radius_mm
    soft = ndimage.gaussian_filter(inside.astype(float), [0, sigma_mm / 0.7, sigma_mm / 0.7])
    volume = -850 + (hu + 850) * soft + noise_hu * rng.standard_normal(inside.shape)
    return volume.astype(np.float32), (7 * inside).astype(np.uint8)


def test_figures_of_a_ball_are_what_was_put_in():
    found = measure(*ball_in_lung(), SPACING)
    assert set(found) == set(FEATURES)
    assert found["diameter_mm"] == pytest.approx(10, rel=0.05)
    assert found["core_mean"] == pytest.approx(-40, abs=60)
    assert found["ring_median"] == pytest.approx(-850, abs=10)
    assert found["noise_sd"] == pytest.approx(30, rel=0.1)
    assert found["noise_x1"] == pytest.approx(0, abs=0.15)
    assert found["edge_contrast"] == pytest.approx(850, rel=0.1)
    assert found["ring_lung_share"] > 0.95
    assert found["around_share_tissue"] == 0


@pytest.mark.parametrize("sigma_mm", [0.5, 0.8, 1.2])
def test_edge_width_follows_the_blur(sigma_mm):
    hu, readers = ball_in_lung(sigma_mm=sigma_mm, noise_hu=5.0, radius_mm=8.0)
    # The pixels' own width adds to the blur.
    expected = 2.563 * np.hypot(sigma_mm, 0.35)
    assert measure(hu, readers, SPACING)["edge_width"] == pytest.approx(expected, rel=0.2)


def test_correlated_and_skewed_noise_is_seen():
    hu, readers = ball_in_lung(noise_hu=0.0)
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape), (0, 0.5, 1.0))
    noise *= 30 / noise.std()
    dots = 90 * ndimage.gaussian_filter((rng.random(hu.shape) < 0.01).astype(float), (0, 0.6, 0.6))
    found = measure((hu + noise + dots).astype(np.float32), readers, SPACING)
    assert found["noise_x1"] > found["noise_y1"] + 0.2
    plain = measure((hu + noise).astype(np.float32), readers, SPACING)
    dotted = measure((hu + noise + 4 * dots).astype(np.float32), readers, SPACING)
    assert dotted["noise_skewness"] > plain["noise_skewness"] + 0.3


def test_what_cannot_be_measured_is_nan_not_zero():
    hu, readers = ball_in_lung(radius_mm=0.6)
    found = measure(hu[3:6], readers[3:6], SPACING)
    assert np.isnan(found["core_mean"])
    assert np.isnan(found["edge_width"])
    solid = measure(np.zeros_like(hu), readers, SPACING)
    assert np.isnan(solid["noise_sd"])


def test_a_lesion_of_a_cohort_is_cut_like_the_real_ones():
    hu, readers = ball_in_lung(radius_mm=4.0)
    pad = ((2, 2), (30, 30), (3, 60))
    labels = np.pad((readers > 0).astype(np.uint8) * 2, pad)
    volume = Volume(np.pad(hu, pad, constant_values=-850), np.diag([0.7, 0.7, 1.25, 1]), IDENTITY)
    case = Case("c", "p", "s", "test", volume, np.pad(readers, pad), labels, pd.DataFrame())
    crop = voi.lesion_voi(case, 2)
    assert labels[crop].shape[1:] == (43, 43)
    assert (labels[crop] > 0).sum() == (labels > 0).sum()
    assert (labels[crop] > 0).any(axis=(1, 2)).all()  # no slice without an outline
    assert realism.measure_lesion(case, 2)["diameter_mm"] == pytest.approx(8, rel=0.06)


def table_of(seed, n=80, shift=0.0):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, len(FEATURES))) + shift
    table = pd.DataFrame(values, columns=list(FEATURES))
    return table.assign(voi_id=range(n), patient_id=[f"{seed}-{k // 2}" for k in range(n)])


def test_same_distribution_small_distance_other_distribution_large():
    real = realism.statistics(table_of(0, 4000))
    same = realism.compare(table_of(1, 4000), real)
    assert same["distance"].max() < 0.06
    assert same["difference"].abs().max() < 0.1
    moved = realism.compare(table_of(2, 4000, shift=1.0), real)
    assert moved["difference"].to_numpy() == pytest.approx(1.0, abs=0.1)
    # Two normal distributions one sd apart: 2 * Phi(1/2) - 1.
    assert moved["distance"].to_numpy() == pytest.approx(0.383, abs=0.04)


def test_a_figure_nobody_could_measure_stays_nan():
    found = realism.compare(table_of(1).assign(edge_width=np.nan), realism.statistics(table_of(0)))
    assert found.loc["edge_width", ["phantom", "difference", "distance"]].isna().all()
    assert found.drop("edge_width").notna().all(axis=None)


def test_the_classifier_finds_a_difference_and_only_where_there_is_one():
    same = realism.two_sample(table_of(0), table_of(1), resamples=100)
    assert same["low"] <= same["auc"] <= same["high"]
    assert 0.3 < same["auc"] < 0.7
    moved = table_of(1).assign(noise_sd=lambda t: t["noise_sd"] + 2.5)
    told = realism.two_sample(table_of(0), moved, resamples=100)
    assert told["auc"] > 0.9
    assert max(told["alone"], key=told["alone"].get) == "noise_sd"


def test_the_grid_is_no_reason_to_tell_them_apart():
    moved = table_of(1).assign(**dict.fromkeys(NOT_CLASSIFIED, 99.0))
    assert realism.two_sample(table_of(0), moved, resamples=20)["auc"] < 0.7


def test_a_folder_is_measured_and_merged_clusters_left_out(tmp_path):
    hu, readers = ball_in_lung()
    affine = np.diag([*SPACING[::-1], 1.0])
    rows = []
    for name, flag in (("a", ""), ("b", "merged_cluster_gt4_annotations")):
        for kind, values in (("ct", hu.astype(np.int16)), ("readers", readers)):
            nib.save(nib.Nifti1Image(values.T, affine), tmp_path / f"{name}_{kind}.nii.gz")
        rows.append({"voi_id": name, "patient_id": "p", "ct_file": f"{name}_ct.nii.gz",
                     "readers_file": f"{name}_readers.nii.gz", "n_readers": 3,
                     "flag": flag})  # fmt: skip
    with pytest.raises(DataError, match=r"lidc_voi\.csv"):
        realism.measure_folder(tmp_path)
    pd.DataFrame(rows).to_csv(tmp_path / "lidc_voi.csv", index=False)
    found = realism.measure_folder(tmp_path)
    assert found["voi_id"].tolist() == ["a"]
    assert found["diameter_mm"].item() == pytest.approx(10, rel=0.05)


def test_the_stored_statistics_and_evidence_agree():
    real, found = realism.real_statistics(), realism.evidence()
    assert list(real.index) == list(FEATURES)
    assert real["n"].max() == found["real"]["vois"] > 700
    for phantom in found["phantoms"].values():
        assert list(phantom["figures"]) == list(FEATURES)
        classifier = phantom["classifier"]
        assert 0.5 < classifier["low"] < classifier["auc"] < classifier["high"] <= 1
    assert json.dumps(found)


def test_the_second_phantom_is_closer_than_the_first():
    first, second = (realism.evidence()["phantoms"][name] for name in ("v1", "v2"))
    assert second["classifier"]["high"] < first["classifier"]["low"]
    assert second["mean_distance"] < 0.7 * first["mean_distance"]


def test_noise_and_pixels_are_those_measured():
    """The phantom's constants against data_manifests/phantom_fit.csv."""
    fit = pd.read_csv(realism.paths.MANIFESTS / "phantom_fit.csv", comment="#")
    fit = fit.set_index(["stratum", "figure"])["median"].sort_index()
    makers = {"site-a": "GE MEDICAL SYSTEMS", "site-b": "SIEMENS", "site-x": "Philips"}
    for name, maker in makers.items():
        assert SITES[name].pixel_spacing_mm[2] == pytest.approx(fit[maker, "pixel_mm"], abs=0.02)
        for protocol in SITES[name].protocols:
            kernel = "sharp" if protocol.kernel in ("BONE", "B70f") else "standard"
            stratum = f"{maker} / {protocol.slice_thickness_mm} / {protocol.slice_spacing_mm}"
            known = fit[f"{stratum} / {kernel}"]
            # Fine vessels are part of what was measured, so the noise alone is below it.
            assert 0.75 * known["noise_sd"] < protocol.noise_sd_hu < 1.05 * known["noise_sd"]
            measured = known["correlation_of_slices"]
            assert protocol.slice_correlation == pytest.approx(measured, abs=0.12)
