from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from medlib.baseline.run import CARD, CONFIG, OUTLINER, Run
from medlib.errors import OverlapError, RunError
from medlib.risk.evaluation_files import shipped_run
from studies.repeated_runs import (
    REAL_SCANS,
    REAL_VOIS,
    found_against_alarms,
    outlines,
    repeats,
    unseen_scans,
)
from tools.model_card import model_card

REPEAT = "left-out/run-seed7-without-Lung_Dx-A0001"


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **values}))


def change_cases(path: Path, **values: object) -> None:
    cases = json.loads(path.read_bytes())["cases"]
    change(path, cases=[{**case, **values} for case in cases])


@pytest.fixture
def reference(tmp_path) -> Path:
    """The evidence of the shipped run, and of one that draws nodules worse and lacks a scan."""
    weightless = shutil.ignore_patterns("*.safetensors", "history.csv")
    for name in ("run", REPEAT):
        shutil.copytree(shipped_run(), tmp_path / name, ignore=weightless)
    again = tmp_path / REPEAT
    change(again / CONFIG, seed=7)
    change_cases(again / "evaluation" / REAL_VOIS, dice=0.5, missed=1)
    change_cases(again / "evaluation" / REAL_SCANS, seen_by_the_run=False, false_alarms=3)
    card = json.loads((again / CARD).read_bytes())
    card["data"]["real_ct"]["scans"] = {"train": ["one"], "tune": ["two"], "test": ["three"]}
    (again / CARD).write_text(json.dumps(card))
    return tmp_path / "run"


def test_a_repeat_is_held_against_the_reference_nodule_by_nodule(reference):
    first, again = outlines(repeats(reference)).itertuples()
    assert (again.run, again.seed, again.scans) == (Path(REPEAT).name, 7, "one, two")
    assert first.difference is None
    assert again.dice.value == 0.5
    assert again.difference.value == pytest.approx(0.5 - first.dice.value)
    assert again.difference.low < again.difference.value < again.difference.high < 0
    stored = json.loads((reference / "evaluation" / REAL_VOIS).read_bytes())
    assert first.missed == sum(case["missed"] for case in stored["cases"])
    assert again.missed == len(stored["cases"])  # nodules, not patients


def test_a_run_of_other_settings_is_named_as_such(reference):
    again = reference.parent / REPEAT
    assert outlines(repeats(reference))["changed"].tolist() == [[], []]
    level = Run(again / OUTLINER).config.candidate_level
    change(again / OUTLINER / CONFIG, steps=7, seed=7, candidate_level=level / 2)
    change(again / CONFIG, mass_crops=0.01)
    assert outlines(repeats(reference))["changed"].tolist() == [[], ["mass_crops", "steps"]]


def test_scans_are_judged_by_the_runs_that_never_saw_them(reference):
    found = unseen_scans(repeats(reference))
    seeds = found.groupby("case")["seed"].agg(list).to_dict()
    assert seeds["LUNG1-001"] == [0, 7]
    assert seeds["Lung_Dx-A0001"] == seeds["pyradiomics-lung2"] == [7]
    assert (found.loc[found["seed"] == 7, "false_alarms"] == 3).all()
    assert np.isnan(found.loc[found["case"] == "Lung_Dx-A0001", "dice"].astype(float)).all()


def test_nodules_reported_are_traced_against_alarms_in_scans_never_seen(reference):
    evidence = reference / "evaluation"
    nodules = json.loads((evidence / REAL_VOIS).read_bytes())["cases"][:4]
    scores = (0.9, 0.6, 0.0, 0.99)
    nodules = [{**row, "search_score": s} for row, s in zip(nodules, scores, strict=True)]
    nodules[3]["seen_by_the_run"] = True
    change(evidence / REAL_VOIS, cases=nodules)
    scans = json.loads((evidence / REAL_SCANS).read_bytes())["cases"][:3]
    alarms = ([0.8, 0.5], [], [0.95])
    scans = [
        {**row, "false_alarm_scores": a, "seen_by_the_run": k == 2}
        for k, (row, a) in enumerate(zip(scans, alarms, strict=True))
    ]
    change(evidence / REAL_SCANS, cases=scans)
    curve = found_against_alarms(reference).set_index("threshold")
    assert curve["sensitivity"].to_dict() == pytest.approx(
        {np.inf: 0, 0.9: 1 / 3, 0.8: 1 / 3, 0.6: 2 / 3, 0.5: 2 / 3}
    )
    assert curve["false_alarms_per_scan"].to_list() == [0, 0, 0.5, 0.5, 1]


def test_the_model_card_tells_of_the_repeats(reference):
    words = model_card(Run(reference))
    assert "| 7 | one, two | none | 0.500 (0.500 to 0.500) |" in words
    assert "| Lung_Dx-A0001 | 7 | yes | 3 | undefined | undefined |" in words
    shutil.rmtree(reference.parent / "left-out")
    assert "Made again" not in model_card(Run(reference))


def test_a_run_of_another_profile_is_no_repeat(reference):
    change(reference.parent / REPEAT / CONFIG, profile="other")
    assert repeats(reference) == [reference]


def test_runs_that_cannot_be_compared_are_refused(reference):
    runs = repeats(reference)
    path = runs[1] / "evaluation" / REAL_VOIS
    cases = json.loads(path.read_bytes())["cases"]
    change(path, cases=cases[1:])
    with pytest.raises(RunError, match="different nodules"):
        outlines(runs)
    change(path, cases=[{**case, "seen_by_the_run": True} for case in cases])
    with pytest.raises(OverlapError, match="patients that it has seen"):
        outlines(runs)
