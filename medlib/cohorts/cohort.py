"""Patients with their CT and what is known of their lesions, opened by one function.

A layout is a module that says how a folder is read: its `TABLE`, `open_table` (a row a case),
`read_case` and `fingerprint`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medlib import progress
from medlib.annotation.case import Case as Case  # for the door
from medlib.cohorts import (
    case_folders,
    nodule_volumes,
    phantom_cohorts,
    phantom_receipts,
    whole_scans,
)
from medlib.cohorts.phantom_receipts import Receipt, read_receipt
from medlib.cohorts.splits import check_disjoint
from medlib.errors import DataError
from medlib.keys import digest
from medlib.parameters import Seed, checked
from medlib.phantom.cohort_sizes import PARTS, CohortProfile

PHANTOM, REAL = "phantom", "lidc-voi"
REAL_CT = "MEDLIB_REAL_CT"
REAL_PARTS = ("lidc_voi", "full_ct")  # of the folder of real CT: what a training may know of
LAYOUTS: tuple[Any, ...] = (case_folders, nodule_volumes, whole_scans)
SPLITS = (*PARTS, "calibrate")
ADDED = ["label_kind", "is_window", "licence", "part"]  # to what a table of cases says itself


@dataclass(frozen=True)
class Cohort:
    """A table of cases, and where they lie.

    The table has a row a case: `case_id`, `patient_id`, `site`, `split`, `label_kind`, `is_window`,
    `licence`, `part` (the folder's folder, or empty) and the layout's own columns.
    """

    name: str  # "quick-seed0", or the folder's name
    folder: Path
    table: pd.DataFrame

    def cases(self, split: str | None = None) -> Iterator[Case]:
        """Yield the cases in the table's order, all or of one part, read one at a time."""
        if split is not None and split not in SPLITS:
            raise DataError(f"there is no part {split!r}; expected one of {', '.join(SPLITS)}")
        rows = self.table if split is None else self.table[self.table["split"] == split]
        for case_id in rows["case_id"]:
            yield self.case(case_id)

    def case(self, case_id: str) -> Case:
        """Read one case from disk."""
        rows = self.table[self.table["case_id"] == case_id]
        if rows.empty:
            raise DataError(
                f"cohort {self.name} has no case {case_id!r}; expected one of the "
                f"{len(self.table)} that its table lists"
            )
        folder, layout = _where(self, rows.iloc[0])
        case: Case = layout.read_case(folder, rows.iloc[0])
        return case


@checked
def open_cohort(
    dataset: str | Path = PHANTOM,
    profile: str | CohortProfile = "quick",
    seed: Seed = 0,
) -> Cohort:
    """Open a cohort; make it first where it is the phantom and not there yet.

    `dataset` is ``"phantom"``, of the size `profile` and with this `seed`; ``"lidc-voi"``, what a
    training may know of in the folder that ``MEDLIB_REAL_CT`` names; or a folder in a layout of
    this room, or of such folders. Checksums of a phantom's small files are compared here, those of
    its voxels by `check_voxels`.

    Raises
    ------
    InputError
        If what is given can be none of these.
    DataError
        If there is no such folder or profile, files are missing, or a checksum is not what it
        should be.
    OverlapError
        If a patient stands on both sides of a split.
    """
    if dataset == PHANTOM:
        name, folder = phantom_cohorts.made(profile, seed)
    else:
        folder = _real_ct() if dataset == REAL else Path(dataset)
        name = folder.resolve().name
    cohort = Cohort(name, folder, _table(folder, REAL_PARTS if dataset == REAL else ()))
    check_disjoint(cohort.table)
    if dataset == PHANTOM:
        _check_manifest(cohort)
    return cohort


def _real_ct() -> Path:
    if not os.environ.get(REAL_CT):
        parts = " and ".join(f"{part}/" for part in REAL_PARTS)
        raise DataError(f"real CT is needed: set {REAL_CT} to a folder with {parts}")
    folder = Path(os.environ[REAL_CT])
    for part in REAL_PARTS:
        if not (folder / part).is_dir():
            raise DataError(f"{folder} has no folder {part}; set {REAL_CT} to the real CT")
    return folder


def _table(folder: Path, parts: Sequence[str]) -> pd.DataFrame:
    """Read the table of a folder, or those of its folders as one."""
    if not parts and not _layout(folder) and folder.is_dir():
        parts = sorted(path.name for path in folder.iterdir() if _layout(path))
    tables = []
    for part in parts or ("",):
        if (layout := _layout(folder / part)) is None:
            raise DataError(
                f"{folder / part} is no cohort; expected '{PHANTOM}', '{REAL}', or a folder with "
                "cohort.csv (and, for each case, ct/, readers.nii.gz, labels.nii.gz and "
                "lesions.csv), with lidc_voi.csv (volumes of interest) or cases.csv (whole scans)"
            )
        tables.append(layout.open_table(folder / part).assign(part=part))
    table = pd.concat(tables, ignore_index=True)
    if (twice := table["case_id"].duplicated()).any():
        raise DataError(
            f"{folder}: the case {table.loc[twice, 'case_id'].iloc[0]} stands in two of its "
            "tables; rename one"
        )
    return table


def _layout(folder: Path) -> Any | None:
    found = [layout for layout in LAYOUTS if (folder / layout.TABLE).is_file()]
    if len(found) > 1:
        both = " and ".join(layout.TABLE for layout in found)
        raise DataError(f"{folder} holds {both}; expected one of them; put each in a folder")
    return found[0] if found else None


def _where(cohort: Cohort, row: pd.Series) -> tuple[Path, Any]:
    """Return the folder of a row's table, and how it is read."""
    folder = cohort.folder / row.get("part", "")
    return folder, _layout(folder) or case_folders


def cohort_key(cohort: Cohort) -> str:
    """Return the digest of the cohort's table and of what is known of its cases."""
    known = [cohort.table.drop(columns=ADDED, errors="ignore").to_csv(index=False)]
    for _, row in cohort.table.iterrows():
        folder, layout = _where(cohort, row)
        known += layout.fingerprint(folder, row)
    return digest(*known)


def receipts(cohort: Cohort) -> dict[str, Receipt]:
    """Return the receipts that stand beside the cases of a phantom cohort."""
    return {
        case_id: Receipt(**read_receipt(cohort.folder / case_id)["voxels"])
        for case_id in cohort.table["case_id"]
    }


def _check_manifest(cohort: Cohort) -> None:
    expected = phantom_receipts.expected_receipts(cohort.name)
    if expected and (rounded := phantom_receipts.verify(receipts(cohort), expected, cohort.name)):
        print(
            f"cohort {cohort.name}: {len(rounded)} of {len(expected)} cases differ from the "
            "manifest in rounding only (another processor); their statistics agree"
        )


def check_voxels(cohort: Cohort) -> None:
    """Read every volume and compare its checksums, where it has any."""
    for case in progress.track(cohort.cases(), "volumes checked", total=len(cohort.table)):
        folder = cohort.folder / case.case_id
        note = read_receipt(folder)
        if note and not Receipt.of(case).same_voxels(Receipt(**note["voxels"])):
            raise DataError(
                f"the voxels of {case.case_id} have changed since it was made; delete "
                f"{folder} and {cohort.folder / 'cohort.json'} to make it again"
            )
