"""Where training data come from: the folder of real CT, or the phantom in its place.

Weights that are shared may only rest on images whose licence allows it; others are refused here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from medlib import progress
from medlib.annotation.case import Case
from medlib.annotation.reference import MIN_READERS
from medlib.baseline import real_manifest
from medlib.cohorts import nodule_volumes as voi
from medlib.cohorts import whole_scans as real_scans
from medlib.cohorts.cohort import Cohort, cohort_key
from medlib.cohorts.nodule_volumes import Voi
from medlib.cohorts.whole_scans import RealScan
from medlib.errors import DataError
from medlib.images.volume import Volume

REAL_CT = "MEDLIB_REAL_CT"
VOI_FOLDER, SCAN_FOLDER = "lidc_voi", "full_ct"
VOI_LICENCE = "CC BY 3.0"
MAY_TRAIN = ("CC BY 3.0", "CC BY 4.0", "BSD-3-Clause")  # a licence begins with one of these ...
NON_COMMERCIAL = "NC"  # ... and does not go on with this
# One scan is kept to watch the training by; LUNG1 may only test.
SCANS = {"train": ("Lung_Dx-A0001", "pyradiomics-lung2"), "tune": ("Lung_Dx-A0002",)}
# The phantom is cut as the real volumes of interest were: as wide in mm.
VOI_MIN_READERS = 3
VOI_PIXEL_MM = 0.7  # of the real ones, at the median


class TrainingSource(Protocol):
    """Nodules in their surroundings, and whole scans."""

    def read_vois(self, split: str) -> Iterable[Voi]:
        """Yield the volumes of interest of one part."""

    def training_vois(self, split: str) -> list[Voi]:
        """Read the volumes of interest that hold one nodule and no other annotation."""

    def read_scans(self, split: str) -> Iterable[RealScan]:
        """Yield the whole scans of one part."""

    def part_of(self, patient_ids: pd.Series) -> pd.Series:
        """Look up in which part patients are; empty for those of none."""

    def outlines_of(self, split: str) -> set[str]:
        """Return the patients whose outlines one part has, besides those named in the volumes."""

    def checksum(self) -> str:
        """Return the digest of all that it holds."""

    def describe(self) -> dict[str, Any]:
        """Return what the evidence card says of it."""


@dataclass(frozen=True)
class RealCT:
    """The folder of real CT: its tables, with the part of each patient.

    Attributes
    ----------
    folder : Path
    vois : DataFrame
        As `medlib.cohorts.nodule_volumes.read_voi_table`, with `split`.
    scans : DataFrame
        As `medlib.cohorts.whole_scans.read_scan_table`, with `split`: ``train``, ``tune``, or
        ``test`` for those that training never sees.
    """

    folder: Path
    vois: pd.DataFrame
    scans: pd.DataFrame

    def read_vois(self, split: str) -> Iterable[Voi]:
        """Yield the volumes of interest of one part."""
        rows = self.vois[self.vois["split"] == split]
        for _, row in progress.track(rows.iterrows(), f"{split} nodules", total=len(rows)):
            yield voi.read_voi(self.folder / VOI_FOLDER, row)

    def training_vois(self, split: str) -> list[Voi]:
        """Read the volumes of interest that hold one nodule and no other annotation."""
        rows = self.vois[self.vois["split"] == split]
        return [
            found
            for found, row in zip(self.read_vois(split), rows.itertuples(), strict=True)
            if row.flag != voi.MERGED and not row.other_annotations_in_voi
        ]

    def read_scans(self, split: str) -> Iterable[RealScan]:
        """Yield the whole scans of one part."""
        for _, row in self.scans[self.scans["split"] == split].iterrows():
            yield real_scans.read_scan(self.folder / SCAN_FOLDER, row)

    def part_of(self, patient_ids: pd.Series) -> pd.Series:
        """Look up in which part of the project's split patients are; empty for those of none."""
        return voi.split_of_patients(patient_ids)

    def outlines_of(self, split: str) -> set[str]:  # noqa: ARG002
        """Return none: every volume has the outlines of its own patient."""
        return set()

    def describe(self) -> dict[str, Any]:
        """Return checksum, counts, scans and licences."""
        scans = self.scans.groupby("split")["case"]
        licences = dict(zip(self.scans["case"], self.scans["licence"], strict=True))
        return {
            "cohort": "LIDC volumes of interest and real scans",
            "real_ct": {
                "sha256": self.checksum(),
                "manifest": "data_manifests/real_ct.csv",
                "split": "data_manifests/lidc_idri_split.csv",
                "n_vois": {str(k): int(n) for k, n in self.vois["split"].value_counts().items()},
                "scans": {split: sorted(cases) for split, cases in scans},
                "licences": {"LIDC-IDRI": VOI_LICENCE, **licences},
            },
        }

    def leaving_out(self, case: str) -> RealCT:
        """Keep one more whole scan away from training, as a test.

        If it is the one that the training is watched by, the first of the train part takes that
        place.

        Parameters
        ----------
        case : str
            The scan's name.

        Raises
        ------
        DataError
            If training does not see such a scan, or would see none without it.
        """
        split = dict(zip(self.scans["case"], self.scans["split"], strict=True))
        trained = [name for name, part in split.items() if part == "train"]
        if split.get(case, "test") == "test":
            seen = [name for name, part in split.items() if part != "test"]
            raise DataError(
                f"no scan '{case}' is seen by training; leave out one of {', '.join(seen) or '-'}"
            )
        if split[case] == "tune":
            split[trained[0]] = "tune"
        split[case] = "test"
        if "train" not in split.values():
            raise DataError(f"without the scan '{case}' no whole scan is left to train on")
        return replace(self, scans=self.scans.assign(split=self.scans["case"].map(split)))

    def manifest(self) -> pd.DataFrame:
        """List the tables and every file that they name; see `medlib.baseline.real_manifest`."""
        parts = (VOI_FOLDER, SCAN_FOLDER)
        return real_manifest.manifest(self.folder, self.vois, self.scans, parts, VOI_LICENCE)

    def checksum(self) -> str:
        """Return the SHA-256 over the tables and every file that they name."""
        return real_manifest.checksum(self.manifest())


