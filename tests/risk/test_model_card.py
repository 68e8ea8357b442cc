from __future__ import annotations

import json
import shutil

import pytest

from medlib.baseline.run import CONFIG, Run
from medlib.paths import REFERENCE_RUNS
from medlib.risk.model_card import MODEL_CARD, model_card, upper_bound_of_none

SHIPPED = [path.parent for path in sorted(REFERENCE_RUNS.rglob(MODEL_CARD))]


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_shipped_model_card_says_what_the_stored_evidence_says(folder):
    assert (folder / MODEL_CARD).read_text(encoding="utf-8") == model_card(Run(folder))


def test_there_is_a_shipped_model_card():
    assert SHIPPED


def test_what_the_card_says_of_size_follows_the_configuration(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(SHIPPED[0], folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / CONFIG).read_bytes())
    for size_mm, words in ((0.0, "Size has no part in the score."), (5.0, "asks for size as well")):
        (folder / CONFIG).write_text(json.dumps({**config, "score_size_mm": size_mm}))
        assert words in model_card(Run(folder))


def test_none_among_few_says_little():
    assert upper_bound_of_none(1) == pytest.approx(0.95)
    assert (1 - upper_bound_of_none(169)) ** 169 == pytest.approx(0.05)
