"""A reviewer's corrections of a model's marks, as one more reader of the case.

The reviewer leaves two files: the answers (``decisions.jsonl``, a line an answer) and the corrected
mask, an edited copy of the model's ``mask.nii.gz`` in which a corrected mark keeps its number and a
missed lesion gets a new one. Nothing that readers drew before is overwritten: the reviewer becomes
a further reader, and the reference standard follows from all of them by the same rule as before.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlib.annotation.drawings import Annotation, Author, LesionMask, shared_voxels
from medlib.errors import InputError

ANSWERS_FILE = "decisions.jsonl"
MASK_FILE = "mask.nii.gz"
FIELDS = ("series_instance_uid", "lesion_id", "answer", "role", "reason")


@dataclass(frozen=True)
class Corrections:
    """What a review changes: an annotation with one reader more, who that was, and why."""

    annotation: Annotation
    role: str
    reason: str  # the answers counted, and the reasons of the corrections


def read_answers(folder: Path) -> list[Mapping[str, Any]]:
    """Read the answers beside a report; of several on one mark the last stands."""
    path = folder / ANSWERS_FILE
    if not path.is_file():
        raise InputError(f"{path}: no answers here; expected the folder that was reviewed")
    standing: dict[Any, Mapping[str, Any]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            answer = json.loads(line)
            missing = [field for field in FIELDS if field not in answer]
        except (json.JSONDecodeError, TypeError):
            answer, missing = {}, list(FIELDS)
        if missing:
            raise InputError(
                f"{path}: line {number} lacks {', '.join(missing)}; expected an answer of the "
                "review; restore the file"
            )
        standing[answer["lesion_id"]] = answer
    if not standing:
        raise InputError(f"{path}: holds no answer; review the case first")
    return list(standing.values())


def apply_corrections(
    annotation: Annotation,
    answers: Sequence[Mapping[str, Any]],
    model_labels: NDArray[np.integer],
    corrected_labels: NDArray[np.integer],
) -> Corrections:
    """Bring a reviewer's corrections into an annotation.

    Only what was answered with ``correct`` is drawn anew: a mark of the model under its number, and
    for the case as a whole every number that the model did not use. A corrected region that meets
    a known lesion is that lesion (the one with which it shares most voxels), otherwise a new one.
    ``confirm``, ``reject`` and ``escalate`` draw nothing. InputError if the answers are of another
    series or of several roles, ask for a correction that the mask does not hold, or for none.
    """
    roles = sorted({str(answer["role"]) for answer in answers})
    if len(roles) != 1:
        raise InputError(f"the answers are of the roles {', '.join(roles)}; revise one at a time")
    uid = annotation.grid.series_instance_uid
    if other := {answer["series_instance_uid"] for answer in answers} - {uid}:
        raise InputError(f"the answers are of series {other.pop()}, the annotation is of {uid}")
    asked = [answer for answer in answers if answer["answer"] == "correct"]
    if not asked:
        raise InputError("no answer is 'correct'; there is nothing to revise")
    corrected = set(np.unique(corrected_labels).tolist())
    new = corrected - set(np.unique(model_labels).tolist())
    named = {int(answer["lesion_id"]) for answer in asked if answer["lesion_id"] is not None}
    drawn = corrected & (named | new)
    for label in sorted(named - drawn):
        # A mark may have gone into another: two marks on one lesion.
        if not np.isin(corrected_labels[model_labels == label], list(drawn)).any():
            raise InputError(
                f"mark {label} was answered 'correct', but the corrected mask holds no voxel of "
                "it; draw it, or answer 'reject'"
            )
    labels = [int(answer["lesion_id"]) for answer in asked if answer["lesion_id"] in drawn]
    if any(answer["lesion_id"] is None for answer in asked):
        if not new:
            raise InputError(
                "the case was answered 'correct', but the corrected mask holds no new number; draw "
                "the missed lesion under a number that the model did not use"
            )
        labels += sorted(new)
    counts = Counter(str(answer["answer"]) for answer in answers)
    reason = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    reasons = "; ".join(dict.fromkeys(str(answer["reason"]) for answer in asked))
    revised = _with_reader(annotation, [corrected_labels == label for label in labels])
    authors = {**annotation.authors, revised.readers[-1]: Author("reader", roles[0])}
    revised = replace(revised, authors=authors, names=annotation.names, codes=annotation.codes)
    return Corrections(revised, roles[0], f"{reason}: {reasons}")


def _with_reader(annotation: Annotation, regions: Sequence[NDArray[np.bool_]]) -> Annotation:
    reader = max(annotation.readers, default=0) + 1
    by_lesion: dict[int, NDArray[np.bool_]] = {}
    next_lesion = max(annotation.lesions, default=0) + 1
    for region in regions:
        cut = LesionMask.cut(next_lesion, reader, region)
        shared = Counter[int]()
        for mask in annotation.masks:
            shared[mask.lesion] += shared_voxels(mask, cut)
        lesion, voxels = shared.most_common(1)[0] if shared else (next_lesion, 0)
        if not voxels:
            lesion, next_lesion = next_lesion, next_lesion + 1
        # Two marks on one lesion: the reviewer's outline of it is both.
        by_lesion[lesion] = by_lesion[lesion] | region if lesion in by_lesion else region
    added = [LesionMask.cut(lesion, reader, region) for lesion, region in by_lesion.items()]
    return Annotation.gather(
        annotation.grid,
        [*annotation.masks, *added],
        (),
        (*annotation.readers, reader),
        annotation.ratings,
    )