def open_real_ct(folder: Path | None = None) -> RealCT:
    """Open the folder that ``MEDLIB_REAL_CT`` names, or another.

    Raises
    ------
    DataError
        If there is none, or its tables are not what they should be.
    """
    if folder is None:
        if not os.environ.get(REAL_CT):
            raise DataError(
                f"real CT is needed: set {REAL_CT} to a folder with {VOI_FOLDER}/ and "
                f"{SCAN_FOLDER}/"
            )
        folder = Path(os.environ[REAL_CT])
    for part in (VOI_FOLDER, SCAN_FOLDER):
        if not (folder / part).is_dir():
            raise DataError(f"{folder} has no folder {part}; set {REAL_CT} to the real CT")
    vois = voi.read_voi_table(folder / VOI_FOLDER)
    vois["split"] = voi.split_of_patients(vois["patient_id"])
    scans = real_scans.read_scan_table(folder / SCAN_FOLDER)
    split_of_scan = {case: split for split, cases in SCANS.items() for case in cases}
    scans["split"] = scans["case"].map(split_of_scan).fillna("test")
    return RealCT(folder, vois, scans)


def check_licence(name: str, licence: str) -> None:
    """Refuse images whose licence does not let the weights be shared.

    Raises
    ------
    DataError
        If it is not one of `MAY_TRAIN`, or non-commercial.
    """
    if not licence.startswith(MAY_TRAIN) or NON_COMMERCIAL in licence.split("(")[0]:
        raise DataError(
            f"{name} has the licence '{licence}': it is for testing alone; train on images under "
            f"{', '.join(MAY_TRAIN)}"
        )


