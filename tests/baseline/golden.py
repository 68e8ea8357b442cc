"""The stored answers of the shipped weights; make them again with: python tests/baseline/golden.py.

Two cases: the first test patient of the quick phantom, and balls and tubes in two lungs of constant
density with noise. The second is drawn by numpy alone, so that it stays when the phantom changes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from toy import Ball, toy_volume

from medlib.annotation.reference import reference_mask
from medlib.baseline.inference import predict_volume
from medlib.baseline.run import Run
from medlib.images.volume import Volume
from medlib.phantom.cohort_sizes import PROFILES
from medlib.phantom.recipe import make_case, plan_cohort
from medlib.risk.evaluation_files import shipped_run

STORED = Path(__file__).with_name("golden.npz")
BALLS = [Ball((15, 64, 36), 5.0), Ball((25, 50, 92), 9.0, hu=20.0), Ball((28, 84, 30), 3.0)]


def drawn() -> tuple[Volume, np.ndarray]:
    """Draw a chest with three balls."""
    volume, masks = toy_volume(BALLS, spacing_mm=(2.5, 0.8, 0.8), noise_hu=25.0, seed=3)
    return volume, np.any(masks, axis=0)


def phantom() -> tuple[Volume, np.ndarray]:
    """Make a phantom patient; the lesions are what half of the readers marked."""
    plan = next(plan for plan in plan_cohort(PROFILES["quick"], 0) if plan.split == "test")
    case, _ = make_case(plan)
    return case.volume, reference_mask(case.readers)


CASES: dict[str, Callable[[], tuple[Volume, np.ndarray]]] = {"drawn": drawn, "phantom": phantom}


def marked(volume: Volume, device: torch.device) -> np.ndarray:
    """Return what the shipped weights mark."""
    run = Run(shipped_run())
    found = predict_volume(
        run.load_network(), run.config, volume, device, outliner=run.load_outliner()
    )
    return found.labels > 0


def weights() -> str:
    """Return which weights are shipped."""
    return Run(shipped_run()).weights_sha256()


if __name__ == "__main__":
    stored = {"weights": np.array(weights())}
    for name, make in CASES.items():
        volume, lesions = make()
        mask = marked(volume, torch.device("cpu"))
        dice = 2 * (mask & lesions).sum() / (mask.sum() + lesions.sum())
        print(f"{name}: {mask.sum()} voxels marked, Dice with the lesions {dice:.3f}")
        stored |= {name: np.packbits(mask), f"{name}_shape": np.array(mask.shape)}
    np.savez_compressed(STORED, **stored)
