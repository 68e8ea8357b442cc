"""`data_manifests/phantom.json`: what the patients of a phantom cohort have to be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medlib.cohorts import phantom_cohorts
from medlib.cohorts.case_folders import open_table
from medlib.cohorts.cohort import Cohort, receipts
from medlib.cohorts.phantom_receipts import (
    LESION_VOXELS_TOLERANCE,
    MANIFEST,
    MEAN_HU_TOLERANCE,
    SD_HU_TOLERANCE,
    Receipt,
)
from medlib.files import write_file


def rewrite(profile: str = "quick", seed: int = 0) -> Path:
    """Make the cohort afresh where needed and write its receipts to the manifest."""
    name, folder = phantom_cohorts.made(profile, seed)
    recipe = {"seed": seed, **phantom_cohorts.made_by(phantom_cohorts.sized(profile))}
    return write_manifest(name, receipts(Cohort(name, folder, open_table(folder))), recipe)


def write_manifest(
    cohort_name: str,
    receipts: Mapping[str, Receipt],
    recipe: Mapping[str, Any],
    manifest: Path | None = None,
) -> Path:
    """Write what a cohort has to be; what else the manifest says stays."""
    path = manifest or MANIFEST
    content = json.loads((path if path.is_file() else MANIFEST).read_text(encoding="utf-8"))
    content["tolerance"] = {
        "hu_mean": MEAN_HU_TOLERANCE,
        "hu_sd": SD_HU_TOLERANCE,
        "lesion_voxels_relative": LESION_VOXELS_TOLERANCE,
    }
    cases = {case_id: asdict(receipt) for case_id, receipt in sorted(receipts.items())}
    content["cohorts"][cohort_name] = {"recipe": dict(recipe), "cases": cases}
    write_file(path, json.dumps(content, indent=1) + "\n")
    return path