@dataclass(frozen=True)
class PhantomCT:
    """The phantom in the place of real CT: nothing measured in a patient but outlines.

    Its nodules are cut out as the real ones were. There are no whole scans apart from the phantom
    patients that a training draws from anyway. Nodules to train on have the outlines of LIDC-IDRI
    patients of the train part; the few to choose by may have those of any patient, who then is no
    test.

    Attributes
    ----------
    phantom : Cohort
    """

    phantom: Cohort

    def read_vois(self, split: str) -> Iterable[Voi]:
        """Yield the volumes of interest of one part."""
        for case in self._cases(split):
            yield from (found for found, _ in _cut(case, split))

    def training_vois(self, split: str) -> list[Voi]:
        """Cut the volumes of interest that hold one nodule and no other annotation."""
        cases = self._cases(split)
        return [found for case in cases for found, alone in _cut(case, split) if alone]

    def _cases(self, split: str) -> Iterable[Case]:
        n_cases = int((self.phantom.table["split"] == split).sum())
        return progress.track(self.phantom.cases(split), f"{split} phantom nodules", total=n_cases)

    def read_scans(self, split: str) -> Iterable[RealScan]:  # noqa: ARG002
        """Yield none."""
        return ()

    def part_of(self, patient_ids: pd.Series) -> pd.Series:
        """Look up in which part of the cohort patients are; empty for those of none."""
        parts = self.phantom.table.drop_duplicates("patient_id").set_index("patient_id")["split"]
        return patient_ids.map(parts).fillna("")

    def outlines_of(self, split: str) -> set[str]:
        """Return the LIDC-IDRI patients whose nodules gave outlines to lesions of one part."""
        return {
            patient
            for case in self.phantom.cases(split)
            for patient in _origins(case)[_usable(case, split)]
        }

    def checksum(self) -> str:
        """Return the digest of what the cohort's files hold."""
        return cohort_key(self.phantom)

    def describe(self) -> dict[str, Any]:
        """Return whose place it takes, and the number of nodules."""
        n_vois = {split: sum(1 for _ in self.read_vois(split)) for split in ("train", "tune")}
        return {"cohort": "phantom in the place of real CT", "n_vois": n_vois}


def _origins(case: Case) -> pd.Series:
    """Return the LIDC-IDRI patient of each lesion of a phantom patient."""
    return case.lesions["origin"].str.split("/").str[0]


def _usable(case: Case, split: str) -> pd.Series:
    """Say which lesions may be learned from; one reader's alone are left out of every loss."""
    usable = case.lesions["n_readers"] >= MIN_READERS
    return usable & _origins(case).isin(voi.patients_of("train")) if split == "train" else usable


def _cut(case: Case, split: str) -> Iterable[tuple[Voi, bool]]:
    """Yield the nodules that enough readers drew, and whether each is alone in its volume."""
    wanted = _usable(case, split) & (case.lesions["n_readers"] >= VOI_MIN_READERS)
    pixel_mm = case.volume.spacing_mm[1]
    smallest, margin = (
        round(px * VOI_PIXEL_MM / pixel_mm) for px in (voi.SMALLEST_PX, voi.MARGIN_PX)
    )
    for lesion in case.lesions[wanted].itertuples():
        block = voi.lesion_voi(case, int(lesion.label), smallest, margin)
        labels = case.lesion_labels[block]
        bits = np.where(labels == lesion.label, case.readers[block], np.uint8(0))
        masks = np.stack([(bits >> reader & 1).astype(bool) for reader in range(8)])
        affine = case.volume.affine.copy()
        corner_zyx = np.array([side.start for side in block], dtype=float)
        affine[:3, 3] = case.volume.to_patient_mm(corner_zyx)
        volume = Volume(case.volume.hu[block].copy(), affine, case.volume.identity)
        readers = masks[masks.any(axis=(1, 2, 3))]
        yield (
            Voi(str(lesion.lesion_id), case.patient_id, volume, readers),
            set(np.unique(labels)) <= {0, lesion.label},
        )
