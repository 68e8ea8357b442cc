"""One small model trained on each label policy, judged by each policy.

The model sees smoothed images and their derivatives at four scales and says for each voxel how
likely it is lesion: gradient-boosted trees, the same for every policy. Only its labels differ.
Patients are dealt into folds, so that each lesion is judged by models that never saw its patient.

The question is what a policy does to a model, not how good a model can be: it is told where to look
(a block around each lesion) and what it marks elsewhere in the block is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from medlib import progress
from medlib.annotation import agreement, policies, reference

if TYPE_CHECKING:  # a study's key follows its imports: how a case is read is not part of it
    from medlib.annotation.case import Case

SCALES_MM = (0.7, 1.5, 3.0, 6.0)
MARGIN_MM = 7.0  # of a block around its lesion
VOXELS = 500  # drawn at most from each block for training: of lesion, and of background
N_FOLDS = 3
HIT_IOU = 0.1  # as in the evaluation of the baseline
OURS_IGNORING = f"{policies.OURS}, disputed ignored"  # what the baseline is trained on
TAUGHT = (*policies.LABEL_POLICIES, OURS_IGNORING)


@dataclass(frozen=True)
class Block:
    """One lesion with its surroundings.

    Attributes
    ----------
    features : ndarray of float32, shape (z, y, x, feature)
    readers : ndarray of uint8, shape (z, y, x)
        Bit field of this lesion alone.
    usable : ndarray of bool, shape (z, y, x)
        False on other lesions.
    """

    lesion_id: str
    patient_id: str
    n_readers: int
    diameter_mm: float
    features: NDArray[np.float32]
    readers: NDArray[np.uint8]
    usable: NDArray[np.bool_]


def features(
    hu: NDArray[np.float32], spacing_mm: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Return brightness, edge strength and blob strength at each of `SCALES_MM`.

    From shape (z, y, x) to shape (z, y, x, 3 * scales).
    """
    found = []
    for scale_mm in SCALES_MM:
        sigma = scale_mm / np.asarray(spacing_mm)
        smooth = ndimage.gaussian_filter(hu, sigma, mode="nearest", truncate=3)
        slopes = np.gradient(smooth, *spacing_mm)
        bends = [
            np.gradient(slope, step, axis=axis)
            for axis, (slope, step) in enumerate(zip(slopes, spacing_mm, strict=True))
        ]
        found += [smooth, np.linalg.norm(slopes, axis=0), scale_mm**2 * np.sum(bends, axis=0)]
    return np.stack(found, axis=-1).astype(np.float32)


def blocks_of(case: Case) -> list[Block]:
    """Cut every lesion of a case out, with what the model may see of its surroundings."""
    spacing = case.volume.spacing_mm
    cut = []
    for lesion in case.lesions.itertuples():
        margin = [round(MARGIN_MM / step) for step in spacing]
        found = ndimage.find_objects(case.lesion_labels, max_label=lesion.label)[lesion.label - 1]
        block = tuple(
            slice(max(side.start - more, 0), side.stop + more)
            for side, more in zip(found, margin, strict=True)
        )
        labels = case.lesion_labels[block]
        own = labels == lesion.label
        cut.append(
            Block(
                lesion_id=lesion.lesion_id,
                patient_id=case.patient_id,
                n_readers=int(lesion.n_readers),
                diameter_mm=float(lesion.diameter_mm),
                features=features(case.volume.hu[block].astype(np.float32), spacing),
                readers=np.where(own, case.readers[block], np.uint8(0)),
                usable=own | (labels == 0),
            )
        )
    return cut


