"""The model that a report speaks for: its weights, its operating point and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from medlib.baseline.config import TrainConfig
from medlib.baseline.network_passes import Model
from medlib.baseline.run import CARD, Run
from medlib.errors import RunError
from medlib.paths import REFERENCE_RUNS, RUNS
from medlib.review.schema import ModelIdentity
from medlib.risk.evaluation_files import (
    FOLDER,
    HELD_OUT,
    METRICS_FILE,
    OPERATING_POINT,
    shipped_run,
)
from medlib.risk.summary import risk_summary

QUICK_RUN = "phantom-quick-seed0"
METHOD = "network"
HOW_TO_GET_ONE = "make one with: medlib train"
PHANTOM_WARNING = "the model was trained on a phantom: not validated on real CT"
REAL_WARNING = (
    "the model was trained on real nodules, but few whole real scans were tested: see MODEL_CARD.md"
)


@dataclass(frozen=True)
class ReportingModel:
    """All that a report takes from a run folder."""

    network: nn.Module
    config: TrainConfig
    outliner: Model | None
    identity: ModelIdentity
    operating_point: float  # lowest score of a lesion, chosen on the tune part
    risk_statement: str  # `risk_summary` of the lesion-wise metrics on held-out patients
    most_marks: int  # in any held-out scan; more in another one is a sign of a foreign scan
    warnings: tuple[str, ...] = ()  # what holds for every series that this model reads


def load_model(run_dir: Path | None = None) -> ReportingModel:
    """Load the model of a run, by default of the newest reference run, else of the quick run.

    Raises
    ------
    RunError
        If there is no run, or it was never evaluated.
    """
    run = Run((run_dir or default_run()).resolve())
    if not (run.folder / CARD).is_file():
        raise RunError(f"{run.folder}: not a run folder (it has no {CARD}); {HOW_TO_GET_ONE}")
    identity = _identity(run)
    metrics = json.loads(_evaluation_file(run, METRICS_FILE).read_bytes())
    return ReportingModel(
        network=run.load_network(),
        config=run.config,
        outliner=run.load_outliner(),
        identity=identity,
        operating_point=json.loads(_evaluation_file(run, OPERATING_POINT).read_bytes())[METHOD],
        risk_statement=risk_summary(held_out_metrics(metrics[METHOD])),
        most_marks=_most_marks(pd.read_csv(_evaluation_file(run, f"{METHOD}-candidates.csv"))),
        warnings=_warnings(run.card["data"]),
    )


def held_out_metrics(metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, float]:
    """Take what `risk_summary` asks from internal or external testing, whichever is worse.

    A report is about a scan that the model has not seen, most likely from a scanner that it has
    not seen either. A part without a lesion to find has no say; NaN where no part has one.
    ``metrics[part][name]["value"]`` is None where undefined.
    """

    def by_part(name: str) -> pd.Series:
        return pd.Series([metrics[part][name]["value"] for part in HELD_OUT], dtype=float)

    return {
        "sensitivity": float(by_part("lesion_sensitivity").min()),
        "false_negative_rate": float(by_part("lesion_false_negative_rate").max()),
    }


def _identity(run: Run) -> ModelIdentity:
    """Name the weights, and refuse those that the card does not speak of."""
    stated, found = run.card["model"]["sha256"], run.weights_sha256()
    if stated != found:
        raise RunError(
            f"{run.folder}: the weights have SHA-256 {found[:12]}..., the card states "
            f"{stated[:12]}...; restore the run or {HOW_TO_GET_ONE}"
        )
    return ModelIdentity(name=f"{run.card['model']['name']}, run {run.folder.name}", sha256=found)


def _warnings(data: Mapping[str, Any]) -> tuple[str, ...]:
    if "real_ct" in data:
        return (REAL_WARNING,)
    return (PHANTOM_WARNING,) if data["cohort"].startswith("phantom") else ()


def _most_marks(candidates: pd.DataFrame) -> int:
    shown = candidates[candidates["reported"] & candidates["split"].isin(HELD_OUT)]
    return int(shown["case_id"].value_counts().max()) if len(shown) else 0


def _evaluation_file(run: Run, name: str) -> Path:
    path = run.folder / FOLDER / name
    if not path.is_file():
        raise RunError(f"{run.folder}: the run was never evaluated (no {name}); {HOW_TO_GET_ONE}")
    return path


def default_run() -> Path:
    """Return the reference run that comes with the project, else the quick run of the phantom.

    Raises
    ------
    RunError
        If there is neither.
    """
    with suppress(RunError):
        return shipped_run()
    if (RUNS / QUICK_RUN / CARD).is_file():
        return RUNS / QUICK_RUN
    raise RunError(
        f"no trained run in {REFERENCE_RUNS} or {RUNS}: set MEDLIB_ROOT to a checkout of the "
        f"project, which holds one, or {HOW_TO_GET_ONE}"
    )
