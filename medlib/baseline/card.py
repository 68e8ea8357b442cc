"""The evidence cards of a run: what was made, from what, on what, and how it is checked.

Their first five fields are those of the project's evidence card: task output, artifacts, metric,
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
from medlib.baseline.training_sources import described
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
OF_ONE = {
    "config.json": "every choice of the run",
    "weights.safetensors": "the network, half precision",
    "history.csv": "the training curves",
}
JUDGED = {
    "predictions": "probabilities and candidates of each method for each held-out case",
    "evaluation": "metrics with intervals, chosen operating point",
}
OF_PAIR = {
    "weights.safetensors": "the network that searches, half precision",
    "evaluation": "real-vois.json, real-scans.json: held-out real CT; the others: the phantom",
    "outliner": "the network that outlines: weights, configuration, curves and card",
}


class Part(NamedTuple):
    """A network of a run: what it was asked to be, what it became, and the patients by split."""

    config: TrainConfig
    trained: Trained
    patients: dict[str, list[str]]


def evidence_cards(
    parts: Sequence[Part], shas: Sequence[str], cohort: Cohort, phantom: Cohort, command: str
) -> list[dict[str, Any]]:
    """Describe the network of a run, or its search and its close look, ready for JSON.

    What the evaluation chooses and tests, it adds: see `medlib.risk.run_evaluation`.
    """
    data: dict[str, Any] = {
        "cohort": phantom.folder.name,
        "cohort_sha256": cohort_key(phantom),
        "n_cases": {str(s): len(g) for s, g in phantom.table.groupby("split")},
    }
    search, *rest = parts
    if not rest:
        return [_card(search, shas[0], OF_ONE | JUDGED, data | {"patients": search.patients})]
    [outlines] = rest
    of_cohort = described(cohort)
    names = {"cohort": f"{of_cohort['cohort']}, {data['cohort']}", "phantom": data["cohort"]}
    data |= of_cohort | names
    saw_the_phantom = outlines.config.phantom_share > 0
    patients = {
        split: sorted({*names, *outlines.patients[split]})
        for split, names in search.patients.items()
    }
    of_both = {"patients": patients, "outlines_saw_the_phantom": saw_the_phantom}
    card = _card(search, shas[0], OF_ONE | OF_PAIR, data | of_both)
    learned_from = data if saw_the_phantom else of_cohort
    inner = _card(outlines, shas[1], OF_ONE, learned_from | {"patients": outlines.patients})
    return [card | {"expected_output": f"this folder; {command} makes it again"}, inner]


def _card(
    part: Part, sha256: str, artifacts: dict[str, str], data: dict[str, Any]
) -> dict[str, Any]:
    config, trained, _ = part
    device = best_device()
    best = trained.history[trained.history["step"] == trained.best_step].iloc[0]
    return {
        "task_output": "segmentation mask of lung lesions, and a table of candidates with a score",
        "artifacts": artifacts,
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
            "sha256": sha256,
            "parameters": sum(p.numel() for p in trained.network.parameters()),
        },
        "data": data,
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
