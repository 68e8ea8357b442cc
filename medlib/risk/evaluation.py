"""The evaluation of a run: found where it was made from the same inputs, made where not."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medlib.baseline import processes
from medlib.baseline.run import Run, find_or_make_run
from medlib.baseline.stored_predictions import METHODS, predictions
from medlib.cohorts.cohort import Cohort, cohort_key, open_cohort
from medlib.cohorts.splits import check_disjoint
from medlib.keys import code_key, digest
from medlib.risk.bootstrap import Estimate
from medlib.risk.matching import Matching, concatenate, match_case
from medlib.risk.metrics import METRICS, at_operating_point, estimate, select
from medlib.risk.operating_point import choose_operating_point

FOLDER, OPERATING_POINT, METRICS_FILE, KEY = (
    "evaluation",
    "operating_point.json",
    "metrics.json",
    "key.txt",
)
TABLES = ("lesions", "candidates", "cases")
REAL_VOIS, REAL_SCANS = "real-vois.json", "real-scans.json"
HELD_OUT = ("test", "external")  # internal and external testing


@dataclass(frozen=True)
class Evaluation:
    """Every method of a run on the tune part and on held-out patients.

    Attributes
    ----------
    run : Run
    cohort : Cohort
    lesions, candidates, cases : dict of str to DataFrame
        By method, at its operating point; columns in `medlib.risk.matching.Matching` and
        `medlib.risk.metrics.at_operating_point`.
    operating_point : dict of str to float
        Lowest score that is reported, by method; chosen on the tune part.
    metrics : dict
        ``metrics[method][part][name]`` is an `Estimate`; parts are `HELD_OUT`, names those of
        `medlib.risk.metrics.METRICS`.
    """

    run: Run
    cohort: Cohort
    lesions: dict[str, pd.DataFrame]
    candidates: dict[str, pd.DataFrame]
    cases: dict[str, pd.DataFrame]
    operating_point: dict[str, float]
    metrics: dict[str, dict[str, dict[str, Estimate]]]

    def matching(self, method: str = "network", **values: str) -> Matching:
        """Return a method's tables, cut to the rows with these values: ``split="test"``."""
        tables = Matching(self.lesions[method], self.candidates[method], self.cases[method])
        return select(tables, **values)


def evaluated_run(
    profile: str = "quick",
    dataset: str = "phantom",
    seed: int = 0,
    run_dir: Path | None = None,
    changes: Sequence[str] = (),
) -> Evaluation:
    """Return a run with its evaluation; make what there is not. Prints which it was.

    Parameters
    ----------
    profile, dataset, seed, run_dir, changes
        As `medlib.baseline.run.find_or_make_run` takes them.

    Raises
    ------
    OverlapError
        Where a patient stands in two parts of the cohort.
    RunError
        As `find_or_make_run`.
    """
    run = find_or_make_run(profile, dataset, seed, run_dir, changes)
    if processes.rank():
        raise SystemExit(0)  # the first process of a training evaluates
    cohort = open_cohort(dataset, run.config.cohort, seed)
    folder = run.folder / FOLDER
    key = evaluation_key(run, cohort)
    stored = folder / KEY
    if stored.is_file() and stored.read_text(encoding="utf-8") == key:
        print(f"found the evaluation of {run.folder.name}")
    else:
        make_evaluation(run, cohort, folder, key)
        print(f"made the evaluation of {run.folder.name}")
    return read_evaluation(run, cohort)


def evaluation_key(run: Run, cohort: Cohort) -> str:
    """Return the digest of all that an evaluation rests on: weights, cohort and code."""
    return digest(
        run.model_key(),
        cohort_key(cohort),
        code_key("medlib.risk.evaluation"),
    )


def evaluate_method(run: Run, cohort: Cohort, method: str) -> tuple[Matching, float]:
    """Match one method's candidates and choose its operating point on the tune part."""
    matched = concatenate(
        [match_case(case, found) for case, found in predictions(run, cohort, method)]
    )
    tune = select(matched, split="tune")
    threshold = choose_operating_point(tune.cases, tune.candidates)
    return at_operating_point(matched, threshold), threshold


def make_evaluation(run: Run, cohort: Cohort, folder: Path, key: str) -> None:
    """Evaluate every method and put the results in place of what stood in `folder`."""
    check_disjoint(cohort.table)
    beside = folder.parent / f".{folder.name}.{os.getpid()}"
    old = beside.with_name(beside.name + ".old")
    try:
        beside.mkdir()
        _write_evaluation(run, cohort, beside)
        (beside / KEY).write_text(key, encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _write_evaluation(run: Run, cohort: Cohort, folder: Path) -> None:
    thresholds: dict[str, float] = {}
    metrics: dict[str, Any] = {}
    for method in METHODS:
        matched, thresholds[method] = evaluate_method(run, cohort, method)
        for name in TABLES:
            getattr(matched, name).to_csv(folder / f"{method}-{name}.csv", index=False)
        metrics[method] = {
            part: {name: for_json(estimate(name, select(matched, split=part))) for name in METRICS}
            for part in HELD_OUT
        }
    _write_json(folder / OPERATING_POINT, thresholds)
    _write_json(folder / METRICS_FILE, metrics)


def read_evaluation(run: Run, cohort: Cohort) -> Evaluation:
    """Read the evaluation that stands in the run folder."""
    folder = run.folder / FOLDER
    metrics = {
        method: {
            part: {name: _from_json(stored) for name, stored in names.items()}
            for part, names in parts.items()
        }
        for method, parts in json.loads((folder / METRICS_FILE).read_bytes()).items()
    }
    lesions, candidates, cases = (
        {method: _read_table(folder / f"{method}-{name}.csv") for method in metrics}
        for name in TABLES
    )
    thresholds = json.loads((folder / OPERATING_POINT).read_bytes())
    return Evaluation(run, cohort, lesions, candidates, cases, thresholds, metrics)


TEXT_COLUMNS = (
    "case_id",
    "patient_id",
    "site",
    "split",
    "lesion_id",
    "outcome",
    "status",
    "origin",
)
COLUMN_TYPES = dict.fromkeys(TEXT_COLUMNS, "str") | {
    "reported": "bool",
    "matched_candidate": "Int64",
}


def _read_table(path: Path) -> pd.DataFrame:
    """Read a table as it was written: ids stay text, and floats keep every bit."""
    table = pd.read_csv(
        path,
        dtype=COLUMN_TYPES,
        keep_default_na=False,
        na_values=[""],
        float_precision="round_trip",
    )
    text = [name for name in TEXT_COLUMNS if name in table]
    return table.fillna(dict.fromkeys(text, ""))


def for_json(found: Estimate) -> dict[str, Any]:
    """Return an estimate for a file: undefined is null."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in asdict(found).items()
    }


def _from_json(stored: dict[str, Any]) -> Estimate:
    numbers = {
        name: float("nan") if stored[name] is None else float(stored[name])
        for name in ("value", "low", "high")
    }
    return Estimate(**numbers, n=stored["n"], unit=stored["unit"], method=stored["method"])


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
