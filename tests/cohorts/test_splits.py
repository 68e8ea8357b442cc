from __future__ import annotations

import pandas as pd
import pytest

from medlib.cohorts.splits import check_disjoint
from medlib.errors import OverlapError


def test_overlap_raises():
    parts = ["train", "train", "test", "test", "test", "test"]
    rows = pd.DataFrame({"patient_id": ["p0"] * 3 + ["p1"] * 3, "split": parts})
    with pytest.raises(OverlapError, match="1 of 2 patients .* p0 in test, train"):
        check_disjoint(rows)
    rows["split"] = ["train"] * 3 + ["test"] * 3
    check_disjoint(rows)
