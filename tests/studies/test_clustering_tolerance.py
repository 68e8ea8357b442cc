from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medlib.annotation.nodules import cluster_outlines, groups_within, smallest_distances
from studies.clustering_tolerance import TOLERANCES, _summary


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 3), min_size=1, max_size=14),
    st.sampled_from([0.5, 1.0, 2.0, 5.0]),
)
def test_distances_taken_once_give_the_clusters_of_the_rule(centres, tolerance_mm):
    points = [np.array([centre, np.add(centre, (1, 0, 0))], dtype=float) for centre in centres]
    distance = smallest_distances(points, 10.0)
    assert sorted(groups_within(distance, tolerance_mm)) == sorted(
        cluster_outlines(points, tolerance_mm)
    )


def test_a_summary_by_hand():
    row = _summary([1, 2, 4, 4, 6])
    assert (row["nodules"], row["read_by_4"], row["oversized"]) == (5, 2, 1)
    assert row["miss_rate"] == pytest.approx(2 / 10)  # the two readers who left the second out


def test_the_rule_of_the_book_is_among_the_tolerances():
    assert ("slice thickness", 1.0) in TOLERANCES
