"""What every method returns: a probability volume and the candidates in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cc3d
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from medlib.baseline.config import TrainConfig
from medlib.baseline.grid import Box, Spacing
from medlib.files import put_in_place
from medlib.images.volume import sphere_diameter_mm

CANDIDATE_COLUMNS = (
    "candidate_id",  # value in Prediction.labels
    "score",  # 0..1: how sure the method is that this is a lesion
    "volume_mm3",
    "diameter_mm",  # of the sphere of equal volume
    "center_z",  # voxel index on the case's own grid, as are y and x
    "center_y",
    "center_x",
)
SURE = 1e-6  # a probability nearer to 0 or 1 counts as this far from it
CORE_MM = 10.0  # of a larger region the surest voxels speak, as many as a nodule of this size has
SMALLEST_PROBABILITY = 1e-3  # below it zero is stored, so that a volume packs well


@dataclass(frozen=True)
class Prediction:
    """What a method sees in one case, on the case's own grid [z, y, x]."""

    probability: NDArray[np.float16]  # of a lesion; 0 outside the lung field, if one was looked for
    labels: NDArray[np.uint16]  # 0 outside, else the candidate's id
    candidates: pd.DataFrame  # a row a candidate, columns `CANDIDATE_COLUMNS`, highest score first
    not_looked_at: str = ""  # why nothing was
    warnings: tuple[str, ...] = ()  # what was looked at with reservations; they reach the report

    def regions(self) -> Iterator[tuple[Box, NDArray[np.bool_], float]]:
        """Yield the box of each candidate, its voxels in it and its score, by their ids."""
        boxes = ndimage.find_objects(self.labels)
        scores = self.candidates["score"]
        for number, (box, score) in enumerate(zip(boxes, scores, strict=True), start=1):
            yield box, self.labels[box] == number, score


def mean_log_odds(probability: NDArray[np.floating]) -> float:
    """Return the mean of ``log(p / (1 - p))``: how sure a network is over a whole region.

    The highest probabilities inside say little: a network is as sure of a bend of a vessel as of a
    mass, at one voxel.
    """
    p = np.clip(np.asarray(probability, dtype=np.float64), SURE, 1 - SURE)
    return float(np.log(p / (1 - p)).mean())


def core_log_odds(probability: NDArray[np.floating], voxel_mm3: float) -> float:
    """Return `mean_log_odds` of the surest voxels, as many as fill a sphere of `CORE_MM`.

    Of a mass all voxels would tell of its long edge, at which a network is not sure; of a nodule
    they are nearly all.
    """
    n = max(1, round(np.pi / 6 * CORE_MM**3 / voxel_mm3))
    return mean_log_odds(
        np.partition(probability, -n)[-n:] if n < probability.size else probability
    )


def probability_of(log_odds: float) -> float:
    """Return the probability with these log-odds."""
    return float(1 / (1 + np.exp(-log_odds)))


def rescored(prediction: Prediction, scores: Sequence[float]) -> Prediction:
    """Return a prediction with other scores, in the order of its candidates, numbered by rank."""
    candidates = prediction.candidates.assign(score=scores)
    candidates, rank = _ranked(candidates, len(candidates))
    return replace(prediction, labels=rank[prediction.labels], candidates=candidates)


def _ranked(candidates: pd.DataFrame, n_labels: int) -> tuple[pd.DataFrame, NDArray[np.uint16]]:
    """Sort by rank, 1 the surest; return the rank of each old number too."""
    candidates = candidates.sort_values("score", ascending=False, ignore_index=True, kind="stable")
    rank = np.zeros(n_labels + 1, dtype=np.uint16)
    rank[candidates["candidate_id"].to_numpy(dtype=int)] = candidates.index + 1
    return candidates.assign(candidate_id=candidates.index + 1), rank


def find_candidates(
    probability: NDArray[np.float32], spacing_mm: Spacing, config: TrainConfig
) -> Prediction:
    """Join voxels above the candidate level into candidates and score them.

    Voxels that touch by a face, an edge or a corner (26-connectivity) belong together. The score is
    the probability with the mean log-odds of the voxels inside, of a large one of its surest part,
    see `core_log_odds`. Of the configuration `candidate_level` and `min_diameter_mm` are used.
    """
    shape = probability.shape
    marked = probability >= min(SMALLEST_PROBABILITY, config.candidate_level)
    # Most of a scan is not marked.
    box = (ndimage.find_objects(marked.view(np.uint8)) or [(slice(0, 1),) * 3])[0]
    probability = probability[box]
    above = (probability >= config.candidate_level).view(np.uint8)  # cc3d fails on thin booleans
    components = cc3d.connected_components(above, connectivity=26)
    statistics = cc3d.statistics(components)
    voxel_mm3 = float(np.prod(spacing_mm))
    rows = []
    for component in range(1, len(statistics["voxel_counts"])):
        volume_mm3 = float(statistics["voxel_counts"][component]) * voxel_mm3
        diameter_mm = sphere_diameter_mm(volume_mm3)
        if diameter_mm < config.min_diameter_mm:
            continue
        own = statistics["bounding_boxes"][component]
        inside = probability[own][components[own] == component]
        score = probability_of(core_log_odds(inside, voxel_mm3))
        center = statistics["centroids"][component] + [part.start for part in box]
        rows.append((component, score, volume_mm3, diameter_mm, *center))
    candidates, rank = _ranked(
        pd.DataFrame(rows, columns=list(CANDIDATE_COLUMNS)), len(statistics["voxel_counts"])
    )
    stored, labels = np.zeros(shape, dtype=np.float16), np.zeros(shape, dtype=np.uint16)
    stored[box] = np.where(probability < SMALLEST_PROBABILITY, 0, probability)
    labels[box] = rank[components]
    return Prediction(stored, labels, candidates)


def save_prediction(prediction: Prediction, path: Path, key: str) -> None:
    """Write a prediction and the key of what it was made from."""
    with put_in_place(path) as beside:
        np.savez_compressed(
            beside,
            key=np.array(key),
            probability=prediction.probability,
            labels=prediction.labels,
            candidates=prediction.candidates.to_numpy(dtype=np.float64),
            not_looked_at=np.array(prediction.not_looked_at),
            warnings=np.array(prediction.warnings, dtype=str),
        )


def load_prediction(path: Path, key: str) -> Prediction | None:
    """Read a prediction; None where there is none or it was made from something else."""
    if not path.is_file():
        return None
    with np.load(path) as stored:
        if str(stored["key"]) != key:
            return None
        candidates = pd.DataFrame(stored["candidates"], columns=list(CANDIDATE_COLUMNS))
        return Prediction(
            probability=stored["probability"],
            labels=stored["labels"],
            candidates=candidates.astype({"candidate_id": int}),
            not_looked_at=str(stored["not_looked_at"]),
            warnings=tuple(stored["warnings"].tolist()),
        )
