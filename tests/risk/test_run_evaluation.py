from __future__ import annotations

import json
import multiprocessing
import os
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from medlib.annotation.case import LESION_COLUMNS, Case
from medlib.baseline.candidates import CANDIDATE_COLUMNS, Prediction
from medlib.baseline.config import train_config
from medlib.cohorts.cohort import Cohort
from medlib.errors import OverlapError, RunError
from medlib.images.volume import SeriesIdentity, Volume
from medlib.risk import run_evaluation
from medlib.risk.matching import concatenate, match_case
from medlib.risk.metrics import METRICS, at_operating_point

SHAPE = (3, 10, 30)
SPLITS = ["tune", "tune", "test", "test", "external", "external"]


def toy_case(number):
    """Build a patient with one lesion that two readers drew alike."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 2:6, 2:8] = 1
    name = f"c{number}"
    lesions = pd.DataFrame([dict.fromkeys(LESION_COLUMNS, 3.0)]).assign(
        lesion_id=f"{name}-1", label=1, n_readers=2, origin="made here"
    )
    volume = Volume(np.zeros(SHAPE, np.float32), np.eye(4), SeriesIdentity(name, "1.2", "1.2.3"))
    return Case(name, name, "NA", SPLITS[number], volume, labels * 3, labels, lesions)


def toy_prediction(number, method):
    """Mark the lesion with certainty, and elsewhere with a score that falls with the number."""
    labels = np.zeros(SHAPE, np.uint16)
    rows = []
    if method != "empty":
        labels[1, 2:6, 2:7] = 1
        labels[1, 2:6, 20:24] = 2
        labels[1, 8:9, 12:14] = 3
        scores = (0.9 if number % 2 == 0 else 0.2, 0.6 - number / 100, 0.5)
        rows = [
            dict.fromkeys(CANDIDATE_COLUMNS, 1.0) | {"candidate_id": i, "score": score}
            for i, score in enumerate(scores, start=1)
        ]
    table = pd.DataFrame(rows, columns=list(CANDIDATE_COLUMNS))
    return Prediction(np.zeros(SHAPE, np.float16), labels, table)


@dataclass(frozen=True)
class ToyCohort(Cohort):
    all_cases: tuple[Case, ...] = ()

    def case(self, case_id):
        return self.all_cases[int(case_id[1:])]


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Stand in for a run and a cohort; what is tested is what is made of their predictions."""
    cases = [toy_case(number) for number in range(len(SPLITS))]
    table = pd.DataFrame(
        [
            {name: getattr(c, name) for name in ("case_id", "patient_id", "site", "split")}
            for c in cases
        ]
    )
    run = SimpleNamespace(
        folder=tmp_path / "run",
        weights="w0",
        config=train_config("gpu"),  # its cohort has another name than the profile
        model_key=lambda: run.weights,
        card={"keys": {"cohort": "toy"}},
    )
    run.folder.mkdir()
    calls = []

    def stored_predictor(run, cohort, method):
        calls.append(method)
        return lambda case: toy_prediction(int(case.case_id[1:]), method)

    for case in cases:
        (tmp_path / case.case_id).mkdir()
        (tmp_path / case.case_id / "receipt.json").write_text('{"voxels": {}}')
    cohort = ToyCohort("toy", tmp_path, table, tuple(cases))
    monkeypatch.setattr(run_evaluation, "Run", lambda _: run)
    monkeypatch.setattr(run_evaluation, "find_or_make_run", lambda *a: run)
    monkeypatch.setattr(run_evaluation, "open_data", lambda *_: (cohort, cohort))
    monkeypatch.setattr(run_evaluation, "stored_predictor", stored_predictor)
    return SimpleNamespace(run=run, cohort=cohort, calls=calls, cases=list(enumerate(cases)))


def test_one_process_of_a_training_evaluates(world, monkeypatch):
    monkeypatch.setattr(run_evaluation.processes, "rank", lambda: 1)
    with pytest.raises(SystemExit) as caught:
        run_evaluation.evaluated_run()
    assert caught.value.code == 0
    assert not world.calls


def test_made_once_then_found(world, capsys):
    made = run_evaluation.evaluated_run()
    assert capsys.readouterr().out == "made the evaluation of run\n"
    found = run_evaluation.evaluated_run()
    assert capsys.readouterr().out == "found the evaluation of run\n"
    assert world.calls == ["network", "threshold", "empty"]
    for method in world.calls:
        for name in run_evaluation.TABLES:
            pd.testing.assert_frame_equal(getattr(made, name)[method], getattr(found, name)[method])
    assert [path.name for path in world.run.folder.iterdir()] == ["evaluation"], "nothing is left"


def test_what_stands_is_read_without_a_lock_and_without_a_write(world, monkeypatch):
    run_evaluation.evaluated_run()
    before = {path: path.stat().st_mtime_ns for path in world.run.folder.rglob("*")}
    monkeypatch.setattr(run_evaluation, "lock_on", lambda _: pytest.fail("a lock was taken"))
    run_evaluation.evaluated_run()
    assert {path: path.stat().st_mtime_ns for path in world.run.folder.rglob("*")} == before


