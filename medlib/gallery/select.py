"""Which cases a gallery shows: chosen by a rule that prints itself, never by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from medlib.risk.matching import MIN_IOU, Matching
from medlib.risk.metrics import ACCEPTED_DICE

WHERE = ("group", "case_id", "patient_id", "site", "split", "lesion_id", "candidate_id")
WHAT = ("diameter_mm", "malignancy", "high_risk", "n_readers", "score", "dice", "reader_dice")
ERROR_COLUMNS = (*WHERE, *WHAT, "cause", "change")


@dataclass(frozen=True)
class SuccessRule:
    """Ordinary successes: lesions that were hit, at fixed places in the order of their Dice.

    The best case of all is deliberately not among the places.
    """

    quantiles: tuple[float, ...] = (0.25, 0.5, 0.75)

    @property
    def text(self) -> str:
        """The rule in words, made from its own numbers."""
        places = ", ".join(f"{quantile:.0%}" for quantile in self.quantiles)
        return (
            "All required lesions of held-out patients that were hit are put in order of their "
            f"Dice (ties by id). Shown are those at {places} of the way from the worst to the "
            "best, for internal and for external patients apart."
        )

    def apply(self, matching: Matching) -> pd.DataFrame:
        """Return the chosen rows of the lesion table, with the column `place` (0 worst, 1 best).

        `matching` holds the held-out patients, at the operating point.
        """
        hits = matching.lesions[matching.lesions["hit"] == 1]
        chosen = []
        for _, part in hits.groupby("split", sort=False):
            # From the outside to the middle: where hits are few, the median is the one that stays.
            inwards = sorted(self.quantiles, key=lambda quantile: abs(quantile - 0.5))[::-1]
            place = {round(quantile * (len(part) - 1)): quantile for quantile in inwards}
            rows = sorted(place)
            ordered = part.sort_values(["dice", "lesion_id"])
            chosen.append(ordered.iloc[rows].assign(place=[place[row] for row in rows]))
        return pd.concat(chosen, ignore_index=True) if chosen else hits.assign(place=np.nan)


@dataclass(frozen=True)
class FailureRule:
    """Every error of a run, in the order in which errors should be looked at."""

    groups: ClassVar = ("missed", "false alarm", "boundary", "annotation")

    # The Fleischner Society follows solid nodules up most closely above this diameter
    # :cite:p:`macmahon2017`; of high risk is also what its readers rate this suspicious (median).
    high_risk_mm: float = 8.0
    high_risk_malignancy: float = 4.0
    low_dice: float = ACCEPTED_DICE  # a hit below it is a wrong outline
    readers_agree: float = 0.7  # mean pairwise Dice at which there is one outline to be learnt
    size_limits: tuple[float, float] = (0.7, 1.4)  # marked over reference volume
    n_shown: int = 3  # of each group

    @property
    def text(self) -> list[str]:
        """The rule in words, made from its own numbers: one sentence a step."""
        return [
            "1. Missed before false alarm: first the required lesions without a reported hit, "
            "then the reported regions that match no lesion.",
            f"2. High risk first, in every group: lesions of {self.high_risk_mm:g} mm or more, or "
            f"rated {self.high_risk_malignancy:g} or more for malignancy. Among equals the larger "
            "missed lesion, the surer false alarm, the worse outline comes first.",
            f"3. Boundary or annotation: a hit with Dice below {self.low_dice:g}, or a lesion "
            "marked in pieces, is a boundary problem where the readers' own mean Dice is at least "
            f"{self.readers_agree:g}, an annotation problem where it is lower. A reported region "
            "that one reader alone drew is an annotation problem too.",
            "4. Then what to change - data, rule or model - by the stage at which the error arose.",
            f"All are counted; of each group the first {self.n_shown} are shown.",
        ]

    def apply(self, matching: Matching, threshold: float) -> pd.DataFrame:
        """Return every error, in the order of the rule, with `ERROR_COLUMNS`.

        `matching` holds the held-out patients, at the operating point `threshold`. `cause` says at
        which stage the error arose, `change` is ``data``, ``rule`` or ``model``.
        """
        lesions = matching.lesions.assign(high_risk=self.is_high_risk(matching.lesions))
        found = [self._missed(lesions, threshold), self._marked(lesions, matching.candidates)]
        errors = pd.concat([table for table in found if len(table)] or found[:1])
        order = ["group", "high_risk", "severity", "case_id", "candidate_id"]
        return errors.sort_values(
            order,
            ascending=[True, False, False, True, True],
            key=lambda column: column.map(self.groups.index) if column.name == "group" else column,
            ignore_index=True,
        )[list(ERROR_COLUMNS)].astype({"candidate_id": "Int64", "n_readers": "Int64"})

    def shown(self, errors: pd.DataFrame) -> pd.DataFrame:
        """Return the first errors of each group."""
        return errors.groupby("group", sort=False).head(self.n_shown)

    def is_high_risk(self, lesions: pd.DataFrame) -> pd.Series:
        """Tell which rows of a lesion table are of high risk."""
        suspicious = lesions["malignancy"] >= self.high_risk_malignancy
        return (lesions["diameter_mm"] >= self.high_risk_mm) | suspicious

    def _missed(self, lesions: pd.DataFrame, threshold: float) -> pd.DataFrame:
        missed = lesions[lesions["missed"] == 1]
        return _judged(
            missed.assign(
                group="missed",
                severity=missed["diameter_mm"],
                candidate_id=pd.NA,
                score=missed["best_score"],
                dice=np.nan,
            ),
            (missed["best_score"] < threshold, "scored below the operating point", "rule"),
            (missed["best_iou"] >= MIN_IOU, "marked as one with a neighbour", "rule"),
            (missed["best_iou"] > 0, "touched, but outlined too badly", "model"),
            otherwise=("never marked at any score", "data"),
        )

    def _marked(self, lesions: pd.DataFrame, candidates: pd.DataFrame) -> pd.DataFrame:
        """Return the reported regions that are no hit, or a hit with a wrong outline."""
        good = (candidates["outcome"] == "hit") & ~(candidates["dice"] < self.low_dice)
        reported = candidates[candidates["reported"] & ~good]
        own = ["diameter_mm", "n_voxels", "malignancy", "high_risk", "n_readers", "reader_dice"]
        of_lesion = lesions.set_index("lesion_id")[own]
        marked = reported.join(of_lesion, on="lesion_id", lsuffix="_marked")
        alarm, disputed = (marked["outcome"] == name for name in ("false alarm", "disputed"))
        agreed = marked["reader_dice"] >= self.readers_agree
        touches = marked["n_reference_voxels"] > 0
        size = marked["n_voxels_marked"] / marked["n_voxels"]
        smallest, largest = self.size_limits
        groups = np.where(agreed & ~disputed, "boundary", "annotation")
        return _judged(
            marked.assign(
                group=np.where(alarm, "false alarm", groups),
                severity=(1 - marked["dice"]).where(~alarm & ~disputed, marked["score"]),
                diameter_mm=marked["diameter_mm"].fillna(marked["diameter_mm_marked"]),
                high_risk=marked["high_risk"].eq(True),
            ),
            (marked["outcome"] == "duplicate", "marked in pieces", "rule"),
            (disputed, "drawn by one reader alone", "data"),
            (alarm & touches, "part of a lesion, fits it too badly", "model"),
            (alarm & (marked["n_ignored_voxels"] > 0), "beside what one reader drew", "data"),
            (alarm, "apart from every lesion", "data"),
            (marked["reader_dice"] < self.readers_agree, "readers disagree where it ends", "data"),
            (size < smallest, "drawn too small", "rule"),
            (size > largest, "drawn too large", "rule"),
            otherwise=("wrong place or shape", "model"),
        )


def _judged(
    table: pd.DataFrame, *steps: tuple[pd.Series, str, str], otherwise: tuple[str, str]
) -> pd.DataFrame:
    """Add cause and change: those of the first step that applies to a row."""
    applies, causes, changes = zip(*steps, strict=True)
    return table.assign(
        cause=np.select(applies, causes, otherwise[0]),
        change=np.select(applies, changes, otherwise[1]),
    )
