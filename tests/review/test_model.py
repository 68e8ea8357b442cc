from __future__ import annotations

import json

import pytest

from medlib.baseline.run import Run
from medlib.errors import RunError
from medlib.paths import REFERENCE_RUNS
from medlib.review import model as model_module
from medlib.review.model import (
    PHANTOM_WARNING,
    REAL_WARNING,
    default_run,
    held_out_metrics,
    load_model,
)
from medlib.risk import evaluation_files
from medlib.risk.summary import PRELIMINARILY_USABLE, TOO_MANY_MISSED, UNDEFINED


def test_load_model_takes_all_from_the_run_folder(tmp_path, write_run):
    model = load_model(write_run(tmp_path / "mine"))
    assert model.identity.name == "toy net, run mine"
    assert model.identity.sha256 == Run(tmp_path / "mine").weights_sha256()
    assert model.operating_point == 0.4
    assert model.risk_statement == PRELIMINARILY_USABLE
    assert model.warnings == (PHANTOM_WARNING,)
    assert model.most_marks == 2  # of the tune part nothing counts
    assert model.config.profile == "quick"


def test_no_phantom_warning_for_other_data(tmp_path, write_run):
    assert load_model(write_run(tmp_path / "mine", cohort="lidc")).warnings == ()


def test_the_phantom_in_the_place_of_real_ct_is_a_phantom(tmp_path, write_run):
    card = json.loads((REFERENCE_RUNS / "lidc-phantom-seed0" / "card.json").read_bytes())
    folder = write_run(tmp_path / "mine", cohort=card["data"]["cohort"])
    assert load_model(folder).warnings == (PHANTOM_WARNING,)


def test_a_run_on_real_ct_says_how_far_it_was_tested(tmp_path, write_run):
    folder = write_run(tmp_path / "mine", cohort="lidc")
    card = json.loads((folder / "card.json").read_bytes())
    card["data"]["real_ct"] = {}
    (folder / "card.json").write_text(json.dumps(card))
    assert load_model(folder).warnings == (REAL_WARNING,)


@pytest.mark.parametrize(
    ("test", "external", "expected"),
    [
        (0.95, 0.92, (0.92, 0.08)),
        (0.80, 0.92, (0.80, 0.20)),
        (0.95, None, (0.95, 0.05)),
    ],
)
def test_the_worse_part_speaks(test, external, expected, part_metrics):
    found = held_out_metrics(part_metrics(test, external))
    assert (found["sensitivity"], found["false_negative_rate"]) == pytest.approx(expected)


def test_statement_follows_the_metrics(tmp_path, write_run, part_metrics):
    folder = write_run(tmp_path / "mine")
    for values, statement in [((0.95, 0.5), TOO_MANY_MISSED), ((None, None), UNDEFINED)]:
        content = json.dumps({"network": part_metrics(*values)})
        (folder / "evaluation" / "metrics.json").write_text(content)
        assert load_model(folder).risk_statement == statement


@pytest.mark.parametrize("name", ["operating_point.json", "metrics.json", "network-candidates.csv"])
def test_a_run_that_was_never_evaluated(tmp_path, name, write_run):
    folder = write_run(tmp_path / "mine")
    (folder / "evaluation" / name).unlink()
    with pytest.raises(RunError, match="never evaluated.*medlib train"):
        load_model(folder)


def test_weights_that_the_card_does_not_know(tmp_path, write_run):
    folder = write_run(tmp_path / "mine")
    with (folder / "weights.safetensors").open("ab") as file:
        file.write(b" ")
    with pytest.raises(RunError, match="the card states"):
        load_model(folder)


def test_not_a_run(tmp_path):
    with pytest.raises(RunError, match=r"no card\.json"):
        load_model(tmp_path)


def test_default_run_is_the_newest_complete_reference_run(tmp_path, monkeypatch, write_run):
    monkeypatch.setattr(evaluation_files, "REFERENCE_RUNS", tmp_path / "reference")
    monkeypatch.setattr(model_module, "RUNS", tmp_path / "runs")
    with pytest.raises(RunError, match="no trained run.*MEDLIB_ROOT.*medlib train"):
        default_run()
    quick = write_run(tmp_path / "runs" / "phantom-quick-seed0")
    assert default_run() == quick
    newer = write_run(tmp_path / "reference" / "a", finished="2026-02-02 00:00 UTC")
    write_run(tmp_path / "reference" / "b", finished="2026-01-01 00:00 UTC")
    broken = write_run(tmp_path / "reference" / "c", finished="2026-03-03 00:00 UTC")
    assert default_run() == broken
    (broken / "card.json").unlink()
    assert default_run() == newer
