from __future__ import annotations

import pytest

from medlib.baseline.run import Run
from medlib.paths import REFERENCE_RUNS
from medlib.risk.model_card import MODEL_CARD, model_card, upper_bound_of_none

SHIPPED = [path.parent for path in sorted(REFERENCE_RUNS.rglob(MODEL_CARD))]


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_shipped_model_card_says_what_the_stored_evidence_says(folder):
    assert (folder / MODEL_CARD).read_text(encoding="utf-8") == model_card(Run(folder))


def test_there_is_a_shipped_model_card():
    assert SHIPPED


def test_none_among_few_says_little():
    assert upper_bound_of_none(1) == pytest.approx(0.95)
    assert (1 - upper_bound_of_none(169)) ** 169 == pytest.approx(0.05)
