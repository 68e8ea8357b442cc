"""The same scores judged under several policies for CheXpert's uncertain labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from medlib.cohorts.chexpert import POLICIES, read_chexpert
from medlib.errors import DataError


def compare_policies(csv: Path, scores: Mapping[str, float], finding: str) -> pd.DataFrame:
    """Judge scores, by `image_id`, for one finding under every policy.

    Returns
    -------
    DataFrame
        A row a policy: `policy`, `patients`, `images` (with a label), `uncertain` (labels that
        were -1), `prevalence` (weighted mean label), `auroc` (`weighted_auroc`).

    Raises
    ------
    DataError
        As `read_chexpert`; also if an image has no score.
    """
    left_out = read_chexpert(csv, "ignore", findings=[finding])["label_weight"] == 0
    rows = []
    for policy in POLICIES:
        table = read_chexpert(csv, policy, findings=[finding])
        score = table["image_id"].map(dict(scores)).astype(float)
        if (without := score.isna()).any():
            raise DataError(
                f"no score for {without.sum()} images, first {table['image_id'][without].iloc[0]}; "
                "expected one for every image of the CSV"
            )
        used = table["label_weight"] > 0
        label, weight = table["label"][used].to_numpy(), table["label_weight"][used].to_numpy()
        rows.append(
            {
                "policy": policy,
                "patients": table["patient_id"][used].nunique(),
                "images": len(label),
                "uncertain": int(left_out.sum()),
                "prevalence": float(np.average(label, weights=weight)),
                "auroc": weighted_auroc(label, score[used].to_numpy(), weight),
            }
        )
    return pd.DataFrame(rows)


def weighted_auroc(
    label: NDArray[np.float64], score: NDArray[np.float64], weight: NDArray[np.float64]
) -> float:
    """Return the area under the ROC curve for labels between 0 and 1.

    An image with label p counts as a positive one of weight p and a negative one of weight
    1 - p: for 0 and 1 this is the ordinary area. NaN where there is no positive or no negative
    weight.
    """
    positive, negative = label * weight, (1 - label) * weight
    if positive.sum() <= 0 or negative.sum() <= 0:
        return float("nan")
    truth = np.repeat([1, 0], len(label))
    weights = np.concatenate([positive, negative])
    held = weights > 0
    return float(roc_auc_score(truth[held], np.tile(score, 2)[held], sample_weight=weights[held]))