def cross_validate(
    blocks: Sequence[Block], *, n_folds: int = N_FOLDS, seed: int = 0
) -> pd.DataFrame:
    """Train on every policy of `TAUGHT`, judge by every mask policy, patients apart.

    The last of `TAUGHT` is this project's own training: voxels that at least two readers marked,
    and nothing taught where one reader alone drew a lesion.

    Parameters
    ----------
    blocks : sequence of Block
    n_folds : int
        At most the number of patients.
    seed : int
        Deals patients into folds and draws voxels to learn from.

    Returns
    -------
    DataFrame
        A row a lesion and training policy: `lesion_id`, `patient_id`, `n_readers`, `diameter_mm`,
        `trained_on`, `volume_over_mean` (of the marked volume to the readers' mean),
        ``dice_<policy>`` for each mask policy (NaN where that policy leaves no lesion),
        `hit` (IoU with the voxels of at least two readers at least `HIT_IOU`; NaN without any),
        `dice_with_readers` (mean over the readers who drew it), `dice_among_readers` (mean of
        their pairs; NaN for one) and `dice_vs_majority` (with the voxels that more than half of
        the readers who drew it marked; NaN for one).
    """
    patients = np.random.default_rng(seed).permutation(sorted({b.patient_id for b in blocks}))
    fold_of = {patient: k % n_folds for k, patient in enumerate(patients)}
    labels = {
        name: [policy(block.readers) for block in blocks]
        for name, policy in policies.LABEL_POLICIES.items()
    }
    labels[OURS_IGNORING] = [
        np.where((block.readers > 0) & _is_disputed(block), np.float32("nan"), label)
        for block, label in zip(blocks, labels[policies.OURS], strict=True)
    ]
    rows = []
    todo = [(fold, name) for fold in range(n_folds) for name in TAUGHT]
    for fold, name in progress.track(todo, "policies"):
        held_out = [fold_of[block.patient_id] == fold for block in blocks]
        taught = zip(blocks, labels[name], held_out, strict=True)
        model = _fit([(block, label) for block, label, held in taught if not held], seed)
        for k, block in enumerate(blocks):
            if held_out[k]:
                references = {p: labels[p][k] > 0 for p in policies.MASK_POLICIES}
                rows.append({"trained_on": name} | _judge(model, block, references))
    return pd.DataFrame(rows).sort_values(["trained_on", "lesion_id"], ignore_index=True)


def _is_disputed(block: Block) -> bool:
    return reference.lesion_status(block.n_readers) == "disputed"


def _fit(taught: Sequence[tuple[Block, NDArray[np.float32]]], seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng([seed, 1])
    seen, share = [], []
    for block, label in taught:
        # The same voxels whatever the policy: of those that any reader marked, and of the others.
        grounds = block.readers > 0, block.usable & (block.readers == 0)
        at = np.concatenate(
            [
                rng.choice(ground, min(VOXELS, len(ground)), replace=False)
                for ground in map(np.flatnonzero, grounds)
            ]
        )
        seen.append(block.features.reshape(-1, block.features.shape[-1])[at])
        share.append(label.ravel()[at])
    x, p = np.concatenate(seen), np.concatenate(share)
    x, p = x[~np.isnan(p)], p[~np.isnan(p)]
    # A soft label is both answers at once, each with its weight: the cross-entropy of the share.
    yes, no = p > 0, p < 1
    model = HistGradientBoostingClassifier(
        max_iter=40, learning_rate=0.25, max_bins=32, early_stopping=False, random_state=0
    )
    model.fit(
        np.concatenate([x[yes], x[no]]),
        np.concatenate([np.ones(yes.sum()), np.zeros(no.sum())]),
        sample_weight=np.concatenate([p[yes], 1 - p[no]]),
    )
    return model


def _judge(
    model: Any, block: Block, references: Mapping[str, NDArray[np.bool_]]
) -> dict[str, object]:
    inputs = block.features.reshape(-1, block.features.shape[-1])
    likely = model.predict_proba(inputs)[:, 1].reshape(block.readers.shape)
    marked, _ = ndimage.label((likely >= 0.5) & block.usable)
    touching = np.unique(marked[block.readers > 0])
    mask = np.isin(marked, touching[touching > 0])
    drawn = reference.reader_masks(block.readers)
    drawn = drawn[drawn.any(axis=(1, 2, 3))]
    ours = references[policies.OURS]
    pairs = [pair.dice_3d for pair in agreement.pairwise_agreement(drawn)]
    majority = reference.more_than_half(drawn)
    return {
        "lesion_id": block.lesion_id,
        "patient_id": block.patient_id,
        "n_readers": block.n_readers,
        "diameter_mm": block.diameter_mm,
        "volume_over_mean": mask.sum() / drawn.sum(axis=(1, 2, 3)).mean(),
        **{
            f"dice_{name}": agreement.dice(mask, one) if one.any() else float("nan")
            for name, one in references.items()
        },
        "hit": float(agreement.iou(mask, ours) >= HIT_IOU) if ours.any() else float("nan"),
        "dice_with_readers": float(np.mean([agreement.dice(mask, one) for one in drawn])),
        "dice_among_readers": float(np.mean(pairs)) if pairs else float("nan"),
        "dice_vs_majority": agreement.dice(mask, majority) if pairs else float("nan"),
    }
