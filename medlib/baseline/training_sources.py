"""Which cases a network may learn from, and what the evidence card says of them.

A cohort gives two things: nodules in their surroundings, as windows, and whole scans that show what
is no nodule. The phantom's nodules are cut out as the real ones were. Apart from that, phantom
patients are drawn from anyway, so they do not count as whole scans here.

Weights that are shared may only rest on images whose licence allows it; others are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from medlib import progress
from medlib.annotation.case import Case
from medlib.annotation.reference import MIN_READERS
from medlib.baseline import real_manifest
from medlib.cohorts.cohort import REAL_PARTS, Cohort, cohort_key
from medlib.cohorts.nodule_volumes import LICENCE, windows_of
from medlib.cohorts.project_split import SCANS, SPLIT, lidc_patients
from medlib.errors import DataError

MAY_TRAIN = ("CC BY 3.0", "CC BY 4.0", "BSD-3-Clause")  # a licence begins with one of these ...
NON_COMMERCIAL = "NC"  # ... and does not go on with this


def windows(cohort: Cohort, split: str) -> Iterator[Case]:
    """Yield the nodules of one part in their surroundings.

    Nodules to train on have the outlines of LIDC-IDRI patients of the train part; the few to choose
    by may have those of any patient, who then is no test.
    """
    rows = _part(cohort, split)
    rows = rows[rows["is_window"] | (rows["label_kind"] == "readers")]
    for case_id in progress.track(rows["case_id"], f"{split} nodules", total=len(rows)):
        case = cohort.case(case_id)
        if case.is_window:
            yield case
        else:
            yield from windows_of(replace(case, lesions=case.lesions[_usable(case)]))


def training_windows(cohort: Cohort, split: str) -> list[Case]:
    """Read the windows that hold one nodule and nothing doubtful."""
    return [window for window in windows(cohort, split) if window.doubtful is None]


def whole_scans(cohort: Cohort, split: str) -> Iterator[Case]:
    """Read the whole scans of one part whose tumour is outlined or boxed."""
    return map(cohort.case, _scan_ids(cohort, split))


def _scan_ids(cohort: Cohort, split: str) -> list[str]:
    rows = _part(cohort, split)
    is_scan = ~rows["is_window"] & rows["label_kind"].isin(("outline", "boxes"))
    return list(rows.loc[is_scan, "case_id"])


def _part(cohort: Cohort, split: str) -> pd.DataFrame:
    return cohort.table[cohort.table["split"] == split]


def outline_givers(cohort: Cohort, split: str) -> set[str]:
    """Return the LIDC-IDRI patients whose nodules gave outlines to other patients of one part."""
    rows = _part(cohort, split)
    rows = rows[~rows["is_window"] & (rows["label_kind"] == "readers")]
    cases = (cohort.case(case_id) for case_id in rows["case_id"])
    return {patient for case in cases for patient in origins(case)[_usable(case)]}


def origins(case: Case) -> pd.Series:
    """Return the patient whose outline each lesion has."""
    return case.lesions["origin"].str.split("/").str[0]


def _usable(case: Case) -> pd.Series:
    """Say which lesions may be learned from; one reader's alone are left out of every loss."""
    usable = case.lesions["n_readers"] >= MIN_READERS
    if case.split != "train":
        return usable
    return usable & origins(case).isin(lidc_patients("train"))


def check_licences(cohort: Cohort) -> None:
    """Raise DataError for images to learn from whose licence does not let weights be shared."""
    rows = pd.concat([_part(cohort, "train"), _part(cohort, "tune")])
    for name, licence in zip(rows["case_id"], rows["licence"].fillna(""), strict=True):
        may_train = licence.startswith(MAY_TRAIN) and NON_COMMERCIAL not in licence.split("(")[0]
        if licence and not may_train:  # a folder of one's own need not say
            raise DataError(
                f"{name} has the licence '{licence}': it is for testing alone; train on images "
                f"under {', '.join(MAY_TRAIN)}"
            )


def leave_out(cohort: Cohort, scan: str) -> Cohort:
    """Keep one more whole scan away from training, as a test.

    If it is the one that the training is watched by, the first of the train part takes that place.

    Raises
    ------
    DataError
        If training does not see such a scan, or would see none without it.
    """
    trained, tuned = (_scan_ids(cohort, split) for split in ("train", "tune"))
    if scan not in trained + tuned:
        seen = ", ".join(trained + tuned) or "-"
        raise DataError(f"no scan '{scan}' is seen by training; leave out one of {seen}")
    moved = {scan: "test"}
    if scan in tuned and trained:
        moved[trained.pop(0)] = "tune"
    if not set(trained) - {scan}:
        raise DataError(f"without the scan '{scan}' no whole scan is left to train on")
    table = cohort.table
    return replace(
        cohort, table=table.assign(split=table["case_id"].map(moved).fillna(table["split"]))
    )


def check_scans(cohort: Cohort) -> None:
    """Raise DataError where there is no whole scan to train on, or to watch the training by."""
    for split in ("train", "tune"):
        if not _scan_ids(cohort, split):
            raise DataError(
                f"{cohort.folder / REAL_PARTS[1]} has no scan of the {split} part; it needs one of "
                f"{', '.join(SCANS[split])}"
            )


def is_real(cohort: Cohort) -> bool:
    """Whether the cohort is the real CT that `medlib.baseline.real_manifest` lists."""
    return set(REAL_PARTS) <= set(cohort.table.get("part", ()))


def checksum(cohort: Cohort) -> str:
    """Return the digest of all that a cohort holds, as cards and studies state it."""
    if is_real(cohort):
        return real_manifest.checksum(real_manifest.manifest(cohort))
    return cohort_key(cohort)


def described(cohort: Cohort) -> dict[str, Any]:
    """Return what an evidence card says of a cohort that was learned from or tested on."""
    if not is_real(cohort):
        n_windows = {split: sum(1 for _ in windows(cohort, split)) for split in ("train", "tune")}
        return {"cohort": "phantom in the place of real CT", "n_vois": n_windows}
    table = cohort.table
    nodules, scans = table[table["is_window"]], table[~table["is_window"]]
    licences = dict(zip(scans["case_id"], scans["licence"], strict=True))
    return {
        "cohort": "LIDC volumes of interest and real scans",
        "real_ct": {
            "sha256": checksum(cohort),
            "manifest": "data_manifests/real_ct.csv",
            "split": f"data_manifests/{SPLIT.name}",
            "n_vois": {str(k): int(n) for k, n in nodules["split"].value_counts().items()},
            "scans": {split: sorted(cases) for split, cases in scans.groupby("split")["case_id"]},
            "licences": {"LIDC-IDRI": LICENCE, **licences},
        },
    }
