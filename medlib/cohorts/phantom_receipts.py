"""What a phantom must look like, voxel for voxel: receipts of what was made, and the manifest.

A case's receipt stands beside its images. The manifest `data_manifests/phantom.json` is part of
the project and says what the receipts of a cohort have to be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medlib import paths
from medlib.annotation.case import Case
from medlib.errors import DataError

MANIFEST = paths.MANIFESTS / "phantom.json"
RECEIPT = "receipt.json"
# Another processor may round the last bit differently, which moves single voxels by 1 HU; the
# means over a volume then stay within these bounds, and any real change leaves them.
MEAN_HU_TOLERANCE = 0.05
SD_HU_TOLERANCE = 0.05
LESION_VOXELS_TOLERANCE = 0.01  # relative, and never less than two voxels


@dataclass(frozen=True)
class Receipt:
    """What was made: checksums and statistics of the voxels, z, y, x with x fastest."""

    hu_sha256: str  # of the HU as little-endian int16
    readers_sha256: str  # of the readers' bit field
    hu_mean: float
    hu_sd: float
    lesion_voxels: list[int]  # that reader 0, 1, 2, 3 of the lesions marked

    @classmethod
    def of(cls, case: Case) -> Receipt:
        """Take them of a case."""
        hu = np.rint(case.volume.hu).astype("<i2")
        return cls(
            hu_sha256=hashlib.sha256(hu.tobytes()).hexdigest(),
            readers_sha256=hashlib.sha256(case.readers.tobytes()).hexdigest(),
            hu_mean=round(float(hu.mean(dtype=np.float64)), 4),
            hu_sd=round(float(hu.std(dtype=np.float64)), 4),
            lesion_voxels=[int((case.readers >> bit & 1).sum()) for bit in range(4)],
        )

    def same_voxels(self, other: Receipt) -> bool:
        """Whether both checksums are equal."""
        return (self.hu_sha256, self.readers_sha256) == (other.hu_sha256, other.readers_sha256)

    def close_to(self, other: Receipt) -> bool:
        """Whether the statistics agree within the tolerances of this module."""
        return (
            abs(self.hu_mean - other.hu_mean) <= MEAN_HU_TOLERANCE
            and abs(self.hu_sd - other.hu_sd) <= SD_HU_TOLERANCE
            and all(
                abs(a - b) <= max(2.0, LESION_VOXELS_TOLERANCE * b)
                for a, b in zip(self.lesion_voxels, other.lesion_voxels, strict=True)
            )
        )


def read_receipt(folder: Path) -> dict[str, Any]:
    """Read a case's receipt; empty where the folder is one's own."""
    path = folder / RECEIPT
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def expected_receipts(cohort_name: str, manifest: Path | None = None) -> dict[str, Receipt]:
    """Return what the manifest says of a cohort, by case; empty where it does not know it."""
    path = manifest or MANIFEST
    try:
        cohorts = json.loads(path.read_text(encoding="utf-8"))["cohorts"]
        cases = cohorts.get(cohort_name, {}).get("cases", {})
        return {case_id: Receipt(**item) for case_id, item in cases.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the manifest {path.name} cannot be read ({error}); restore it from the repository or "
            "write it anew with 'python -m tools phantom-manifest'"
        ) from error


def verify(
    made: Mapping[str, Receipt], expected: Mapping[str, Receipt], cohort_name: str
) -> list[str]:
    """Compare what was made with what the manifest expects.

    Returned are the cases that differ in rounding only: other checksum, same statistics.
    """
    if differ := sorted(set(made) ^ set(expected)):
        raise DataError(
            f"cohort {cohort_name} has {len(made)} cases, the manifest names {len(expected)}, and "
            f"they differ in {len(differ)}, first {differ[0]}; delete the cohort's folder to make "
            "it again"
        )
    rounded = []
    for case_id, receipt in made.items():
        want = expected[case_id]
        if receipt.same_voxels(want):
            continue
        if not receipt.close_to(want):
            raise DataError(
                f"{case_id} of cohort {cohort_name} is not the case of the manifest: mean "
                f"{receipt.hu_mean:.2f} HU and lesion voxels {list(receipt.lesion_voxels)}, "
                f"expected {want.hu_mean:.2f} HU and {list(want.lesion_voxels)}; if the phantom "
                "was changed on purpose, run 'python -m tools phantom-manifest'"
            )
        rounded.append(case_id)
    return rounded
