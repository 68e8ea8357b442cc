from __future__ import annotations

import pytest
import torch
from toy import ToyCohort, toy_cohort

from medlib.baseline.config import TrainConfig
from medlib.baseline.train import Trained, train_on
from medlib.baseline.training_mix import patient_crops

TINY = TrainConfig(
    profile="tiny",
    cohort="quick",
    steps=40,
    tune_every=20,
    tune_crops=8,
    batch_size=8,
    crop_px=64,
    jitter_px=16,
    decoder_channels=(64, 32, 16, 8, 8),
    learning_rate=4e-3,
)


@pytest.fixture(scope="session")
def tiny() -> TrainConfig:
    return TINY


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> ToyCohort:
    return toy_cohort(tmp_path_factory.mktemp("toy-cohort"))


@pytest.fixture(scope="session")
def trained(cohort: ToyCohort) -> Trained:
    mix = patient_crops(cohort, TINY)
    return train_on(mix.train, mix.tune, TINY, torch.device("cpu"))
