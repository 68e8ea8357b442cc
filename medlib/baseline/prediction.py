"""What every method returns: a probability volume and the candidates in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cc3d
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from medlib.baseline.config import TrainConfig

CANDIDATE_COLUMNS = (
    "candidate_id",  # value in Prediction.labels
    "score",  # 0..1: how sure the method is that this is a lesion
    "volume_mm3",
    "diameter_mm",  # of the sphere of equal volume
    "center_z",  # voxel index on the case's own grid, as are y and x
    "center_y",
    "center_x",
)
SMALLEST_PROBABILITY = 1e-3  # below it zero is stored, so that a volume packs well


@dataclass(frozen=True)
class Prediction:
    """What a method sees in one case, on the case's own grid.

    Attributes
    ----------
    probability : ndarray of float16, shape (z, y, x)
        That a voxel belongs to a lesion; 0 outside the lung field.
    labels : ndarray of uint16, shape (z, y, x)
        0 outside, else the candidate's id.
    candidates : DataFrame
        A row a candidate, columns `CANDIDATE_COLUMNS`, highest score first.
    """

    probability: NDArray[np.float16]
    labels: NDArray[np.uint16]
    candidates: pd.DataFrame

    def regions(self) -> Iterator[tuple[tuple[slice, slice, slice], NDArray[np.bool_]]]:
        """Yield the box of each candidate and its voxels in it, in the order of the ids."""
        for index, box in enumerate(ndimage.find_objects(self.labels)):
            yield box, self.labels[box] == index + 1


def sphere_diameter_mm(volume_mm3: float) -> float:
    """Return the diameter of the sphere of this volume."""
    return float(2 * (3 * volume_mm3 / (4 * np.pi)) ** (1 / 3))


def size_weight(diameter_mm: float, score_size_mm: float) -> float:
    """Return what a score is multiplied by: ``d / (d + score_size_mm)``.

    A network that is sure of everything ranks a bend of a vessel as high as a mass; between two of
    which it is equally sure, the larger one comes first.
    """
    return diameter_mm / (diameter_mm + score_size_mm)


def rescored(prediction: Prediction, score_size_mm: float) -> Prediction:
    """Return a prediction that was made without `size_weight`, with it."""
    candidates = prediction.candidates
    weights = [size_weight(d, score_size_mm) for d in candidates["diameter_mm"]]
    changed = candidates.assign(score=candidates["score"] * weights)
    return replace(
        prediction, candidates=changed.sort_values("score", ascending=False, ignore_index=True)
    )


def find_candidates(
    probability: NDArray[np.float32], spacing_mm: tuple[float, float, float], config: TrainConfig
) -> Prediction:
    """Join voxels above the candidate level into candidates and score them.

    Voxels that touch by a face, an edge or a corner (26-connectivity) belong together. The score is
    a high quantile of the probabilities inside: nearly the maximum, but not hanging on one voxel.
    Where the configuration says so, it is lowered for small candidates, see `size_weight`.

    Parameters
    ----------
    probability : ndarray, shape (z, y, x)
    spacing_mm : tuple of float
        Along z, y and x.
    config : TrainConfig
        `candidate_level`, `min_diameter_mm`, `score_quantile` and `score_size_mm` are used.

    Returns
    -------
    Prediction
    """
    whole, shape = probability, probability.shape
    box = _box(whole >= min(SMALLEST_PROBABILITY, config.candidate_level))
    probability = whole[box]
    components = cc3d.connected_components(probability >= config.candidate_level, connectivity=26)
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
        score = float(np.quantile(inside, config.score_quantile))
        score *= size_weight(diameter_mm, config.score_size_mm)
        center = statistics["centroids"][component] + [part.start for part in box]
        rows.append((component, score, volume_mm3, diameter_mm, *center))
    candidates = pd.DataFrame(rows, columns=list(CANDIDATE_COLUMNS)).sort_values(
        "score", ascending=False, ignore_index=True
    )
    # Number by rank: 1 is the surest.
    rank_of_component = np.zeros(len(statistics["voxel_counts"]), dtype=np.uint16)
    rank_of_component[candidates["candidate_id"].to_numpy(dtype=int)] = candidates.index + 1
    candidates["candidate_id"] = candidates.index + 1
    stored, labels = np.zeros(shape, dtype=np.float16), np.zeros(shape, dtype=np.uint16)
    stored[box] = np.where(probability < SMALLEST_PROBABILITY, 0, probability)
    labels[box] = rank_of_component[components]
    return Prediction(stored, labels, candidates)


def _box(marked: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the box around what is marked; most of a scan is not. One voxel where nothing is."""
    sides = []
    for axis in range(marked.ndim):
        used = np.flatnonzero(marked.any(axis=tuple({0, 1, 2} - {axis})))
        sides.append(slice(used[0], used[-1] + 1) if used.size else slice(0, 1))
    return tuple(sides)


def save_prediction(prediction: Prediction, path: Path, key: str) -> None:
    """Write a prediction and the key of what it was made from; beside first, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez_compressed(
        beside,
        key=np.array(key),
        probability=prediction.probability,
        labels=prediction.labels,
        candidates=prediction.candidates.to_numpy(dtype=np.float64),
    )
    beside.replace(path)


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
        )
