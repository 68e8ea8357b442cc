"""Lesions against candidates: what was hit, what was missed, what was a false alarm.

The rule, for one scan. A candidate and a lesion overlap where the 3D intersection over union of
the candidate and the lesion's reference mask is at least `MIN_IOU`. Candidates are taken from the
highest score down; each takes the free required lesion that it overlaps most, and that is a hit.
A candidate that overlaps only lesions already taken is a duplicate. One that overlaps a lesion
which a single reader drew is disputed: neither a hit nor a false alarm, as that lesion is neither
found nor missed. One that overlaps none and lies where nobody can say what is healthy is doubtful.
What is left is a false alarm.

Where no readers drew the lesions, all of them have to be found. Boxes hold the lesion and more: a
candidate overlaps them that lies inside with `MIN_INSIDE` of its voxels. In a window around a
nodule the reference is the majority of its readers, `reference.more_than_half`.

Because the order is that of the scores, the pairs at any score threshold are the pairs found here
whose score reaches it: one matching serves every operating point.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from medlib.annotation.agreement import dice
from medlib.annotation.case import LESION_COLUMNS, Case
from medlib.annotation.reference import MIN_READERS, more_than_half, reader_masks
from medlib.baseline.candidates import Prediction

MIN_IOU = 0.1
MIN_INSIDE = 0.5  # of a candidate's voxels: in boxes, or in what is doubtful
HIT_RULE = f"3D IoU with the reference mask of at least {MIN_IOU:g}"
IDS = ("case_id", "patient_id", "site", "split")


@dataclass(frozen=True)
class Matching:
    """One scan's lesions and candidates, matched; or those of many scans, one below the other.

    A row a lesion, a candidate, a scan, each with `IDS`. Lesions have `LESION_COLUMNS`; `status`
    (``required`` or ``disputed``); `reader_dice`, the mean over pairs of readers; of the candidate
    that hit it, if any, `matched_candidate`, `best_score`, `dice` and `iou`; `best_iou` with any
    candidate; and `center_z`, `center_y`, `center_x`, the voxel index of the reference's centroid,
    or of that of all outlines where readers share no voxel. Candidates have `outcome` and the
    `lesion_id` it is about, empty for a false alarm; `n_ignored_voxels` count for nothing, inside
    a disputed lesion or, in a window, in what some readers drew beyond the reference.
    """

    lesions: pd.DataFrame
    candidates: pd.DataFrame
    cases: pd.DataFrame


def match_case(case: Case, prediction: Prediction) -> Matching:
    """Match the candidates of one scan, on one grid with it, by the rule of this module.

    A lesion whose readers share no voxel has no reference mask and is treated as disputed.
    """
    if prediction.labels.shape != case.lesion_labels.shape:
        raise ValueError(
            f"{case.case_id}: prediction is {prediction.labels.shape}, the case is "
            f"{case.lesion_labels.shape}; predict on the case's own grid"
        )
    voters = more_than_half(case.drawn_masks()) if case.is_window else case.reference
    consensus = np.where(voters, case.lesion_labels, 0)
    lesions = case.lesions.reset_index(drop=True)
    required = np.isin(lesions["label"], np.unique(consensus))
    if case.label_kind == "readers" and not case.is_window:
        required &= (lesions["n_readers"] >= MIN_READERS).to_numpy(dtype=bool)
    ignored = np.isin(case.lesion_labels, lesions.loc[~required, "label"])
    target = np.where(ignored, case.lesion_labels, consensus)
    labels = lesions["label"].to_numpy(dtype=int)
    overlap = _overlap(prediction, target, labels)
    in_boxes = case.label_kind == "boxes"
    overlaps = overlap.inside >= MIN_INSIDE if in_boxes else overlap.iou >= MIN_IOU

    candidates = _judge(prediction.candidates, lesions, required, overlap, overlaps)
    reference = (target > 0) & ~ignored
    if case.is_window:  # what some readers drew is no false alarm
        ignored |= (case.lesion_labels > 0) & ~reference
    shown = prediction.labels
    candidates["n_voxels"] = overlap.candidate_voxels
    candidates["n_reference_voxels"] = _count_by_candidate(shown[reference], candidates)
    candidates["n_ignored_voxels"] = _count_by_candidate(shown[ignored], candidates)

    if case.doubtful is not None:
        in_doubt = _count_by_candidate(shown[case.doubtful], candidates)
        alarms = candidates["outcome"] == "false alarm"
        is_doubtful = in_doubt >= MIN_INSIDE * overlap.candidate_voxels
        candidates.loc[alarms & is_doubtful, "outcome"] = "doubtful"

    hits = candidates[candidates["outcome"] == "hit"].set_index("lesion_id")
    of_hit = {"candidate_id": "matched_candidate", "score": "best_score"}
    pairs = hits[["candidate_id", "score", "dice", "iou"]].rename(columns=of_hit).astype(float)
    lesions = lesions[list(LESION_COLUMNS)]
    lesions["status"] = np.where(required, "required", "disputed")
    lesions["reader_dice"] = [_mean_reader_dice(case, label) for label in labels.tolist()]
    lesions = lesions.join(pairs, on="lesion_id").astype({"matched_candidate": "Int64"})
    lesions["n_voxels"] = overlap.lesion_voxels
    lesions["best_iou"] = overlap.iou.max(axis=0, initial=0.0)
    lesions[[f"center_{axis}" for axis in "zyx"]] = np.reshape(
        ndimage.center_of_mass(target > 0, target, labels), (-1, 3)
    )

    of_case = {
        "n_voxels": target.size,
        "n_reference_voxels": np.count_nonzero(reference),
        "n_ignored_voxels": np.count_nonzero(ignored),
        "n_required": np.count_nonzero(required),
        "n_disputed": np.count_nonzero(~required),
    }
    for axis, step in zip("zyx", case.volume.spacing_mm, strict=True):
        of_case[f"spacing_{axis}_mm"] = step
    if case.doubtful is not None:
        of_case["n_doubtful_voxels"] = np.count_nonzero(case.doubtful)
    ids = {name: getattr(case, name) for name in IDS}
    return Matching(
        *(
            pd.concat([pd.DataFrame(ids, index=table.index), table], axis=1)
            for table in (lesions, candidates, pd.DataFrame([of_case]))
        )
    )


def concatenate(matchings: list[Matching]) -> Matching:
    """Put the tables of many scans one below the other."""

    def together(name: str) -> pd.DataFrame:
        tables = [getattr(one, name) for one in matchings]
        filled = [table for table in tables if len(table)]
        return pd.concat(filled or tables[:1], ignore_index=True)

    return Matching(together("lesions"), together("candidates"), together("cases"))


def _mean_reader_dice(case: Case, label: int) -> float:
    """Mean 3D Dice over the pairs of readers of one lesion; NaN where only one drew it."""
    masks = reader_masks(case.lesion_readers(label)[1])
    pairs = combinations(masks[masks.any(axis=(1, 2, 3))], 2)
    dices = [dice(*pair) for pair in pairs]
    return float(np.mean(dices)) if dices else float("nan")


class _Overlap(NamedTuple):
    """Of each candidate (row) and lesion (column), and how many voxels they have."""

    iou: NDArray[np.float64]
    dice: NDArray[np.float64]
    inside: NDArray[np.float64]  # share of the candidate
    candidate_voxels: NDArray[np.int64]
    lesion_voxels: NDArray[np.int64]


def _overlap(
    prediction: Prediction, target: NDArray[np.uint8], lesion_labels: NDArray[np.int64]
) -> _Overlap:
    """Count in one pass over the voxels that hold either."""
    ids = prediction.candidates["candidate_id"].to_numpy(dtype=int)
    somewhere = (prediction.labels > 0) | (target > 0)
    rows, columns = prediction.labels[somewhere], target[somewhere]
    n_rows = max(ids.max(initial=0), rows.max(initial=0)) + 1
    n_columns = max(lesion_labels.max(initial=0), columns.max(initial=0)) + 1
    pairs = rows.astype(np.int64) * n_columns + columns
    table = np.bincount(pairs, minlength=n_rows * n_columns).reshape(n_rows, n_columns)
    shared = table[np.ix_(ids, lesion_labels)]
    own, theirs = table[ids].sum(axis=1), table[:, lesion_labels].sum(axis=0)
    both = own[:, None] + theirs
    return _Overlap(
        iou=shared / np.maximum(both - shared, 1),
        dice=2 * shared / np.maximum(both, 1),
        inside=shared / np.maximum(own[:, None], 1),
        candidate_voxels=own,
        lesion_voxels=theirs,
    )


def _judge(
    candidates: pd.DataFrame,
    lesions: pd.DataFrame,
    required: NDArray[np.bool_],
    overlap: _Overlap,
    overlaps: NDArray[np.bool_],
) -> pd.DataFrame:
    """Give every candidate its outcome, highest score first."""
    judged = candidates.reset_index(drop=True).assign(outcome="false alarm", lesion_id="")
    judged[["iou", "dice"]] = np.nan
    free = required.copy()
    for row in judged.sort_values(["score", "candidate_id"], ascending=[False, True]).index:
        touched = overlaps[row]
        for outcome, eligible in (
            ("hit", touched & free),
            ("duplicate", touched & required),
            ("disputed", touched & ~required),
        ):
            if eligible.any():
                lesion = int(np.argmax(np.where(eligible, overlap.iou[row], -1)))
                judged.loc[row, ["outcome", "lesion_id"]] = outcome, lesions["lesion_id"][lesion]
                judged.loc[row, "iou"] = overlap.iou[row, lesion]
                judged.loc[row, "dice"] = overlap.dice[row, lesion]
                free[lesion] = False
                break
    return judged


def _count_by_candidate(labels: NDArray[np.uint16], candidates: pd.DataFrame) -> NDArray[np.int64]:
    ids = candidates["candidate_id"].to_numpy(dtype=int)
    return np.asarray(np.bincount(labels, minlength=ids.max(initial=0) + 1)[ids])
