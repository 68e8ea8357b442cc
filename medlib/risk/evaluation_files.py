"""What a run's ``evaluation/`` folder holds, and how it is read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pandas as pd

from medlib.baseline.run import CARD, Run
from medlib.baseline.stored_predictions import METHODS
from medlib.cohorts.cohort import Cohort
from medlib.errors import RunError
from medlib.paths import REFERENCE_RUNS
from medlib.risk.intervals import Estimate
from medlib.risk.matching import IDS, Matching
from medlib.risk.metrics import select

FOLDER, KEY = "evaluation", "key.txt"
OPERATING_POINT, METRICS_FILE = "operating_point.json", "metrics.json"
TABLES = ("lesions", "candidates", "cases")
REAL_VOIS, REAL_SCANS = "real-vois.json", "real-scans.json"
HELD_OUT = ("test", "external")  # internal and external testing
TEXT_COLUMNS = (*IDS, "lesion_id", "outcome", "status", "origin")
COLUMN_TYPES = dict.fromkeys(TEXT_COLUMNS, "str") | {
    "reported": "bool",
    "matched_candidate": "Int64",
}


@dataclass(frozen=True)
class Evaluation:
    """The methods of a run on the tune part and on held-out patients.

    By method: the tables of `medlib.risk.metrics.at_operating_point`, and the lowest score that is
    reported, chosen on the tune part. Metrics are those of `METRICS`, by part of `HELD_OUT`.
    """

    run: Run
    cohort: Cohort
    lesions: dict[str, pd.DataFrame]
    candidates: dict[str, pd.DataFrame]
    cases: dict[str, pd.DataFrame]
    operating_point: dict[str, float]
    metrics: dict[str, dict[str, dict[str, Estimate]]]

    def matching(self, method: str = "network", **values: str) -> Matching:
        """Return a method's tables, cut as by `select`."""
        tables = Matching(self.lesions[method], self.candidates[method], self.cases[method])
        return select(tables, **values)


def read_evaluation(run: Run, cohort: Cohort) -> Evaluation:
    """Read the evaluation that stands in the run folder."""
    folder = run.folder / FOLDER
    metrics = {
        method: {
            part: {name: Estimate.of(stored) for name, stored in names.items()}
            for part, names in parts.items()
        }
        for method, parts in json.loads((folder / METRICS_FILE).read_bytes()).items()
        if method in METHODS
    }
    lesions, candidates, cases = (
        {
            method: read_rows((folder / f"{method}-{name}.csv").read_text(encoding="utf-8"))
            for method in metrics
        }
        for name in TABLES
    )
    thresholds = json.loads((folder / OPERATING_POINT).read_bytes())
    return Evaluation(run, cohort, lesions, candidates, cases, thresholds, metrics)


def read_rows(csv: str) -> pd.DataFrame:
    """Read a table as it was written: ids stay text, and floats keep every bit."""
    table = pd.read_csv(
        StringIO(csv),
        dtype=COLUMN_TYPES,
        keep_default_na=False,
        na_values=[""],
        float_precision="round_trip",
    )
    text = [name for name in TEXT_COLUMNS if name in table]
    return table.fillna(dict.fromkeys(text, ""))


def operating_point(run: Run) -> float:
    """Return the lowest score that a run reports."""
    path = run.folder / FOLDER / OPERATING_POINT
    if not path.is_file():
        raise RunError(f"{run.folder}: the run was never evaluated; make one with: medlib train")
    return float(json.loads(path.read_bytes())["network"])


def shipped_run() -> Path:
    """Return the reference run that comes with the project: the newest that saw real CT."""
    complete = [
        folder
        for folder in sorted(REFERENCE_RUNS.glob("[!.]*"))  # a run that is being made has a dot
        if (folder / CARD).is_file() and (folder / FOLDER / OPERATING_POINT).is_file()
    ]
    if not complete:
        raise RunError(
            f"no reference run in {REFERENCE_RUNS.name}/: name a run folder with --run, or make "
            "one with: medlib train"
        )

    def rank(folder: Path) -> tuple[bool, str]:
        card = Run(folder).card
        return "real_ct" in card["data"], str(card["time"]["finished"])

    return max(complete, key=rank)
