from __future__ import annotations

import pytest

from medlib.baseline.run import Run
from medlib.paths import REFERENCE_RUNS
from tools.model_card import MODEL_CARD, model_card, patients_with_a_miss, upper_bound

SHIPPED = [path.parent for path in sorted(REFERENCE_RUNS.rglob(MODEL_CARD))]


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_shipped_model_card_says_what_the_stored_evidence_says(folder):
    assert (folder / MODEL_CARD).read_text(encoding="utf-8") == model_card(Run(folder))


def test_there_is_a_shipped_model_card():
    assert SHIPPED


def test_none_among_few_says_little():
    assert upper_bound(0, 1) == pytest.approx(0.95)
    assert (1 - upper_bound(0, 169)) ** 169 == pytest.approx(0.05)
    one = upper_bound(1, 169)
    assert (1 - one) ** 169 + 169 * one * (1 - one) ** 168 == pytest.approx(0.05)


def test_patients_are_counted_once_and_only_those_never_seen():
    rows = [("a", 1, False), ("a", 1, False), ("b", 0, False), ("c", 1, True), ("d", None, False)]
    names = ("patient_id", "missed", "seen_by_the_run")
    cases = [dict(zip(names, row, strict=True)) for row in rows]
    assert patients_with_a_miss({"cases": cases}) == 1
    hidden = [{**case, "not_reported": float(case["patient_id"] in "bc")} for case in cases]
    assert patients_with_a_miss({"cases": hidden}, "not_reported") == 1
