"""A cohort on disk: CT series with what the readers drew, made once and checked whenever opened.

cohort.csv                 a row a case
<case_id>/ct/*.dcm         the CT series, one DICOM file a slice
<case_id>/readers.nii.gz   the readers' bit field on the grid of the series
<case_id>/labels.nii.gz    0 outside, k inside the union of all outlines of lesion k
<case_id>/lesions.csv      a row a lesion
<case_id>/receipt.json     checksums; written with a phantom, absent from a folder of one's own
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medlib import paths, progress
from medlib.annotation.case import LESION_COLUMNS, Case
from medlib.annotation.reference import MIN_READERS
from medlib.cohorts import phantom_receipts as manifest
from medlib.cohorts.phantom_receipts import Receipt
from medlib.cohorts.splits import check_disjoint
from medlib.cohorts.tables import read_table
from medlib.errors import DataError
from medlib.files import lock_on
from medlib.images.dicom import read_series, write_series
from medlib.images.image_files import read_mask, write_mask
from medlib.keys import digest
from medlib.phantom import SITES
from medlib.phantom.cohort_sizes import PARTS, PROFILES, CohortProfile
from medlib.phantom.recipe import PatientPlan, generator_key, make_case, plan_cohort

SMALL_FILES = ("readers.nii.gz", "labels.nii.gz", "lesions.csv")
COHORT_COLUMNS = ("case_id", "patient_id", "site", "split")
WORKERS = 2


@dataclass(frozen=True)
class Cohort:
    """Patients with their CT and their readers.

    Attributes
    ----------
    name : str
        ``"quick-seed0"``, or the folder's name.
    folder : Path
    table : DataFrame
        A row a case: `case_id`, `patient_id`, `site`, `split`, `series_instance_uid`,
        `n_lesions`, `n_required` (outlined by at least two readers), and for a phantom
        `manufacturer`, `slice_spacing_mm`, `pixel_spacing_mm`, `n_slices`, `sex`, `age_years`.
    """

    name: str
    folder: Path
    table: pd.DataFrame

    def cases(self, split: str | None = None) -> Iterator[Case]:
        """Yield the cases in the table's order, read from disk one at a time.

        Parameters
        ----------
        split : str, optional
            ``train``, ``tune``, ``test`` or ``external``; all of them where left out.

        Raises
        ------
        DataError
            If there is no such part, or a case cannot be read.
        """
        if split is not None and split not in PARTS:
            raise DataError(f"there is no part {split!r}; expected one of {', '.join(PARTS)}")
        rows = self.table if split is None else self.table[self.table["split"] == split]
        for case_id in rows["case_id"]:
            yield self.case(case_id)

    def case(self, case_id: str) -> Case:
        """Read one case from disk.

        Raises
        ------
        DataError
            If the cohort has no such case, or its files do not belong together.
        """
        rows = self.table[self.table["case_id"] == case_id]
        if rows.empty:
            raise DataError(
                f"cohort {self.name} has no case {case_id!r}; its {len(self.table)} cases are "
                "listed in cohort.csv"
            )
        return _read_case(self.folder / case_id, rows.iloc[0])


def open_cohort(
    dataset: str = "phantom",
    profile: str | CohortProfile = "quick",
    seed: int = 0,
    data_dir: Path | None = None,
    *,
    check_volumes: bool = False,
    workers: int = WORKERS,
) -> Cohort:
    """Open a cohort; make it first where it is the phantom and not there yet.

    Making it can be interrupted: patients that are done stay. A phantom made by other code or from
    another database is made anew.

    Parameters
    ----------
    dataset : str
        ``"phantom"``, or a folder with the layout of this module.
    profile : str or CohortProfile
        Size of the phantom: a name of `profiles.PROFILES`.
    seed : int
        Of the phantom.
    data_dir : Path, optional
        Where cohorts stand; `paths.DATA` where left out.
    check_volumes : bool
        Read every volume and compare its checksum. Small files are always compared, volumes when
        they are made.
    workers : int
        Processes that make patients.

    Returns
    -------
    Cohort

    Raises
    ------
    DataError
        If the profile is unknown, files are missing, or a checksum is not what it should be.
    OverlapError
        If a patient stands on both sides of a split.
    """
    if dataset == "phantom":
        chosen = _profile(profile)
        name = f"{chosen.name}-seed{seed}"
        folder = (data_dir or paths.DATA) / f"phantom-{name}"
        if not _is_current(folder, chosen):
            _make(folder, chosen, seed, workers)
    else:
        folder = Path(dataset)
        name = folder.name
    cohort = Cohort(name, folder, _read_table(folder))
    check_disjoint(cohort.table)
    for case_id in cohort.table["case_id"]:
        _check_files(folder / case_id)
    if check_volumes:
        _check_volumes(cohort)
    if dataset == "phantom":
        _check_manifest(cohort)
    return cohort


def cohort_key(cohort: Cohort) -> str:
    """Return the digest of the cohort's table and of what is known of its cases.

    A phantom case has a receipt with checksums of its voxels. A case of one's own has none: there
    its annotations are digested, and its series is known by the UID in the table.
    """
    known: list[bytes | str] = [cohort.table.to_csv(index=False)]
    for case_id in cohort.table["case_id"]:
        folder = cohort.folder / case_id
        receipt = folder / "receipt.json"
        if receipt.is_file():
            known.append(json.dumps(json.loads(receipt.read_bytes())["voxels"], sort_keys=True))
        else:
            known += [(folder / name).read_bytes() for name in SMALL_FILES]
    return digest(*known)


def _profile(profile: str | CohortProfile) -> CohortProfile:
    if isinstance(profile, CohortProfile):
        return profile
    if profile not in PROFILES:
        raise DataError(f"there is no profile {profile!r}; expected one of {', '.join(PROFILES)}")
    return PROFILES[profile]


def _made_by(profile: CohortProfile) -> dict[str, object]:
    return {"generator": generator_key(), "profile": asdict(profile)}


def _is_current(folder: Path, profile: CohortProfile) -> bool:
    """Whether the cohort is complete and was made by this code."""
    note = folder / "cohort.json"
    return note.is_file() and json.loads(note.read_text()) == _made_by(profile)


def _make(folder: Path, profile: CohortProfile, seed: int, workers: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with lock_on(folder):
        if _is_current(folder, profile):
            return  # another process made it while this one waited
        made_by = _made_by(profile)  # once: the code may change on disk while this runs
        key = str(made_by["generator"])
        plans = plan_cohort(profile, seed)
        missing = [plan for plan in plans if not _is_made(folder / plan.case_id, key)]
        for _ in progress.track(
            _in_parallel(missing, folder, key, workers), "phantom patients", total=len(missing)
        ):
            pass
        rows = [_receipt(folder / plan.case_id)["case"] for plan in plans]
        _write(folder / "cohort.csv", pd.DataFrame(rows).to_csv(index=False))
        _write(folder / "cohort.json", json.dumps(made_by))


def _in_parallel(
    plans: Sequence[PatientPlan], folder: Path, key: str, workers: int
) -> Iterator[None]:
    if workers <= 1 or len(plans) <= 1:
        for plan in plans:
            make_patient(plan, folder, key)
            yield
        return
    # Fresh processes: a notebook's kernel holds threads, and those do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        jobs = [pool.submit(make_patient, plan, folder, key) for plan in plans]
        try:
            for done in as_completed(jobs):
                done.result()
                yield
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)  # do not finish what nobody waits for
            raise


def make_patient(plan: PatientPlan, folder: Path, key: str) -> None:
    """Make one patient's folder; it appears by one rename, complete or not at all.

    Parameters
    ----------
    plan : PatientPlan
    folder : Path
        Of the cohort.
    key : str
        `recipe.generator_key`, noted in the receipt.

    Raises
    ------
    DataError
        If the series does not read back as it was made.
    """
    case, build = make_case(plan)
    site = SITES[plan.site]
    beside = Path(tempfile.mkdtemp(dir=folder, prefix=f".{plan.case_id}-"))
    try:
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
        if not Receipt.of(_read_case(beside, pd.Series(row))).same_voxels(receipt):
            raise DataError(f"{plan.case_id} does not read back as it was written")
        note = {
            "generator": key,
            "case": row,
            "voxels": asdict(receipt),
            "files": _file_checksums(beside),
        }
        (beside / "receipt.json").write_text(json.dumps(note))
        beside.chmod(0o755)
        target = folder / plan.case_id
        shutil.rmtree(target, ignore_errors=True)
        beside.replace(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


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


def _read_table(folder: Path) -> pd.DataFrame:
    path = folder / "cohort.csv"
    if not path.is_file():
        raise DataError(
            f"{folder} holds no cohort.csv; expected 'phantom' or a folder with cohort.csv and, "
            "for each case, ct/, readers.nii.gz, labels.nii.gz and lesions.csv"
        )
    table = read_table(path, COHORT_COLUMNS, ("case_id", "patient_id"))
    if strange := sorted(set(table["split"]) - set(PARTS)):
        raise DataError(f"{path} names the split {strange[0]!r}; expected {', '.join(PARTS)}")
    return table


def _read_case(folder: Path, row: pd.Series) -> Case:
    found = read_series(folder / "ct")
    if len(found) != 1:
        raise DataError(f"{folder / 'ct'} holds {len(found)} CT series; expected one")
    volume = found[0]
    uid = row.get("series_instance_uid", volume.identity.series_instance_uid)
    if volume.identity.series_instance_uid != uid:
        raise DataError(
            f"{folder / 'ct'} holds series {volume.identity.series_instance_uid}, cohort.csv names "
            f"{uid}; put the series of that case there"
        )
    lesions = pd.read_csv(folder / "lesions.csv", dtype={"lesion_id": str, "origin": str})
    if missing := [column for column in LESION_COLUMNS if column not in lesions]:
        raise DataError(f"{folder / 'lesions.csv'} lacks the columns {', '.join(missing)}")
    return Case(
        case_id=row["case_id"],
        patient_id=row["patient_id"],
        site=row["site"],
        split=row["split"],
        volume=volume,
        readers=read_mask(folder / "readers.nii.gz", volume).astype(np.uint8, copy=False),
        lesion_labels=read_mask(folder / "labels.nii.gz", volume).astype(np.uint8, copy=False),
        lesions=lesions[list(LESION_COLUMNS)],
    )


def _receipt(folder: Path) -> dict[str, Any]:
    """Read a case's receipt; empty where the folder is one's own."""
    path = folder / "receipt.json"
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def _is_made(folder: Path, key: str) -> bool:
    return _receipt(folder).get("generator") == key


def _file_checksums(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in SMALL_FILES}


def _check_files(folder: Path) -> None:
    if absent := [name for name in ("ct", *SMALL_FILES) if not (folder / name).exists()]:
        raise DataError(f"{folder} lacks {', '.join(absent)}; delete the folder and open it again")
    expected = _receipt(folder).get("files", {})
    for name, checksum in _file_checksums(folder).items() if expected else ():
        if checksum != expected[name]:
            raise DataError(
                f"{folder / name} has changed since it was made; delete {folder} and "
                f"{folder.parent / 'cohort.json'} to make it again"
            )


def receipts(cohort: Cohort) -> dict[str, Receipt]:
    """Return the receipts that stand beside the cases of a phantom cohort."""
    return {
        case_id: Receipt.from_json(_receipt(cohort.folder / case_id)["voxels"])
        for case_id in cohort.table["case_id"]
    }


def _check_volumes(cohort: Cohort) -> None:
    for case in progress.track(cohort.cases(), "volumes checked", total=len(cohort.table)):
        folder = cohort.folder / case.case_id
        note = _receipt(folder)
        if note and not Receipt.of(case).same_voxels(Receipt.from_json(note["voxels"])):
            raise DataError(
                f"the voxels of {case.case_id} have changed since it was made; delete "
                f"{folder} and {cohort.folder / 'cohort.json'} to make it again"
            )


def _check_manifest(cohort: Cohort) -> None:
    expected = manifest.expected_receipts(cohort.name)
    if not expected:
        return
    if rounded := manifest.verify(receipts(cohort), expected, cohort.name):
        print(
            f"cohort {cohort.name}: {len(rounded)} of {len(expected)} cases differ from the "
            "manifest in rounding only (another processor); their statistics agree"
        )


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def rewrite_manifest(profile: str = "quick", seed: int = 0) -> Path:
    """Make the cohort afresh where needed and write its receipts to the manifest.

    Returns
    -------
    Path
        The manifest.
    """
    chosen = _profile(profile)
    folder = paths.DATA / f"phantom-{chosen.name}-seed{seed}"
    if not _is_current(folder, chosen):
        _make(folder, chosen, seed, WORKERS)
    cohort = Cohort(f"{chosen.name}-seed{seed}", folder, _read_table(folder))
    recipe = {"seed": seed, **_made_by(chosen)}
    return manifest.write_manifest(cohort.name, receipts(cohort), recipe)
