"""A case: one patient's CT with what each radiologist drew on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medlib.images.volume import Volume

LESION_COLUMNS = (
    "lesion_id",  # "<case_id>-<label>"
    "label",  # value in Case.lesion_labels
    "n_readers",  # how many of the four drew it
    "diameter_mm",  # of the sphere of the readers' median volume
    "origin",  # where the outlines come from: "LIDC-IDRI-0078/3"
    "subtlety",
    "internal_structure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",  # medians of the readers' ratings
)


@dataclass(frozen=True)
class Case:
    """One patient of a cohort.

    Attributes
    ----------
    case_id, patient_id, site, split : str
        `split` is ``train``, ``tune``, ``test`` or ``external``.
    volume : Volume
    readers : ndarray of uint8, shape (z, y, x)
        Bit field: bit r is set where reader r of that lesion has the voxel inside. Readers are
        anonymous: bit 0 of two lesions need not be one person.
    lesion_labels : ndarray of uint8, shape (z, y, x)
        0 outside, k inside the union of all outlines of lesion k.
    lesions : DataFrame
        A row a lesion, columns `LESION_COLUMNS`.
    """

    case_id: str
    patient_id: str
    site: str
    split: str
    volume: Volume
    readers: NDArray[np.uint8]
    lesion_labels: NDArray[np.uint8]
    lesions: pd.DataFrame
