from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medlib.risk.luna16 import OWN, luna16, rematched
from medlib.risk.matching import Matching
from medlib.risk.operating_point import FROC_POINTS, froc, sensitivity_at

SPACING_MM = (2.5, 0.5, 0.5)


def matching(lesions, candidates, n_cases=1) -> Matching:
    """Build tables; a lesion is (case, status, diameter_mm, z, y, x), a candidate has a score.

    Four readers drew what is required.
    """
    places = ["center_z", "center_y", "center_x"]
    cases = [f"c{k}" for k in range(n_cases)]
    return Matching(
        pd.DataFrame(lesions, columns=["case_id", "status", "diameter_mm", *places]).assign(
            n_readers=4
        ),
        pd.DataFrame(candidates, columns=["case_id", "score", *places]),
        pd.DataFrame(
            [(case, case, *SPACING_MM) for case in cases],
            columns=["case_id", "patient_id", "spacing_z_mm", "spacing_y_mm", "spacing_x_mm"],
        ),
    )


def test_a_centre_within_the_radius_hits_in_mm_along_every_axis():
    lesion = ("c0", "required", 6.0, 10.0, 40.0, 40.0)
    for place, hits in (
        ((11, 40, 40), True),  # 2.5 mm
        ((12, 40, 40), False),  # 5 mm
        ((10, 46, 40), True),  # 3 mm, the radius
        ((10, 40, 47), False),  # 3.5 mm
        ((11, 44, 40), False),  # 3.2 mm
    ):
        lesions, candidates = rematched(matching([lesion], [("c0", 0.7, *place)]))
        assert candidates["outcome"].to_list() == ["hit" if hits else "false alarm"]
        assert lesions["best_score"].notna().to_list() == [hits]


def test_the_surest_counts_and_what_one_reader_drew_does_not():
    found = matching(
        [("c0", "required", 8.0, 5, 10, 10), ("c0", "disputed", 8.0, 5, 60, 60)],
        [
            ("c0", 0.4, 5, 10, 12),
            ("c0", 0.9, 5, 10, 10),
            ("c0", 0.8, 5, 60, 60),
            ("c0", 0.3, 5, 90, 90),
        ],
    )
    lesions, candidates = rematched(found)
    assert lesions["best_score"].to_list() == [0.9, 0.8]
    assert candidates["outcome"].to_list() == ["hit", "hit", "disputed", "false alarm"]
    read = luna16(found)
    assert read["mean"].value == 1.0
    assert np.isnan(read["mean"].low)  # one scan


@pytest.mark.parametrize("seed", range(4))
def test_the_points_are_those_of_the_curve(seed):
    rng = np.random.default_rng(seed)
    n_cases = 6
    lesions = [
        (f"c{rng.integers(n_cases)}", "required" if rng.random() < 0.8 else "disputed", 10.0, 5,
         *rng.integers(0, 200, 2))
        for _ in range(25)
    ]  # fmt: skip
    candidates = [
        (f"c{rng.integers(n_cases)}", round(rng.random(), 1), 5, *rng.integers(0, 200, 2))
        for _ in range(150)
    ] + [(lesion[0], round(rng.random(), 1), *lesion[3:]) for lesion in lesions[::2]]
    found = matching(lesions, candidates, n_cases)
    curve = sensitivity_at(froc(found.cases, *rematched(found)))
    read = luna16(found)
    assert [read[f"{point:g}"].value for point in FROC_POINTS] == pytest.approx(curve.to_list())
    assert read["mean"].value == pytest.approx(curve.mean())
    assert 0 < read["mean"].value < 1
    assert read["mean"].low <= read["mean"].value <= read["mean"].high


def test_the_challenge_asks_for_three_readers_and_3_mm():
    found = matching(
        [("c0", "required", 8.0, 5, 10, 10), ("c0", "required", 8.0, 5, 60, 60),
         ("c0", "required", 2.9, 5, 90, 90), ("c0", "required", 3.0, 9, 30, 30)],
        [("c0", 0.9, 5, 10, 10), ("c0", 0.8, 5, 60, 60), ("c0", 0.7, 5, 90, 90)],
    )  # fmt: skip
    found.lesions["n_readers"] = [3, 2, 4, 3]
    _, candidates = rematched(found)
    assert candidates["outcome"].to_list() == ["hit", "disputed", "disputed"]
    assert luna16(found)["1"].value == 1 / 2
    assert luna16(found, OWN)["1"].value == 3 / 4


def test_without_a_required_lesion_it_is_undefined_and_without_candidates_zero():
    nothing = matching([("c0", "disputed", 8.0, 5, 10, 10)], [("c0", 0.4, 5, 10, 12)])
    assert np.isnan(luna16(nothing)["mean"].value)
    missed = matching([("c0", "required", 8.0, 5, 10, 10)], [])
    assert luna16(missed)["8"].value == 0
