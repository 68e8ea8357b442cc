"""What the reviewer answered: written once, never changed, counted by case."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from medlib.errors import DataError, InputError, first_fault
from medlib.review.schema import DECISIONS_FILE, read_report


class Answer(StrEnum):
    """What a reviewer can say about a case or one of its lesions."""

    CONFIRM = "confirm"  # right as it stands
    CORRECT = "correct"  # a lesion, but the outline is wrong, or one was missed
    REJECT = "reject"  # not a lesion
    ESCALATE = "escalate"  # a second human has to decide


class Decision(BaseModel):
    """One answer of one reviewer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    series_instance_uid: str = Field(pattern=r"^[0-9.]{1,64}$")
    lesion_id: int | None = Field(default=None, ge=1)  # None: the case as a whole
    answer: Answer
    role: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    time: AwareDatetime
    simulated: bool = False  # a rule gave it and no person


def append_decision(folder: Path, decision: Decision) -> None:
    """Add an answer at the end of the decisions that stand beside a report.

    Raises
    ------
    InputError
        If `folder` holds no report, or the answer speaks of another series or lesion.
    """
    report = read_report(folder)
    if decision.series_instance_uid != report.series_instance_uid:
        raise InputError(
            f"{folder}: the report is about series {report.series_instance_uid}, the decision "
            f"about {decision.series_instance_uid}; use that series' folder"
        )
    known = [lesion.id for lesion in report.lesions]
    if decision.lesion_id is not None and decision.lesion_id not in known:
        raise InputError(
            f"{folder}: no lesion {decision.lesion_id} in the report (it has {known or 'none'}); "
            "leave lesion_id out to answer for the whole case"
        )
    with (folder / DECISIONS_FILE).open("a", encoding="utf-8") as file:
        file.write(decision.model_dump_json() + "\n")


def read_decisions(folder: Path) -> list[Decision]:
    """Return the answers beside a report, oldest first; an empty list where there are none."""
    path = folder / DECISIONS_FILE
    if not path.exists():
        return []
    decisions = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            decisions.append(Decision.model_validate_json(line))
        except ValidationError as error:
            raise DataError(
                f"{path}: line {number} is not a decision ({first_fault(error)}); the file is "
                "append-only, restore it from its last copy"
            ) from None
    return decisions


def case_outcomes(decisions: Iterable[Decision]) -> pd.DataFrame:
    """Count the answers: a row a reviewed case, with `series_instance_uid` and `n_answers`.

    `passed` is true where every standing answer is ``confirm``; its mean is the human review pass
    rate. Of several answers about the same lesion (or the same case) the one written last stands:
    the order in the file, since the clocks of two reviewers need not agree.
    """
    standing = {(d.series_instance_uid, d.lesion_id): d for d in decisions}
    table = pd.DataFrame(
        [(uid, decision.answer is Answer.CONFIRM) for (uid, _), decision in standing.items()],
        columns=["series_instance_uid", "confirmed"],
    )
    grouped = table.groupby("series_instance_uid", sort=False)["confirmed"]
    return grouped.agg(n_answers="size", passed="all").reset_index()
