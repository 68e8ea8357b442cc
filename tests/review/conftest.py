"""A toy chest with two marks, and a model that needs no training."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from medlib.baseline.candidates import Prediction, find_candidates
from medlib.baseline.config import TrainConfig, train_config
from medlib.baseline.network import build_network, save_weights
from medlib.baseline.run import Run
from medlib.images.volume import SeriesIdentity, Volume
from medlib.review.model import ReportingModel
from medlib.review.schema import ModelIdentity

SPACING_MM = (2.5, 0.8, 0.8)
SHAPE = (12, 64, 64)
ORIGIN_MM = (-30.0, -20.0, 100.0)


@pytest.fixture
def volume() -> Volume:
    affine = np.diag([SPACING_MM[2], SPACING_MM[1], SPACING_MM[0], 1.0])
    affine[:3, 3] = ORIGIN_MM
    hu = np.full(SHAPE, -1000, np.float32)
    hu[:, 4:60, 4:60] = 40
    hu[:, 10:54, 10:54] = -850
    hu[4:8, 20:30, 20:30] = 40
    return Volume(
        hu, affine, SeriesIdentity("SECRET-ID", "1.2.3", "1.2.3.4"), warnings=("from the reader",)
    )


@pytest.fixture
def config() -> TrainConfig:
    return train_config("quick")


@pytest.fixture
def prediction(config) -> Prediction:
    """A box of 4 x 10 x 10 voxels at 0.9, a line of 6 at 0.7, a dot of 8 at 0.5."""
    probability = np.zeros(SHAPE, np.float32)
    probability[4:8, 20:30, 20:30] = 0.9
    probability[2, 50, 40:46] = 0.7
    probability[9:11, 5:7, 5:7] = 0.5
    return find_candidates(probability, SPACING_MM, config)


@pytest.fixture
def model(config) -> ReportingModel:
    return ReportingModel(
        network=nn.Identity(),
        config=config,
        outliner=None,
        identity=ModelIdentity(name="toy", sha256="a" * 64),
        operating_point=0.6,
        risk_statement="toy statement",
        most_marks=2,
        warnings=("toy warning",),
    )


@pytest.fixture
def part_metrics():
    """Metrics of internal and external testing, as an evaluation stores them."""
    return _metrics


@pytest.fixture
def write_run():
    """Write an evaluated run whose network was never trained."""
    return _write_run


def _metrics(test: float | None, external: float | None) -> dict:
    def part(sensitivity):
        missed = None if sensitivity is None else 1 - sensitivity
        return {
            "lesion_sensitivity": {"value": sensitivity},
            "lesion_false_negative_rate": {"value": missed},
        }

    return {"test": part(test), "external": part(external)}


def _write_run(folder, finished="2026-01-01 00:00 UTC", cohort="phantom-quick-seed0"):
    torch.manual_seed(0)
    config = train_config("quick").model_copy(update={"pretrained": False})
    (folder / "evaluation").mkdir(parents=True)
    (folder / "config.json").write_text(config.model_dump_json())
    save_weights(build_network(config), folder / "weights.safetensors")
    card = {
        "model": {"name": "toy net", "sha256": Run(folder).weights_sha256()},
        "data": {"cohort": cohort},
        "time": {"finished": finished},
    }
    (folder / "card.json").write_text(json.dumps(card))
    (folder / "evaluation" / "operating_point.json").write_text('{"network": 0.4}')
    (folder / "evaluation" / "metrics.json").write_text(
        json.dumps({"network": _metrics(0.95, 0.92)})
    )
    (folder / "evaluation" / "network-candidates.csv").write_text(
        "case_id,split,reported\n"
        "a,test,True\na,test,True\na,test,False\nb,external,True\n"
        "c,tune,True\nc,tune,True\nc,tune,True\n"
    )
    return folder
