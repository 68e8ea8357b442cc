"""What every method returns: a probability volume and the candidates in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cc3d
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from medlib.baseline.config import TrainConfig
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
    """What a method sees in one case, on the case's own grid.

    Attributes
    ----------
    probability : ndarray of float16, shape (z, y, x)
        That a voxel belongs to a lesion; 0 outside the lung field, where one was looked for.
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

    Parameters
    ----------
    probability : ndarray
        Of the voxels of one region.
    voxel_mm3 : float
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
    candidates = candidates.sort_values("score", ascending=False, ignore_index=True, kind="stable")
    number = np.zeros(len(candidates) + 1, dtype=np.uint16)
    number[candidates["candidate_id"].to_numpy()] = candidates.index + 1
    return replace(
        prediction,
        labels=number[prediction.labels],
        candidates=candidates.assign(candidate_id=candidates.index + 1),
    )


def find_candidates(
    probability: NDArray[np.float32], spacing_mm: tuple[float, float, float], config: TrainConfig
) -> Prediction:
    """Join voxels above the candidate level into candidates and score them.

    Voxels that touch by a face, an edge or a corner (26-connectivity) belong together. The score is
    the probability with the mean log-odds of the voxels inside, of a large one of its surest part,
    see `core_log_odds`.

    Parameters
    ----------
    probability : ndarray, shape (z, y, x)
    spacing_mm : tuple of float
        Along z, y and x.
    config : TrainConfig
        `candidate_level` and `min_diameter_mm` are used.

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
        score = probability_of(core_log_odds(inside, voxel_mm3))
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
