"""The reference run made again: with another seed, and without one of the whole scans it saw.

What changes with the seed is no property of the method. And what a run does on a scan whose
background it learned says little; here each such scan is judged by a run that never saw it. Only
the evidence of these runs is kept, made by ``medlib train --profile lidc --dataset lidc-voi
--seed SEED --leave-out SCAN``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medlib.baseline.run import OUTLINER, Run
from medlib.errors import OverlapError, RunError
from medlib.risk.evaluation_files import FOLDER, REAL_SCANS, REAL_VOIS
from medlib.risk.intervals import bootstrap_mean
from medlib.risk.operating_point import froc

LEFT_OUT = "left-out"
MAY_DIFFER = ("seed", "candidate_level", "n_workers")  # no other training


def repeats(reference: Path) -> list[Path]:
    """Return a run's folder and those in ``left-out/`` beside it of its profile, by seed."""
    profile = Run(reference).config.profile
    found = (
        path.parent.parent for path in reference.parent.glob(f"{LEFT_OUT}/[!.]*/*/{REAL_VOIS}")
    )
    again = [folder for folder in found if Run(folder).config.profile == profile]
    return [reference, *sorted(again, key=lambda folder: (_seed(folder), folder.name))]


def outlines(runs: list[Path]) -> pd.DataFrame:
    """Hold the runs against the first one, on the nodules that none of them has seen.

    Returns
    -------
    DataFrame
        A row a run: `run`, `seed`, `scans` (whole scans it was trained or tuned on), `changed`
        (settings of the search or of the outlines that are not those of the first run), `dice` and
        `difference` (`Estimate`, nodule by nodule; None for the first), `missed` (nodules).

    Raises
    ------
    RunError
        If the runs were judged on different nodules.
    OverlapError
        If one has seen them.
    """
    first = None
    rows: list[dict[str, Any]] = []
    for folder in runs:
        cases = _cases(folder, REAL_VOIS).set_index("voi_id").sort_index()
        if cases["seen_by_the_run"].any():
            raise OverlapError(f"{folder.name} is judged on nodules of patients that it has seen")
        first = cases if first is None else first
        if list(cases.index) != list(first.index):
            raise RunError(f"{folder.name} and {runs[0].name} were judged on different nodules")
        paired = cases.assign(difference=cases["dice"] - first["dice"])
        scans = Run(folder).card["data"]["real_ct"]["scans"]
        rows.append(
            {
                "run": folder.name,
                "seed": _seed(folder),
                "scans": ", ".join([*scans.get("train", []), *scans.get("tune", [])]),
                "changed": changed_settings(folder, runs[0]),
                "dice": bootstrap_mean(cases, "dice"),
                "difference": bootstrap_mean(paired, "difference") if rows else None,
                "missed": int(cases["missed"].sum()),
            }
        )
    return pd.DataFrame(rows)


def changed_settings(folder: Path, first: Path) -> list[str]:
    """Name the settings of a training that differ from those of another; the seed may.

    The level from which a voxel is marked is chosen by each run, so it does not count.
    """
    changed: set[str] = set()
    for part in ("", OUTLINER):
        a, b = (Run(run / part).config.model_dump() for run in (folder, first))
        changed |= {name for name in a if a[name] != b[name] and name not in MAY_DIFFER}
    return sorted(changed)


def unseen_scans(runs: list[Path]) -> pd.DataFrame:
    """Return how each run did on the whole scans that it has never seen.

    A row a scan and run, by scan: `case`, `run`, `seed`, and what `score_scan` gives.
    """
    tables = [
        _cases(folder, REAL_SCANS).assign(run=folder.name, seed=_seed(folder)) for folder in runs
    ]
    every = pd.concat(tables, ignore_index=True)
    unseen = every[~every["seen_by_the_run"].astype(bool)]
    return unseen.sort_values(["case", "seed"], kind="stable").reset_index(drop=True)


def found_against_alarms(folder: Path) -> pd.DataFrame:
    """Trace nodules reported against false alarms over every score threshold, on real CT.

    As `froc`. The nodules are the held-out ones, searched for in the blocks around them; the false
    alarms are those in whole scans that the run has never seen.
    """
    nodules, scans = (_cases(folder, name) for name in (REAL_VOIS, REAL_SCANS))
    nodules, scans = (table[~table["seen_by_the_run"].astype(bool)] for table in (nodules, scans))
    lesions = nodules[["search_score"]].rename(columns={"search_score": "best_score"})
    lesions = lesions[lesions["best_score"].notna()].replace(0.0, np.nan)  # 0: no candidate
    alarms = pd.DataFrame({"score": scans["false_alarm_scores"].explode().dropna().astype(float)})
    return froc(scans, lesions.assign(status="required"), alarms.assign(outcome="false alarm"))


def _cases(folder: Path, name: str) -> pd.DataFrame:
    return pd.DataFrame(json.loads((folder / FOLDER / name).read_bytes())["cases"])


def _seed(folder: Path) -> int:
    return Run(folder).config.seed
