"""The recipe of a phantom cohort: which patient gets which real nodules, and how one is made."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medlib.annotation import lidc, nodules, reader_study
from medlib.annotation.case import LESION_COLUMNS, Case
from medlib.annotation.nodules import Nodule
from medlib.files import sha256_of
from medlib.images.volume import sphere_diameter_mm
from medlib.keys import code_key, digest
from medlib.phantom.anatomy import draw_anatomy, patient_build
from medlib.phantom.body import Build
from medlib.phantom.cohort_sizes import PARTS, CohortProfile
from medlib.phantom.lesions import PhantomLesion, insert_lesions
from medlib.phantom.placement import SETTING_SHARES, SETTINGS, crop_of, place, resample_nodule
from medlib.phantom.scanner import acquire
from medlib.phantom.sites import SITES, draw_scanner, site_grid

# Lesions a patient, repeated along the patients of a part, then mixed. Three on average where the
# model is judged, as in an LIDC-IDRI scan that has any; more where it learns, because it learns
# from lesions and a further one in a scan costs almost nothing.
_JUDGED = (3, 0, 4, 6, 2, 5, 1, 3)
LESIONS_PER_PATIENT = dict.fromkeys(PARTS, _JUDGED) | {"train": (8, 6, 10, 7, 0, 9)}


@dataclass(frozen=True)
class PatientPlan:
    """What a phantom patient is made from."""

    case_id: str
    patient_id: str
    site: str
    split: str
    seed: int  # of the anatomy, the places, the densities and the noise
    nodules: tuple[Nodule, ...]  # each from another LIDC-IDRI patient than all others of the cohort
    clinical: bool  # which grid


def plan_cohort(profile: CohortProfile, seed: int) -> list[PatientPlan]:
    """Draw the patients of a cohort.

    Every part of the split gets nodules with the real shares of one to four readers and the real
    mix of sizes: the database, ordered by readers and diameter, is cut into as many equal pieces
    as the part has lesions, and one nodule is drawn from each. No LIDC-IDRI patient gives more
    than one nodule, so that none stands on two sides of the split. Left out are clusters with more
    outlines than readers and the few nodules whose readers share no voxel.
    """
    rng = np.random.default_rng([seed, 1])
    table = reader_study.nodule_table()
    pool = table[(table["min_voxels"] > 0) & (table["agreed_voxels"] > 0)].sort_values(
        ["n_readers", "diameter_mm", "origin"]
    )
    by_origin = {nodule.origin: nodule for nodule in nodules.nodules()}
    used: set[str] = set()
    plans: list[PatientPlan] = []
    for part in PARTS:
        n_patients = profile.patients(part)
        counts = rng.permutation(np.resize(LESIONS_PER_PATIENT[part], n_patients))
        drawn = iter(rng.permutation(_draw_stratified(pool, int(counts.sum()), used, rng)))
        sites = [name for name, site in SITES.items() if site.internal == (part != "external")]
        for k, count in enumerate(counts):
            number = len(plans) + 1
            chosen = tuple(by_origin[origin] for origin in itertools.islice(drawn, int(count)))
            plans.append(
                PatientPlan(
                    case_id=f"case-{number:03d}",
                    patient_id=f"PHANTOM-{seed}-{number:03d}",
                    site=sites[k % len(sites)],
                    split=part,
                    seed=int(np.random.SeedSequence([seed, number]).generate_state(1)[0]),
                    nodules=chosen,
                    clinical=profile.clinical,
                )
            )
    return plans


def _draw_stratified(
    pool: pd.DataFrame, count: int, used: set[str], rng: np.random.Generator
) -> list[str]:
    """Draw one nodule from each of `count` equal pieces of the pool; no patient twice."""
    origins, patients = pool["origin"].to_numpy(), pool["patient_id"].to_numpy()
    drawn = []
    places = np.arange(len(pool))
    for piece in np.array_split(places, count) if count else []:
        # Where the whole piece is used up, the nearest free nodule in the order stands in.
        order = np.lexsort((np.abs(places - rng.choice(piece)), ~np.isin(places, piece)))
        pick = next(i for i in order if patients[i] not in used)
        used.add(patients[pick])
        drawn.append(str(origins[pick]))
    return drawn


def make_case(plan: PatientPlan) -> tuple[Case, Build]:
    """Make one patient in memory: anatomy, lesions where they fit, scan, readers.

    The same plan gives the same voxels.
    """
    chest_mm = 2 * patient_build(plan.seed).cavity_half_width_mm
    scanner = draw_scanner(SITES[plan.site], plan.seed, chest_mm)
    grid = site_grid(scanner, clinical=plan.clinical)
    rng = np.random.default_rng([plan.seed, 2])
    anatomy = draw_anatomy(plan.seed, scanner, grid)
    depth_mm = anatomy.pleural_depth_mm() if plan.nodules else np.zeros(grid.shape_zyx, np.float32)
    readers, labels = (np.zeros(grid.shape_zyx, dtype=np.uint8) for _ in range(2))
    drawn, rows = [], []
    resampled = [
        resample_nodule(
            one.reader_masks(), one.spacing_mm, grid.spacing_mm, rng.uniform(-0.5, 0.5, 3), rng
        )
        for one in plan.nodules
    ]
    # The largest first: it has the fewest places.
    order = sorted(range(len(resampled)), key=lambda k: -resampled[k].occupancy.sum())
    for label, k in enumerate(order, start=1):
        nodule, shape = plan.nodules[k], resampled[k]
        setting = rng.choice(SETTINGS, p=SETTING_SHARES)
        start = place(shape, anatomy, depth_mm, labels > 0, setting, rng)
        crop = crop_of(start, shape.occupancy.shape)
        for bit, mask in enumerate(shape.masks):
            readers[crop] |= mask.astype(np.uint8) << np.uint8(bit)
        labels[crop][shape.masks.any(axis=0)] = label
        ratings = {name: float(median) for name, median in nodule.ratings.median().items()}
        of_tissue = {name: ratings[name] for name in ("texture", "calcification", "margin")}
        drawn.append(PhantomLesion(shape.occupancy, start, **of_tissue))
        mm3 = np.median(shape.masks.sum(axis=(1, 2, 3))) * np.prod(grid.spacing_mm)
        rows.append(
            {
                "lesion_id": f"{plan.case_id}-{label}",
                "label": label,
                "n_readers": nodule.n_readers,
                "diameter_mm": round(sphere_diameter_mm(float(mm3)), 3),
                "origin": nodule.origin,
                **ratings,
            }
        )
    anatomy = insert_lesions(anatomy, drawn, plan.seed)
    case = Case(
        case_id=plan.case_id,
        patient_id=plan.patient_id,
        site=plan.site,
        split=plan.split,
        volume=acquire(anatomy, plan.seed, plan.patient_id),
        readers=readers,
        lesion_labels=labels,
        lesions=pd.DataFrame(rows, columns=list(LESION_COLUMNS)),
    )
    return case, anatomy.build


def generator_key() -> str:
    """Return a key of everything that decides a phantom's voxels: database and code."""
    return digest(sha256_of(lidc.database_path()), code_key("medlib.phantom.recipe"))[:16]
