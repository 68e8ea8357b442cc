from __future__ import annotations

import krippendorff
import numpy as np
import pandas as pd
import pytest

from medlib.annotation import reader_study
from medlib.annotation import table_cache as stored
from medlib.annotation.policies import LABEL_POLICIES


def test_detection_figures_of_the_database():
    table = reader_study.detection_table()
    assert len(table) == 1018
    hits, misses = table["hits"].sum(), table["misses"].sum()
    assert misses / (hits + misses) == pytest.approx(0.225, abs=5e-4)
    assert table["false_positives"].sum() / table["n_reads"].sum() == pytest.approx(0.19, abs=5e-3)


def test_a_row_for_each_reader_who_could_miss():
    table = reader_study.miss_table()
    detection = reader_study.detection_table()
    assert table["missed"].sum() == detection["misses"].sum()
    assert len(table) == detection["hits"].sum() + detection["misses"].sum()
    assert (table["n_readers"] >= 2).all()


@pytest.mark.parametrize(
    ("rating", "expected"),
    [
        ("calcification", 0.71),
        ("malignancy", 0.43),
        ("texture", 0.41),
        ("subtlety", 0.37),
        ("margin", 0.37),
        ("spiculation", 0.33),
        ("lobulation", 0.30),
        ("sphericity", 0.25),
        ("internal_structure", 0.19),
    ],
)
def test_alpha_of_the_ratings(rating, expected):
    table = reader_study.coincidence_table(rating)
    assert reader_study.alpha(table) == pytest.approx(expected, abs=6e-3)


def test_alpha_of_a_resample_is_that_of_its_nodules():
    """Adding up patients' coincidences gives what the package computes from the nodules."""
    nodules, patients = (
        table("malignancy") for table in (reader_study.rating_table, reader_study.coincidence_table)
    )
    drawn = np.random.default_rng(3).choice(patients["patient_id"], 400)
    by_patient = dict(list(nodules.groupby("patient_id")))
    counts = pd.concat([by_patient[name] for name in drawn])[[1, 2, 3, 4, 5]]
    resample = patients.set_index("patient_id").loc[drawn].reset_index()
    theirs = krippendorff.alpha(value_counts=counts.to_numpy(), level_of_measurement="ordinal")
    assert reader_study.alpha(resample) == pytest.approx(theirs)


def test_tables_are_measured_once_and_kept(tmp_path, monkeypatch):
    marked = reader_study.nodules.nodules()
    some = [*marked[:12], next(n for n in marked if n.is_oversized)]
    monkeypatch.setattr(stored.paths, "DATA", tmp_path)
    monkeypatch.setattr(reader_study.nodules, "nodules", lambda: tuple(some))
    reader_study._measured.cache_clear()
    try:
        pairs = reader_study.pair_table()
        oversized = reader_study.oversized_pair_table()
        policies = reader_study.policy_table()
        (folder,) = tmp_path.glob("lidc-reader-study-*")
        reader_study._measured.cache_clear()
        monkeypatch.setattr(reader_study, "_measure", None)  # it must not be called again
        assert reader_study.pair_table().equals(pairs)
    finally:
        reader_study._measured.cache_clear()
    assert {path.stem for path in folder.iterdir()} == {
        "nodules",
        "pairs",
        "oversized",
        "majority",
        "policies",
    }
    assert len(pairs) == sum(n.n_readers * (n.n_readers - 1) // 2 for n in some[:12])
    assert pairs["dice_3d"].between(0, 1).all()
    four = pairs[pairs["n_readers"] == 4]
    assert (four["mean_surface_distance_mm"] <= four["hausdorff_95_mm"] + 1e-9).all()
    assert set(pairs["patient_id"]) <= {nodule.patient_id for nodule in some}
    assert set(oversized["origin"]) == {some[12].origin}
    assert set(policies["policy"]) == set(LABEL_POLICIES)
    assert (policies.query("policy == 'all' and n_readers < 4")["voxels"] == 0).all()


def test_diameters_are_cut_into_four_classes():
    assert len(reader_study.DIAMETER_EDGES_MM) == len(reader_study.DIAMETER_LABELS) + 1
    assert np.all(np.diff(reader_study.DIAMETER_EDGES_MM) > 0)
