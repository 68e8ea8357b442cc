"""The evidence card of a run: what was made, from what, on what, and how it is checked.

Its first five fields are those of the project's evidence card: task output, artifacts, metric,
failure check, expected output.
"""

from __future__ import annotations

import math
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from medlib.baseline.config import TrainConfig
from medlib.baseline.device import describe, has_fast_bfloat16
from medlib.cohorts.cohort import Cohort, cohort_key

if TYPE_CHECKING:
    from medlib.baseline.train import Trained

PACKAGES = (
    "torch",
    "lightning",
    "segmentation-models-pytorch",
    "timm",
    "albumentations",
    "openvino",
    "numpy",
    "scipy",
)


def evidence_card(
    config: TrainConfig,
    cohort: Cohort,
    patients: dict[str, list[str]],
    trained: Trained,
    device: torch.device,
    weights_sha256: str,
) -> dict[str, Any]:
    """Describe a finished training run.

    Parameters
    ----------
    config : TrainConfig
    cohort : Cohort
    patients : dict
        The patients of every split.
    trained : Trained
    device : torch.device
    weights_sha256 : str

    Returns
    -------
    dict
        Ready for JSON.
    """
    best = trained.history[trained.history["step"] == trained.best_step].iloc[0]
    return {
        "task_output": "segmentation mask of lung lesions, and a table of candidates with a score",
        "artifacts": {
            "config.json": "every choice of the run",
            "weights.safetensors": "the network, half precision",
            "history.csv": "the training curves",
            "predictions": "probabilities and candidates of each method for each held-out case",
            "evaluation": "metrics with intervals, chosen operating point",
        },
        "metric": {
            "chosen_on": "tune" if config.keep == "best" else "nothing: the weights of the end",
            "best_step": trained.best_step,
            "tune_loss": _rounded(best["tune_loss"]),
            "tune_crop_dice": _rounded(best["tune_dice"]),
            "held_out": "lesion-wise sensitivity, false-negative rate and Dice in evaluation/",
        },
        "failure_check": [
            "a patient on both sides of a split stops the run",
            "lesions drawn by one reader alone are left out of the loss",
            "misses come before false alarms in the failure gallery",
        ],
        "expected_output": "this folder; run again from the same keys it gives the same weights",
        "model": {
            "name": f"U-Net {config.encoder}",
            "sha256": weights_sha256,
            "parameters": sum(p.numel() for p in trained.network.parameters()),
        },
        "data": {
            "cohort": cohort.folder.name,
            "cohort_sha256": cohort_key(cohort),
            "n_cases": {str(s): len(g) for s, g in cohort.table.groupby("split")},
            "patients": patients,
        },
        "environment": {
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
            "device": describe(device),
            "precision": "bfloat16" if has_fast_bfloat16(device) else "float32",
            "cpu_cores": os.cpu_count(),
        },
        "time": {
            "finished": now(),
            "seconds": round(trained.seconds, 1),
            "steps": int(trained.history["step"].max()),
        },
        "seed": config.seed,
    }


def now() -> str:
    """Return the time as cards state it."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _rounded(value: float) -> float | None:
    """Round for a file, in which undefined is null."""
    return None if math.isnan(value) else round(float(value), 4)
