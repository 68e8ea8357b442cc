"""A simulated reviewer: a rule that answers from the reference standard, where no person did.

It exists so that the book can show what happens to an answer. It reads the reference standard,
which no reviewer has, so its pass rate is a figure about the model and none about people.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medlib.annotation.case import Case
from medlib.annotation.reference import reference_mask
from medlib.review.decisions import Answer, Decision
from medlib.review.schema import Report
from medlib.risk.metrics import ACCEPTED_DICE

ROLE = "simulated reviewer"
RULE = {
    Answer.CONFIRM: f"a hit with Dice of at least {ACCEPTED_DICE:g}; a scan rightly left empty",
    Answer.CORRECT: "a hit with a lower Dice; a duplicate; a scan with a missed lesion",
    Answer.REJECT: "a false alarm",
    Answer.ESCALATE: "a mark on what one radiologist alone drew",
}


def simulated_decisions(
    report: Report, candidates: pd.DataFrame, n_missed: int, time: datetime
) -> list[Decision]:
    """Answer one report by `RULE`: each mark, and the case where it has a miss or no mark.

    `candidates` are the case's, with `candidate_id`, `outcome` and `dice`; both number the marks
    from the highest score down, so a lesion's id is a candidate's. `n_missed` required lesions were
    hit by no mark. `time` needs a time zone.
    """
    mark = candidates.set_index("candidate_id")
    answers: list[tuple[int | None, Answer, str]] = [
        (lesion.id, *_judge_mark(mark.at[lesion.id, "outcome"], mark.at[lesion.id, "dice"]))
        for lesion in report.lesions
    ]
    if n_missed:
        answers.append((None, Answer.CORRECT, f"required lesions not marked: {n_missed}"))
    elif not report.lesions:
        answers.append((None, Answer.CONFIRM, "nothing marked, nothing to mark"))
    return [
        Decision(
            series_instance_uid=report.series_instance_uid,
            lesion_id=lesion_id,
            answer=answer,
            role=ROLE,
            reason=reason,
            time=time,
            simulated=True,
        )
        for lesion_id, answer, reason in answers
    ]


def _judge_mark(outcome: str, dice: float) -> tuple[Answer, str]:
    if outcome == "false alarm":
        return Answer.REJECT, "no radiologist drew anything here"
    if outcome == "disputed":
        return Answer.ESCALATE, "the radiologists disagree on whether this is a lesion"
    if outcome == "duplicate":
        return Answer.CORRECT, "another mark covers this lesion already"
    if dice < ACCEPTED_DICE:
        return Answer.CORRECT, f"outline off: Dice {dice:.2f} with the reference standard"
    return Answer.CONFIRM, f"outline agrees: Dice {dice:.2f} with the reference standard"


def simulated_mask(
    case: Case, model_labels: NDArray[np.integer], decisions: Iterable[Decision]
) -> NDArray[np.uint16]:
    """Draw what a simulated reviewer answered with ``correct``: the reference standard.

    `model_labels` is the report's mask, the `decisions` are this case's. Returned is that mask with
    corrected marks redrawn under their numbers and, where the case as a whole was answered with
    ``correct``, missed lesions under new numbers.
    """
    corrected = model_labels.astype(np.uint16)
    answered = {decision.lesion_id: decision.answer for decision in decisions}
    asked = {lesion_id for lesion_id, answer in answered.items() if answer is Answer.CORRECT}
    confirmed = {lesion_id for lesion_id, answer in answered.items() if answer is Answer.CONFIRM}
    reference = np.where(reference_mask(case.readers), case.lesion_labels, 0)
    next_label = int(model_labels.max(initial=0)) + 1
    for lesion in np.unique(reference[reference > 0]):
        marks = [int(k) for k in np.unique(model_labels[reference == lesion]) if k]
        redrawn = [k for k in marks if k in asked]
        if redrawn:
            corrected[np.isin(model_labels, redrawn)] = 0
            corrected[reference == lesion] = redrawn[0]
        elif None in asked and not confirmed.intersection(marks):
            corrected[reference == lesion] = next_label
            next_label += 1
    return corrected