def test_of_two_processes_one_evaluates_and_the_other_reads(world, monkeypatch, tmp_path):
    """Forked, so that both stand in this world; a threshold takes time, so that they meet."""
    choose = run_evaluation.choose_operating_point

    def slowly(*tables):
        with (tmp_path / "chosen").open("a") as counter:
            counter.write(f"{os.getpid()}\n")
        time.sleep(0.3)
        return choose(*tables)

    monkeypatch.setattr(run_evaluation, "choose_operating_point", slowly)
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=run_evaluation.evaluated_run) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    chosen = (tmp_path / "chosen").read_text().split()
    assert len(chosen) == 3, "once a method"
    assert len(set(chosen)) == 1
    assert [path.name for path in world.run.folder.iterdir()] == ["evaluation"]


def test_a_run_made_again_meanwhile_is_not_evaluated_as_the_old_one(world, monkeypatch):
    other = SimpleNamespace(**{**vars(world.run), "card": {"keys": {"cohort": "another"}}})
    monkeypatch.setattr(run_evaluation, "Run", lambda _: other)
    with pytest.raises(RunError, match="made again from other inputs meanwhile"):
        run_evaluation.evaluated_run()
    assert not world.calls


def test_other_weights_make_it_stale(world, capsys):
    run_evaluation.evaluated_run()
    world.run.weights = "w1"
    run_evaluation.evaluated_run()
    assert capsys.readouterr().out.count("made") == 2


def test_tables_read_back_as_they_were_made(world):
    found = run_evaluation.evaluated_run()
    fresh = concatenate([match_case(c, toy_prediction(n, "network")) for n, c in world.cases])
    fresh = at_operating_point(fresh, found.operating_point["network"])
    for name in run_evaluation.TABLES:
        expected, stored = getattr(fresh, name), getattr(found, name)["network"]
        pd.testing.assert_frame_equal(stored, expected, check_dtype=False, check_exact=True)
    assert set(found.cases["network"]["site"]) == {"NA"}, "a site may be called NA"
    assert found.candidates["network"]["lesion_id"].eq("").any(), "a false alarm has no lesion"


def test_the_operating_point_is_that_of_the_tune_part(world):
    found = run_evaluation.evaluated_run()
    # Tune has the false alarms 0.60, 0.50, 0.59, 0.50: two are allowed, so 0.50 is one too many.
    assert found.operating_point["network"] == pytest.approx(0.5)
    assert found.operating_point["network"] > 0.5
    assert found.operating_point["empty"] == 0.0
    test = found.metrics["network"]["test"]
    assert test["lesion_sensitivity"].value == 0.5
    assert test["false_alarms_per_scan"].value == 1.0
    assert test["lesion_sensitivity"].n == 2


def test_what_is_stored_is_plain_json(world):
    run_evaluation.evaluated_run()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    for name in ("metrics.json", "operating_point.json"):
        text = (world.run.folder / "evaluation" / name).read_text()
        stored = json.loads(text, parse_constant=refuse)
        assert set(stored) == {"network", "threshold", "empty"}
    empty = json.loads((world.run.folder / "evaluation" / "metrics.json").read_text())["empty"]
    assert set(empty) == {"test", "external"}
    assert set(empty["test"]) == set(METRICS)
    assert empty["test"]["matched_dice"]["value"] is None
    assert empty["test"]["lesion_sensitivity"]["value"] == 0


def test_a_method_that_marks_nothing_is_read_back_too(world):
    found = run_evaluation.evaluated_run()
    part = found.matching("empty", split="test")
    assert len(part.candidates[part.candidates["reported"]]) == 0
    assert part.lesions["missed"].tolist() == [1, 1]
    assert found.metrics["empty"]["test"]["accuracy"].value == pytest.approx(1 - 24 / 900)


def test_a_patient_in_two_parts_is_refused(world, monkeypatch):
    table = world.cohort.table
    twice = pd.concat([table, table.iloc[[0]].assign(split="test")], ignore_index=True)
    cohort = replace(world.cohort, table=twice)
    monkeypatch.setattr(run_evaluation, "open_data", lambda *_: (cohort, cohort))
    with pytest.raises(OverlapError):
        run_evaluation.evaluated_run()
    assert not list(world.run.folder.iterdir())


def test_a_failure_leaves_the_old_evaluation(world, monkeypatch):
    run_evaluation.evaluated_run()
    world.run.weights = "w1"
    monkeypatch.setattr(run_evaluation, "estimate", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_evaluation.evaluated_run()
    assert (world.run.folder / "evaluation" / "key.txt").is_file()
    world.run.weights = "w0"
    assert run_evaluation.evaluated_run().metrics


def test_the_key_holds_code_weights_and_cohort(world, monkeypatch, capsys):
    run_evaluation.evaluated_run()
    monkeypatch.setattr(run_evaluation, "code_key", lambda *modules: "another code")
    run_evaluation.evaluated_run()
    (world.cohort.folder / "c0" / "receipt.json").write_text('{"voxels": {"ct": "other"}}')
    run_evaluation.evaluated_run()
    assert capsys.readouterr().out.count("made") == 3
