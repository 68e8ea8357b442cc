from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medlib.cohorts.splits import check_disjoint, split_patients
from medlib.errors import OverlapError

FRACTIONS = {"train": 0.6, "tune": 0.15, "test": 0.25}


def table(images: list[int]) -> pd.DataFrame:
    """`images[k]` rows of patient k, two sites."""
    return pd.DataFrame(
        [
            {"patient_id": f"p{k:03d}", "site": "ab"[k % 2]}
            for k, count in enumerate(images)
            for _ in range(count)
        ]
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=3, max_size=40), st.integers(0, 99))
def test_a_patient_is_never_divided_and_shares_hold(images, seed):
    rows = table(images)
    rows["split"] = split_patients(rows, FRACTIONS, seed, stratify="site")
    check_disjoint(rows)
    per_part = rows.drop_duplicates("patient_id")["split"].value_counts()
    for part, share in FRACTIONS.items():
        assert abs(per_part.get(part, 0) - share * len(images)) <= 1


def test_strata_are_alike_and_the_seed_decides():
    rows = table([1] * 80)
    first = split_patients(rows, FRACTIONS, 0, stratify="site")
    assert first.equals(split_patients(rows, FRACTIONS, 0, stratify="site"))
    assert not first.equals(split_patients(rows, FRACTIONS, 1, stratify="site"))
    counts = pd.crosstab(rows["site"], first)
    assert (counts.loc["a"] - counts.loc["b"]).abs().max() <= 2


def test_the_order_of_rows_does_not_matter():
    rows = table([2] * 20)
    mixed = rows.sample(frac=1, random_state=1)
    assert (
        split_patients(mixed, FRACTIONS, 3).sort_index().equals(split_patients(rows, FRACTIONS, 3))
    )


def test_fractions_must_add_up():
    with pytest.raises(ValueError, match="add up to 1"):
        split_patients(table([1, 1]), {"train": 0.5, "test": 0.4}, 0)


def test_overlap_raises():
    rows = table([3, 3])
    rows["split"] = ["train", "train", "test", "test", "test", "test"]
    with pytest.raises(OverlapError, match="1 of 2 patients .* p000 in test, train"):
        check_disjoint(rows)
    rows["split"] = np.repeat(["train", "test"], 3)
    check_disjoint(rows)
