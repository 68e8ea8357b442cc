from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medlib.annotation import lidc, nodules
from medlib.annotation.nodules import _smallest_distances, cluster_outlines
from studies.clustering_tolerance import TOLERANCES, _summary, group_sizes, outline_points_mm


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 3), min_size=1, max_size=14),
    st.sampled_from([0.5, 1.0, 2.0, 5.0]),
)
def test_known_distances_give_the_clusters_of_the_rule(centres, tolerance_mm):
    points = [np.array([centre, np.add(centre, (1, 0, 0))], dtype=float) for centre in centres]
    distance = _smallest_distances(points, 10.0)
    expected = [len(group) for group in cluster_outlines(points, tolerance_mm)]
    assert sorted(group_sizes(distance, tolerance_mm)) == sorted(expected)


def test_points_are_those_of_the_clustering():
    annotation = int(lidc.reader_annotations().index[0])
    scan = int(lidc.reader_annotations().at[annotation, "scan_id"])
    spacing = float(lidc.scans().at[scan, "pixel_spacing_mm"])
    expected = nodules._points_mm(annotation, spacing)
    np.testing.assert_array_equal(outline_points_mm(annotation, scan, spacing), expected)


def test_a_summary_by_hand():
    row = _summary([1, 2, 4, 4, 6])
    assert (row["nodules"], row["read_by_4"], row["oversized"]) == (5, 2, 1)
    assert row["miss_rate"] == pytest.approx(2 / 10)  # the two readers who left the second out


def test_the_rule_of_the_book_is_among_the_tolerances():
    assert ("slice thickness", 1.0) in TOLERANCES
