"""Cut volumes of interest from phantom patients, as the real ones were cut from LIDC-IDRI scans.

    python benchmarks/phantom_vois.py OUT --real REAL_CT/lidc_voi

Clinical spacing, 70 mm of chest below the carina, eight nodules a patient, three or four readers
each; no nodule comes from a person whose real volumes of interest are compared. The figures of the
first phantom ("v1") were made by this script as it was then, with the code of commit 72c8993.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from medlib.annotation import nodules
from medlib.annotation.case import Case
from medlib.cohorts.nodule_volumes import lesion_voi
from medlib.phantom import recipe
from medlib.phantom.recipe import PatientPlan, make_case

HEIGHT_MM = 70.0
NODULES_A_PATIENT = 8
# Shares of GE, Siemens and Philips among the real volumes of interest.
SITE_SHARES = {"site-a": 0.70, "site-b": 0.18, "site-x": 0.12}


def plans(n_patients: int, taken: set[str], seed: int) -> list[PatientPlan]:
    """Draw patients; no LIDC-IDRI patient gives nodules to two of them."""
    rng = np.random.default_rng(seed)
    pool: dict[str, list[nodules.Nodule]] = {}
    for nodule in nodules.nodules():
        if nodule.n_readers in (3, 4) and nodule.patient_id not in taken:
            pool.setdefault(nodule.patient_id, []).append(nodule)
    groups = [pool[patient] for patient in rng.permutation(sorted(pool))]
    sites = np.repeat(
        list(SITE_SHARES), np.round(np.array(list(SITE_SHARES.values())) * n_patients).astype(int)
    )
    drawn: list[PatientPlan] = []
    for k, site in enumerate(rng.permutation(sites)):
        chosen: list[nodules.Nodule] = []
        while len(chosen) < NODULES_A_PATIENT and groups:
            chosen += groups.pop()
        usable = [
            n
            for n in chosen
            if (n.reader_masks().sum(axis=0) >= 2).any()
            and n.reader_masks().any(axis=(1, 2, 3)).all()
        ]
        drawn.append(
            PatientPlan(
                f"case-{k:03d}",
                f"PHANTOM-{k:03d}",
                str(site),
                "test",
                seed * 1000 + k,
                tuple(usable[:NODULES_A_PATIENT]),
                True,
            )
        )
    return drawn


def shorten(site, *, clinical, _full=recipe.site_grid):
    """Return the site's clinical grid, `HEIGHT_MM` tall."""
    grid = _full(site, clinical=clinical)
    slices = round(HEIGHT_MM / grid.spacing_mm[0])
    return replace(grid, shape_zyx=(slices, *grid.shape_zyx[1:]))


def fitting_case(plan: PatientPlan) -> Case:
    """Make the patient; where a nodule fits nowhere, the largest is left out."""
    try:
        return make_case(plan)[0]
    except ValueError:
        largest = max(plan.nodules, key=lambda nodule: nodule.reader_masks().sum())
        rest = tuple(nodule for nodule in plan.nodules if nodule is not largest)
        return fitting_case(replace(plan, nodules=rest))


def cut(plan: PatientPlan, folder: Path) -> list[dict[str, object]]:
    """Make a patient and write the crops around its nodules."""
    recipe.site_grid = shorten
    case = fitting_case(plan)
    readers, labels = case.readers, case.lesion_labels
    dz, dy, dx = case.volume.spacing_mm
    rows = []
    for lesion in case.lesions.itertuples():
        at = lesion_voi(case, lesion.label)
        own = np.where(labels[at] == lesion.label, readers[at], 0).astype(np.uint8)
        name = str(lesion.lesion_id)
        affine = np.diag([dx, dy, dz, 1.0])
        for kind, values in (("ct", case.volume.hu[at].astype(np.int16)), ("readers", own)):
            nib.save(nib.Nifti1Image(values.T, affine), folder / f"{name}_{kind}.nii.gz")
        rows.append(
            {
                "voi_id": name,
                "patient_id": plan.patient_id,
                "ct_file": f"{name}_ct.nii.gz",
                "readers_file": f"{name}_readers.nii.gz",
                "origin": lesion.origin,
                "manufacturer": case.volume.identity.manufacturer,
                "slice_spacing_mm": dz,
                "pixel_spacing_mm": dy,
                "n_readers": lesion.n_readers,
                "flag": "",
                **{
                    f"{r}_median": getattr(lesion, r)
                    for r in ("texture", "calcification", "margin")
                },
            }
        )
    return rows


def main() -> None:
    """Write OUT/lidc_voi.csv and two NIfTI files a volume of interest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--real", type=Path, required=True, help="folder lidc_voi")
    parser.add_argument("--patients", type=int, default=36)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    taken = set(pd.read_csv(options.real / "lidc_voi.csv")["patient_id"])
    todo = plans(options.patients, taken, options.seed)
    with ProcessPoolExecutor(options.workers) as pool:
        made = pool.map(cut, todo, [options.out] * len(todo))
        pd.DataFrame([row for rows in made for row in rows]).to_csv(
            options.out / "lidc_voi.csv", index=False
        )


if __name__ == "__main__":
    main()
