"""A case: one patient's CT with what each radiologist drew on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

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

    def lesion_readers(
        self, label: int, margin: int = 0
    ) -> tuple[tuple[slice, slice, slice], NDArray[np.uint8]]:
        """Return one lesion's block of the grid and what its readers marked there.

        Parameters
        ----------
        label : int
            Of `lesion_labels`.
        margin : int
            Voxels around the lesion, as far as the grid goes.

        Returns
        -------
        tuple of slice
            The block: z, y, x.
        ndarray of uint8, shape of the block
            The readers' bit field, without other lesions that reach into the block.

        Raises
        ------
        ValueError
            If there is no such lesion.
        """
        found = ndimage.find_objects(self.lesion_labels, max_label=label)[-1]
        if found is None:
            raise ValueError(f"{self.case_id} has no lesion {label}")
        z, y, x = (
            slice(max(side.start - margin, 0), min(side.stop + margin, length))
            for side, length in zip(found, self.lesion_labels.shape, strict=True)
        )
        block = (z, y, x)
        return block, np.where(self.lesion_labels[block] == label, self.readers[block], np.uint8(0))
