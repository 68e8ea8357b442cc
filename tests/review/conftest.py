"""A toy chest with two marks, and a model that needs no training."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from medlib.baseline.config import TrainConfig, train_config
from medlib.baseline.prediction import Prediction, find_candidates
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
    hu = np.full(SHAPE, -850, np.float32)
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
        identity=ModelIdentity(name="toy", sha256="a" * 64),
        operating_point=0.6,
        risk_statement="toy statement",
        warnings=("toy warning",),
    )
