"""Phantom patients made on disk, once, in the layout of `medlib.cohorts.case_folders`.

Making a cohort can be interrupted: patients that are done stay. One that was made by other code or
from another database is made anew.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import repeat
from pathlib import Path
from typing import Any

import pandas as pd

from medlib import paths, progress
from medlib.annotation.case import Case
from medlib.annotation.reference import MIN_READERS
from medlib.cohorts.case_folders import FILES, TABLE, read_case
from medlib.cohorts.phantom_receipts import RECEIPT, Receipt, read_receipt
from medlib.errors import DataError
from medlib.files import lock_on, put_in_place, sha256_of, write_file
from medlib.images.dicom import write_series
from medlib.images.image_files import write_mask
from medlib.phantom import SITES
from medlib.phantom.cohort_sizes import PROFILES, CohortProfile
from medlib.phantom.recipe import PatientPlan, generator_key, make_case, plan_cohort

NOTE = "cohort.json"
WORKERS = 2


def made(profile: str | CohortProfile, seed: int) -> tuple[str, Path]:
    """Return the name and the folder of a phantom cohort; make it where it is not there yet."""
    chosen = sized(profile)
    name = f"{chosen.name}-seed{seed}"
    folder = paths.DATA / f"phantom-{name}"
    if not _is_current(folder, chosen):
        _make(folder, chosen, seed)
    return name, folder


def sized(profile: str | CohortProfile) -> CohortProfile:
    """Return the profile of this name."""
    if isinstance(profile, CohortProfile):
        return profile
    if profile not in PROFILES:
        raise DataError(f"there is no profile {profile!r}; expected one of {', '.join(PROFILES)}")
    return PROFILES[profile]


def made_by(profile: CohortProfile) -> dict[str, Any]:
    """Say what makes such a cohort: the code and the sizes."""
    return {"generator": generator_key(), "profile": asdict(profile)}


def _is_current(folder: Path, profile: CohortProfile) -> bool:
    note = folder / NOTE
    return note.is_file() and json.loads(note.read_text()) == made_by(profile)


def _make(folder: Path, profile: CohortProfile, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with lock_on(folder):
        if _is_current(folder, profile):
            return  # another process made it while this one waited
        maker = made_by(profile)  # once: the code may change on disk while this runs
        key, plans = maker["generator"], plan_cohort(profile, seed)
        missing = [
            plan for plan in plans if read_receipt(folder / plan.case_id).get("generator") != key
        ]
        done = _make_patients(missing, folder, key)
        list(progress.track(done, "phantom patients", total=len(missing)))
        rows = [read_receipt(folder / plan.case_id)["case"] for plan in plans]
        write_file(folder / TABLE, pd.DataFrame(rows).to_csv(index=False))
        write_file(folder / NOTE, json.dumps(maker))


def _make_patients(plans: Sequence[PatientPlan], folder: Path, key: str) -> Iterator[None]:
    given = (plans, repeat(folder), repeat(key))
    if WORKERS <= 1 or len(plans) <= 1:
        yield from map(make_patient, *given)
        return
    # Fresh processes: a notebook's kernel holds threads, and those do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        yield from pool.map(make_patient, *given)  # after an error the rest is not begun


def make_patient(plan: PatientPlan, folder: Path, key: str) -> None:
    """Make one patient's folder in that of the cohort; `key` is noted in the receipt."""
    case, build = make_case(plan)
    site = SITES[plan.site]
    with put_in_place(folder / plan.case_id) as beside:
        write_series(
            case.volume,
            beside / "ct",
            sex=build.sex,
            age_years=build.age_years,
            kvp=site.kvp,
            tube_current_ma=site.tube_current_ma,
            description="Phantom: synthetic anatomy, outlines of LIDC-IDRI readers",
            phantom=True,
        )
        write_mask(case.readers, case.volume, beside / "readers.nii.gz")
        write_mask(case.lesion_labels, case.volume, beside / "labels.nii.gz")
        case.lesions.to_csv(beside / "lesions.csv", index=False)
        row = _cohort_row(case) | {"sex": build.sex, "age_years": build.age_years}
        receipt = Receipt.of(case)
        if not Receipt.of(read_case(folder, pd.Series(row), beside.name)).same_voxels(receipt):
            raise DataError(f"{plan.case_id} does not read back as it was written")
        note = {
            "generator": key,
            "case": row,
            "voxels": asdict(receipt),
            "files": {name: sha256_of(beside / name) for name in FILES},
        }
        (beside / RECEIPT).write_text(json.dumps(note))


def _cohort_row(case: Case) -> dict[str, object]:
    dz, dy, _ = case.volume.spacing_mm
    return {
        "case_id": case.case_id,
        "patient_id": case.patient_id,
        "site": case.site,
        "split": case.split,
        "series_instance_uid": case.volume.identity.series_instance_uid,
        "n_lesions": len(case.lesions),
        "n_required": int((case.lesions["n_readers"] >= MIN_READERS).sum()),
        "manufacturer": case.volume.identity.manufacturer,
        "slice_spacing_mm": round(dz, 4),
        "pixel_spacing_mm": round(dy, 4),
        "n_slices": case.volume.hu.shape[0],
    }
