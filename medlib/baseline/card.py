"""The evidence card of a run: what was made, from what, on what, and how it is checked.

Its first five fields are those of the project's evidence card: task output, artifacts, metric,
failure check, expected output.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from medlib.baseline.config import TrainConfig
from medlib.baseline.device import best_device, describe, has_fast_bfloat16
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


class Part(NamedTuple):
    """A network of a run: what it was asked to be, what it became, and the patients by split."""

    config: TrainConfig
    trained: Trained
    patients: dict[str, list[str]]


def evidence_card(part: Part, cohort: Cohort, weights_sha256: str) -> dict[str, Any]:
    """Describe a network that was trained, ready for JSON."""
    config, trained, patients = part
    device = best_device()
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


def pair_cards(
    cards: Sequence[dict[str, Any]],
    parts: Sequence[Part],
    cohort: Cohort,
    phantom: Cohort,
    command: str,
) -> list[dict[str, Any]]:
    """Make the cards of a search and of its close look out of those of two networks.

    What the evaluation chooses and tests, it adds: see `medlib.risk.run_evaluation`.
    """
    from medlib.baseline.training_mix import phantom_share
    from medlib.baseline.training_sources import described

    (search, outlines), (card, inner) = parts, cards
    data = described(cohort)
    learned_from = data | {
        "cohort": f"{data['cohort']}, {phantom.folder.name}",
        "phantom": phantom.folder.name,
    }
    saw_the_phantom = phantom_share(outlines.config) > 0
    for absent in ("predictions", "evaluation"):
        del inner["artifacts"][absent]
    if saw_the_phantom:
        inner["data"] |= learned_from
    else:
        inner["data"] = {"patients": outlines.patients, **data}
    del card["artifacts"]["predictions"]  # not kept
    card["artifacts"] |= {
        "weights.safetensors": "the network that searches, half precision",
        "outliner": "the network that outlines: weights, configuration, curves and card",
        "evaluation": "real-vois.json, real-scans.json: held-out real CT; the others: the phantom",
    }
    card["data"] |= learned_from | {
        "patients": {
            split: sorted({*names, *outlines.patients[split]})
            for split, names in search.patients.items()
        },
        "outlines_saw_the_phantom": saw_the_phantom,
    }
    card["expected_output"] = f"this folder; {command} makes it again"
    return [card, inner]


def now() -> str:
    """Return the time as cards state it."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _rounded(value: float) -> float | None:
    """Round for a file, in which undefined is null."""
    return None if math.isnan(value) else round(float(value), 4)
