"""How large a phantom cohort is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PARTS = ("train", "tune", "test", "external")


@dataclass(frozen=True)
class CohortProfile:
    """Patients and grid of a phantom cohort.

    Attributes
    ----------
    name : str
    train, tune, test : int
        Patients of the internal sites.
    external : int
        Patients of the external site.
    clinical : bool
        True: 512 x 512 over the whole chest. False: a reduced grid for two cores.
    """

    name: str
    train: int
    tune: int
    test: int
    external: int
    clinical: bool

    def patients(self, part: str) -> int:
        """Return how many patients a part of the split has."""
        return {
            "train": self.train,
            "tune": self.tune,
            "test": self.test,
            "external": self.external,
        }[part]


PROFILES: Mapping[str, CohortProfile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            CohortProfile("quick", train=18, tune=4, test=8, external=6, clinical=False),
            CohortProfile("many", train=72, tune=12, test=16, external=12, clinical=False),
            CohortProfile("standard", train=48, tune=12, test=24, external=16, clinical=True),
        )
    }
)
