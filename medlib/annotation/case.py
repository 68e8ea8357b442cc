"""A case: one patient's CT with what is known of its lesions, wherever it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from medlib.annotation.lidc import RATINGS
from medlib.annotation.reference import MIN_READERS, reader_masks, reference_mask
from medlib.images.volume import Volume, sphere_diameter_mm

LESION_COLUMNS = (
    "lesion_id",  # "<case_id>-<label>"
    "label",  # value in Case.lesion_labels
    "n_readers",  # how many of the four drew it
    "diameter_mm",  # of the sphere of the readers' median volume
    "origin",  # whose outlines they are: "LIDC-IDRI-0078/3", or the patient
    *RATINGS,  # medians of the readers'
)
LabelKind = Literal["readers", "outline", "algorithms", "boxes", "none"]


@dataclass(frozen=True)
class Case:
    """One CT of a patient, or a window cut out of one; arrays have the shape of the volume.

    `readers` is a bit field: bit r is set where reader r of that lesion has the voxel inside.
    Readers are anonymous: bit 0 of two lesions need not be one person. An outline or an algorithms'
    mask is bit 0; of boxes, what lies in any of them. `label_kind` is who says where the lesions
    are: ``readers``, each with an outline; one ``outline``; ``algorithms``; ``boxes``, which hold
    the lesion and more; or ``none``: nobody did.
    """

    case_id: str
    patient_id: str
    site: str
    split: str  # train, tune, calibrate, test or external
    volume: Volume
    readers: NDArray[np.uint8]
    lesion_labels: NDArray[np.uint8]  # k inside the union of all outlines of lesion k
    lesions: pd.DataFrame  # a row a lesion, columns `LESION_COLUMNS`; NaN where not known
    label_kind: LabelKind = "readers"
    is_window: bool = False  # cut out around a lesion: nothing is known of what lies beyond
    doubtful: NDArray[np.bool_] | None = None  # what may count neither as lesion nor as healthy

    @property
    def reference(self) -> NDArray[np.bool_]:
        """The voxels that are lesion: by the standard for readers, else whatever is labelled."""
        return reference_mask(self.readers, MIN_READERS if self.label_kind == "readers" else 1)

    def drawn_masks(self, label: int = 1) -> NDArray[np.bool_]:
        """Return what each reader who drew a lesion marked, shape (reader, z, y, x)."""
        masks = reader_masks(np.where(self.lesion_labels == label, self.readers, np.uint8(0)))
        return masks[masks.any(axis=(1, 2, 3))]

    def lesion_readers(
        self, label: int, margin: int = 0
    ) -> tuple[tuple[slice, slice, slice], NDArray[np.uint8]]:
        """Return one lesion's block of the grid (z, y, x) and what its readers marked there.

        `margin` voxels are around the lesion, as far as the grid goes. Other lesions that reach
        into the block are left out of the bit field. ValueError if there is no such lesion.
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


def lesion_row(
    case_id: str, label: int, masks: NDArray[np.bool_], voxel_volume_mm3: float
) -> dict[str, Any]:
    """Describe a lesion by what each of its readers marked, shape (reader, z, y, x)."""
    volumes = masks.sum(axis=(1, 2, 3))
    volume_mm3 = float(np.median(volumes[volumes > 0])) * voxel_volume_mm3
    return {
        "lesion_id": f"{case_id}-{label}",
        "label": label,
        "n_readers": int((volumes > 0).sum()),
        "diameter_mm": sphere_diameter_mm(volume_mm3),
    }


def lesion_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return `Case.lesions`; what a row does not say is not known."""
    return pd.DataFrame(rows, columns=list(LESION_COLUMNS))
