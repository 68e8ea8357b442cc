"""What is chosen for two trained networks, on nodules of the tune part.

With the networks as they are shipped, in half precision: the operating point is the score of one
nodule.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from medlib.annotation.agreement import dice
from medlib.annotation.case import Case
from medlib.annotation.reference import more_than_half
from medlib.baseline.network_passes import Model
from medlib.baseline.outline import outline_window
from medlib.risk.judging import Predict, judge
from medlib.risk.matching import concatenate
from medlib.risk.operating_point import choose_for_sensitivity

LEVELS = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65)


def choose_level(outliner: Model, windows: Iterable[Case]) -> tuple[float, dict[str, float]]:
    """Choose the probability from which the close look marks a voxel: best mean Dice in windows.

    Also return the mean Dice at each level.
    """
    outliners = [
        outliner._replace(config=outliner.config.model_copy(update={"candidate_level": level}))
        for level in LEVELS
    ]
    rows = [
        [
            dice(more_than_half(window.drawn_masks()), outline_window(each, window.volume) >= level)
            for each, level in zip(outliners, LEVELS, strict=True)
        ]
        for window in windows
    ]
    mean = np.nanmean(np.array(rows), axis=0)
    by_level = {f"{level:g}": round(float(d), 4) for level, d in zip(LEVELS, mean, strict=True)}
    return float(LEVELS[int(mean.argmax())]), by_level


def choose_operating_point_on_nodules(predict: Predict, windows: Iterable[Case]) -> float:
    """Choose the lowest score that is reported, by `SENSITIVITY_RULE`: the miss comes first.

    Real scans are too few to count false alarms on, and what alarms in the phantom is not what
    alarms in patients.
    """
    lesions = concatenate([judge(window, predict).tables for window in windows]).lesions
    to_find = lesions[lesions["status"] == "required"]
    return choose_for_sensitivity(to_find.fillna({"best_score": 0.0}))
