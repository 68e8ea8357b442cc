from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from toy import ToyCohort, toy_cohort

from medlib.baseline import make_run, run
from medlib.baseline import stored_predictions as predictions
from medlib.baseline.config import TrainConfig
from medlib.baseline.make_run import find_or_make_run
from medlib.cohorts.cohort import cohort_key
from medlib.errors import OverlapError, RunError

EVIDENCE_CARD = {"task_output", "artifacts", "metric", "failure_check", "expected_output"}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, cohort: ToyCohort, tiny: TrainConfig) -> dict:
    """Make runs take a second: a few steps on toy patients. The state may be changed by a test."""
    state = {
        "config": tiny.model_copy(update={"steps": 2, "tune_every": 2, "batch_size": 2}),
        "cohort": cohort,
    }
    monkeypatch.setattr(
        make_run,
        "train_config",
        lambda _, seed, __: state["config"].model_copy(update={"seed": seed}),
    )
    monkeypatch.setattr(make_run, "open_cohort", lambda *_: state["cohort"])
    return state


def test_a_profile_that_learns_from_real_ct_is_not_trained_on_the_phantom(tmp_path):
    with pytest.raises(RunError, match="'lidc' learns from real CT: use --dataset lidc-voi"):
        find_or_make_run("lidc", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("setting", ["voi_crops", "scan_crops", "mass_crops"])
def test_what_needs_real_ct_cannot_be_set_on_the_phantom(tmp_path, setting):
    with pytest.raises(RunError, match="'quick' learns from real CT"):
        find_or_make_run("quick", run_dir=tmp_path / "run", changes=[f"{setting}=0.1"])


def test_other_settings_make_another_run_with_a_name_of_its_own(tmp_path, monkeypatch, cohort):
    small = ("steps=2", "tune_every=2", "decoder_channels=[16, 8, 8, 4, 4]", "pretrained=false")
    monkeypatch.setattr(make_run, "open_cohort", lambda *_: cohort)
    monkeypatch.setattr(make_run, "RUNS", tmp_path)
    made = find_or_make_run("quick", seed=3, changes=[*small, "loss=focal"])
    assert (made.config.loss, made.config.steps) == ("focal", 2)
    assert made.config.decoder_channels == (16, 8, 8, 4, 4)
    assert made.folder.parent == tmp_path
    assert made.folder.name.startswith("phantom-quick-seed3-steps-2-")
    assert made.folder.name.endswith("loss-focal")


def test_a_run_is_made_once_and_then_found(quick, tmp_path: Path, capsys):
    folder = tmp_path / "runs" / "first"
    made = find_or_make_run("quick", seed=0, run_dir=folder)
    assert capsys.readouterr().out.startswith("made the run first in")
    written = (folder / "weights.safetensors").stat().st_mtime_ns
    found = find_or_make_run("quick", seed=0, run_dir=folder)
    assert capsys.readouterr().out.startswith("found the run first, made")
    assert (folder / "weights.safetensors").stat().st_mtime_ns == written
    assert found == made
    assert [p.name for p in folder.parent.iterdir()] == ["first"]  # nothing left beside


def test_what_stands_is_found_without_a_lock_and_without_a_write(quick, tmp_path, monkeypatch):
    made = find_or_make_run("quick", seed=0, run_dir=tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr(make_run, "lock_on", lambda _: pytest.fail("a lock was taken"))
    assert find_or_make_run("quick", seed=0, run_dir=tmp_path / "run") == made
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_folder_holds_configuration_weights_history_and_card(quick, tmp_path: Path):
    made = find_or_make_run("quick", seed=0, run_dir=tmp_path / "run")
    assert {p.name for p in made.folder.iterdir()} == {
        "config.json",
        "weights.safetensors",
        "history.csv",
        "card.json",
    }
    assert made.config == quick["config"]
    assert list(made.history["step"]) == [2]
    with safe_open(made.folder / "weights.safetensors", "pt") as stored:
        kinds = {stored.get_tensor(key).dtype for key in stored.keys()}  # noqa: SIM118
    assert kinds == {torch.float16, torch.int64}


def test_a_card_cut_short_is_told(quick, tmp_path: Path):
    made = find_or_make_run("quick", seed=0, run_dir=tmp_path / "run")
    (made.folder / "card.json").write_text('{"seed": 0, ')
    with pytest.raises(RunError, match=r"run has a card\.json that is no JSON"):
        find_or_make_run("quick", seed=0, run_dir=tmp_path / "run")


def test_the_card_says_what_was_made_from_what(quick, cohort: ToyCohort, tmp_path: Path):
    card = find_or_make_run("quick", seed=0, run_dir=tmp_path / "run").card
    assert set(list(card)[:5]) == EVIDENCE_CARD
    assert card["data"]["patients"] == {
        "train": ["toy-0", "toy-1", "toy-2"],
        "tune": ["toy-3"],
        "test": ["toy-4"],
    }
    assert card["data"]["cohort_sha256"] == cohort_key(cohort)
    assert card["seed"] == 0
    assert card["time"]["steps"] == 2
    assert {"python", "torch", "device", "precision"} <= set(card["environment"])
    assert len(card["model"]["sha256"]) == 64
    assert str(tmp_path) not in json.dumps(card)


def test_a_run_of_other_inputs_is_made_again_and_says_why(quick, tmp_path: Path, capsys):
    folder = tmp_path / "run"
    first = find_or_make_run("quick", seed=0, run_dir=folder).weights_sha256()
    (folder / "predictions").mkdir()
    quick["config"] = quick["config"].model_copy(update={"learning_rate": 1e-3})
    capsys.readouterr()
    again = find_or_make_run("quick", seed=0, run_dir=folder)
    assert "(another configuration)" in capsys.readouterr().out
    assert again.weights_sha256() != first
    assert not (folder / "predictions").exists()  # what an older run predicted is gone with it


def test_another_cohort_and_other_code_make_a_run_stale(quick, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    find_or_make_run("quick", seed=0, run_dir=folder)
    annotated_again = toy_cohort(tmp_path / "other-cohort")
    (annotated_again.folder / "case-toy-0" / "readers.nii.gz").write_bytes(b"other outlines")
    quick["cohort"] = annotated_again
    find_or_make_run("quick", seed=0, run_dir=folder)
    assert "(another cohort)" in capsys.readouterr().out
    monkeypatch.setattr(make_run, "code_key", lambda *modules: "another code")
    find_or_make_run("quick", seed=0, run_dir=folder)
    assert "(another training code)" in capsys.readouterr().out


def test_a_folder_of_something_else_is_left_alone(quick, tmp_path: Path):
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(RunError, match="it is no run"):
        find_or_make_run("quick", run_dir=tmp_path)
    assert (tmp_path / "letters.txt").read_text() == "mine"


def test_a_run_without_its_weights_says_so(quick, tmp_path: Path):
    made = find_or_make_run("quick", seed=0, run_dir=tmp_path / "run")
    (made.folder / "weights.safetensors").unlink()
    with pytest.raises(RunError, match=r"no weights\.safetensors: delete the folder"):
        made.load_network()


def test_a_patient_on_both_sides_stops_the_training(quick, cohort: ToyCohort, tmp_path: Path):
    moved = dataclasses.replace(cohort.all_cases[-1], patient_id="toy-0")
    quick["cohort"] = ToyCohort((*cohort.all_cases[:-1], moved), cohort.folder)
    with pytest.raises(OverlapError):
        find_or_make_run("quick", seed=0, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", predictions.METHODS)
def test_predictions_are_made_once_and_again_when_stale(
    quick, cohort: ToyCohort, tmp_path: Path, monkeypatch, method: str
):
    made = find_or_make_run("quick", seed=0, run_dir=tmp_path / "run")
    first = list(predictions.predictions(made, cohort, method))
    assert [case.split for case, _ in first] == ["tune", "test"]
    paths = sorted((made.folder / "predictions" / method).iterdir())
    assert [p.name for p in paths] == ["case-toy-3.npz", "case-toy-4.npz"]
    times = [p.stat().st_mtime_ns for p in paths]
    for (_, a), (_, b) in zip(first, predictions.predictions(made, cohort, method), strict=True):
        assert np.array_equal(a.probability, b.probability)
        assert a.candidates.to_numpy() == pytest.approx(b.candidates.to_numpy())
    assert [p.stat().st_mtime_ns for p in paths] == times
    monkeypatch.setattr(predictions, "code_key", lambda *modules: "another code")
    list(predictions.predictions(made, cohort, method))
    assert all(p.stat().st_mtime_ns > t for p, t in zip(paths, times, strict=True))


def test_a_patient_trained_on_cannot_be_tested_on(quick, cohort: ToyCohort, tmp_path: Path):
    made = find_or_make_run("quick", seed=0, run_dir=tmp_path / "run")
    moved = dataclasses.replace(cohort.all_cases[0], split="test")
    with pytest.raises(OverlapError, match="toy-0 of the 'test' part was trained on"):
        list(predictions.predictions(made, ToyCohort((moved,), cohort.folder), "empty", ["test"]))


def test_an_unknown_method_is_refused(quick, cohort: ToyCohort, tmp_path: Path):
    made = find_or_make_run("quick", seed=0, run_dir=tmp_path / "run")
    with pytest.raises(ValueError, match="expected one of network, threshold, empty"):
        next(predictions.predictions(made, cohort, "oracle"))


@pytest.mark.parametrize("changed", [{"score_quantile": 0.95}, {"steps": 0}])
def test_a_run_of_another_version_is_refused_in_one_line(quick, tmp_path: Path, changed):
    folder = find_or_make_run("quick", seed=0, run_dir=tmp_path / "run").folder
    path = folder / run.CONFIG
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changed}))
    with pytest.raises(RunError, match="made by another version of medlib") as refused:
        _ = run.Run(folder).config
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_card_says_what_chose_the_weights(quick, tmp_path: Path, keep):
    quick["config"] = quick["config"].model_copy(update={"keep": keep})
    card = find_or_make_run("quick", seed=0, run_dir=tmp_path / "run").card
    assert (card["metric"]["chosen_on"] == "tune") == (keep == "best")
