from __future__ import annotations

import numpy as np
import pytest

from medlib.annotation import reader_study


def test_detection_figures_of_the_database():
    table = reader_study.detection_table()
    assert len(table) == 1018
    hits, misses = table["hits"].sum(), table["misses"].sum()
    assert misses / (hits + misses) == pytest.approx(0.225, abs=5e-4)
    assert table["false_positives"].sum() / table["n_reads"].sum() == pytest.approx(0.19, abs=5e-3)


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
    assert reader_study.alpha(reader_study.rating_table(rating)) == pytest.approx(
        expected, abs=6e-3
    )


def test_tables_are_measured_once_and_kept(tmp_path, monkeypatch):
    first = [n for n in reader_study.nodules.nodules() if not n.is_oversized][:12]
    monkeypatch.setattr(reader_study.paths, "DATA", tmp_path)
    monkeypatch.setattr(reader_study.nodules, "nodules", lambda: tuple(first))
    reader_study._measured.cache_clear()
    try:
        measured = reader_study.pair_table()
        (folder,) = tmp_path.glob("lidc-reader-study-*")
        reader_study._measured.cache_clear()
        monkeypatch.setattr(reader_study, "_measure", None)  # it must not be called again
        assert reader_study.pair_table().equals(measured)
    finally:
        reader_study._measured.cache_clear()
    assert {path.name for path in folder.iterdir()} == {"nodules.csv", "pairs.csv", "majority.csv"}
    expected = sum(n.n_readers * (n.n_readers - 1) // 2 for n in first)
    assert len(measured) == expected
    assert measured["dice_3d"].between(0, 1).all()
    assert set(measured["patient_id"]) <= {nodule.patient_id for nodule in first}


def test_diameters_are_cut_into_four_classes():
    assert len(reader_study.DIAMETER_EDGES_MM) == len(reader_study.DIAMETER_LABELS) + 1
    assert np.all(np.diff(reader_study.DIAMETER_EDGES_MM) > 0)
