"""Which cases a gallery shows: chosen by a rule that prints itself, never by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from medlib.risk.matching import MIN_IOU, Matching
from medlib.risk.metrics import ACCEPTED_DICE

GROUPS = ("missed", "false alarm", "boundary", "annotation")

ERROR_COLUMNS = (
    "group",
    "case_id",
    "patient_id",
    "site",
    "split",
    "lesion_id",
    "candidate_id",
    "diameter_mm",
    "malignancy",
    "high_risk",
    "n_readers",
    "score",
    "dice",
    "reader_dice",
    "cause",
    "change",
)


@dataclass(frozen=True)
class SuccessRule:
    """Ordinary successes: lesions that were hit, at fixed places in the order of their Dice.

    Attributes
    ----------
    quantiles : tuple of float
        Places in that order; the best case of all is deliberately not among them.
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

        Parameters
        ----------
        matching : Matching
            Held-out patients, at the operating point.
        """
        hits = matching.lesions[matching.lesions["hit"] == 1]
        chosen = []
        for _, part in hits.groupby("split", sort=False):
            ordered = part.sort_values(["dice", "lesion_id"], ignore_index=True)
            # From the middle outwards: where hits are few, the median is the one that stays.
            for quantile in sorted(self.quantiles, key=lambda place: abs(place - 0.5)):
                row = round(quantile * (len(ordered) - 1))
                chosen.append(ordered.iloc[[row]].assign(place=quantile))
        if not chosen:
            return hits.assign(place=pd.Series(dtype=float))
        once = pd.concat(chosen).drop_duplicates("lesion_id")
        order = {split: number for number, split in enumerate(hits["split"].unique())}
        return once.sort_values(
            ["split", "place"],
            key=lambda column: column.map(order) if column.name == "split" else column,
            ignore_index=True,
        )


@dataclass(frozen=True)
class FailureRule:
    """Every error of a run, in the order in which errors should be looked at.

    Attributes
    ----------
    high_risk_mm : float
        A lesion of this diameter is of high risk: the Fleischner Society follows solid nodules
        up most closely above it :cite:p:`macmahon2017`.
    high_risk_malignancy : float
        So is one that its readers rate this suspicious (median; 1 to 5).
    low_dice : float
        A hit below it is a wrong outline.
    readers_agree : float
        At this mean pairwise Dice of its readers a lesion has one outline to be learnt.
    size_limits : tuple of float
        Marked over reference volume: below the first it is drawn too small, above the second
        too large.
    n_shown : int
        Cases shown of each group.
    """

    high_risk_mm: float = 8.0
    high_risk_malignancy: float = 4.0
    low_dice: float = ACCEPTED_DICE
    readers_agree: float = 0.7
    size_limits: tuple[float, float] = (0.7, 1.4)
    n_shown: int = 3

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
        """Return every error, in the order of the rule.

        Parameters
        ----------
        matching : Matching
            Held-out patients, at the operating point.
        threshold : float
            The operating point.

        Returns
        -------
        DataFrame
            Columns `ERROR_COLUMNS`; `group` is one of `GROUPS`, `cause` says at which stage the
            error arose, `change` is ``data``, ``rule`` or ``model``.
        """
        lesions = {row.lesion_id: row for row in matching.lesions.itertuples()}
        candidates = {
            (row.case_id, row.candidate_id): row for row in matching.candidates.itertuples()
        }
        errors = []
        for lesion in lesions.values():
            if lesion.missed == 1:
                verdict = self._why_missed(lesion, threshold)
                errors.append(self._error("missed", lesion, None, verdict, lesion.diameter_mm))
            elif lesion.hit == 1 and lesion.dice < self.low_dice:
                marked = candidates[lesion.case_id, lesion.matched_candidate]
                verdict = self._why_outlined_badly(lesion, marked)
                errors.append(self._outline_error(lesion, marked, verdict))
        for marked in candidates.values():
            if not marked.reported:
                continue
            if marked.outcome == "false alarm":
                verdict = _why_false(marked)
                errors.append(self._error("false alarm", None, marked, verdict, marked.score))
            elif marked.outcome == "duplicate":
                verdict = ("marked in pieces", "rule")
                errors.append(self._outline_error(lesions[marked.lesion_id], marked, verdict))
            elif marked.outcome == "disputed":
                verdict = ("drawn by one reader alone", "data")
                lesion = lesions[marked.lesion_id]
                errors.append(self._error("annotation", lesion, marked, verdict, marked.score))
        return _in_order(errors)

    def shown(self, errors: pd.DataFrame) -> pd.DataFrame:
        """Return the first errors of each group."""
        return errors.groupby("group", sort=False).head(self.n_shown)

    def is_high_risk(self, lesion: Any) -> bool:
        """Whether a row of the lesion table is of high risk."""
        return bool(
            lesion.diameter_mm >= self.high_risk_mm
            or lesion.malignancy >= self.high_risk_malignancy
        )

    def _why_missed(self, lesion: Any, threshold: float) -> tuple[str, str]:
        if lesion.best_score < threshold:
            return "scored below the operating point", "rule"
        if lesion.best_iou >= MIN_IOU:
            return "marked as one with a neighbour", "rule"
        if lesion.best_iou > 0:
            return "touched, but outlined too badly", "model"
        return "never marked at any score", "data"

    def _why_outlined_badly(self, lesion: Any, marked: Any) -> tuple[str, str]:
        if lesion.reader_dice < self.readers_agree:
            return "readers disagree where it ends", "data"
        size = marked.n_voxels / lesion.n_voxels
        smallest, largest = self.size_limits
        if size < smallest:
            return "drawn too small", "rule"
        if size > largest:
            return "drawn too large", "rule"
        return "wrong place or shape", "model"

    def _outline_error(self, lesion: Any, marked: Any, verdict: tuple[str, str]) -> dict[str, Any]:
        agreed = lesion.reader_dice >= self.readers_agree
        group = "boundary" if agreed else "annotation"
        return self._error(group, lesion, marked, verdict, 1 - marked.dice)

    def _error(
        self, group: str, lesion: Any, marked: Any, verdict: tuple[str, str], severity: float
    ) -> dict[str, Any]:
        """Describe an error by its lesion, its marked region, or both."""
        where = lesion if lesion is not None else marked
        ids = ("case_id", "patient_id", "site", "split")
        error = {name: getattr(where, name) for name in ids}
        error |= {"group": group, "severity": severity, "cause": verdict[0], "change": verdict[1]}
        error |= {"lesion_id": "", "high_risk": False, "diameter_mm": where.diameter_mm}
        if lesion is not None:
            of_lesion = ("lesion_id", "n_readers", "malignancy", "reader_dice")
            error |= {name: getattr(lesion, name) for name in of_lesion}
            error |= {"high_risk": self.is_high_risk(lesion), "score": lesion.best_score}
        if marked is not None:
            of_mark = ("candidate_id", "score", "dice")
            error |= {name: getattr(marked, name) for name in of_mark}
        return error


def _why_false(marked: Any) -> tuple[str, str]:
    if marked.n_reference_voxels > 0:
        return "part of a lesion, fits it too badly", "model"
    if marked.n_ignored_voxels > 0:
        return "beside what one reader drew", "data"
    return "apart from every lesion", "data"


def _in_order(errors: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(errors, columns=[*ERROR_COLUMNS, "severity"])
    table["candidate_id"] = table["candidate_id"].astype("Int64")
    table["n_readers"] = table["n_readers"].astype("Int64")
    table = table.sort_values(
        ["group", "high_risk", "severity", "case_id", "candidate_id"],
        ascending=[True, False, False, True, True],
        key=lambda column: column.map(GROUPS.index) if column.name == "group" else column,
        ignore_index=True,
    )
    return table[list(ERROR_COLUMNS)]
