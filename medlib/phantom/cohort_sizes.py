"""How large a phantom cohort is made."""

from __future__ import annotations

from dataclasses import dataclass

PARTS = ("train", "tune", "test", "external")


@dataclass(frozen=True)
class CohortProfile:
    """Patients of each part of the split, `external` those of the external site, and their grid."""

    name: str
    train: int
    tune: int
    test: int
    external: int
    clinical: bool  # 512 x 512 over the whole chest, or a reduced grid for two cores

    def patients(self, part: str) -> int:
        """Return how many patients a part of the split has."""
        return int(getattr(self, part))


_PROFILES = (
    CohortProfile("quick", train=18, tune=4, test=8, external=6, clinical=False),
    CohortProfile("many", train=72, tune=12, test=16, external=12, clinical=False),
    CohortProfile("standard", train=48, tune=12, test=24, external=16, clinical=True),
)
PROFILES = {profile.name: profile for profile in _PROFILES}
