"""What a label policy does to the model that learns from it: the table that the book reads.

`policy_models` has the study; ``python -m studies label-policies`` makes its table anew.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from medlib import paths, progress
from medlib.annotation.table_cache import stored_tables
from medlib.cohorts import phantom_receipts as manifest
from medlib.cohorts.cohort import Cohort, receipts
from medlib.files import write_file
from medlib.keys import code_key, digest
from studies.policy_models import blocks_of, cross_validate

TABLE, KEY = "lesions.csv", "key.txt"


def results(cohort: Cohort) -> pd.DataFrame:
    """Return `cross_validate` of a cohort's lesions: the committed table, or one made now.

    The committed table is used where its key fits the code and the cohort; otherwise the study
    runs (about a minute) and its table is kept beside the cohorts. One line says which.
    """
    key = study_key(cohort)
    folder = committed(cohort)
    if (folder / KEY).is_file() and (folder / KEY).read_text().strip() == key:
        print(f"policy study of {cohort.name}: found in reference_runs")
        return pd.read_csv(folder / TABLE)
    print(f"policy study of {cohort.name}: not in reference_runs for this cohort and code")
    return stored_tables("policy-study", key, lambda: {"lesions": _run(cohort)})["lesions"]


def write_results(cohort: Cohort) -> Path:
    """Run the study; write the table to commit, with its key."""
    folder = committed(cohort)
    write_file(folder / TABLE, _run(cohort).to_csv(index=False, float_format="%.4g"))
    write_file(folder / KEY, study_key(cohort) + "\n")
    return folder / TABLE


def committed(cohort: Cohort) -> Path:
    """Return the folder of the committed table."""
    return paths.REFERENCE_RUNS / f"policy-study-{cohort.name}"


def study_key(cohort: Cohort) -> str:
    """Return the digest of the study's code and of the cohort's voxels."""
    # The manifest's checksums where there are any: another processor may round one voxel apart.
    known = manifest.expected_receipts(cohort.name) or receipts(cohort)
    voxels = json.dumps({case: asdict(known[case]) for case in sorted(known)})
    return digest(code_key("studies.policy_models"), voxels)[:16]


def _run(cohort: Cohort) -> pd.DataFrame:
    cases = progress.track(cohort.cases(), "lesions cut out", total=len(cohort.table))
    return cross_validate([block for case in cases for block in blocks_of(case)])
