from __future__ import annotations

import pytest
from pydantic import ValidationError

from medlib.baseline.config import PROFILES, TrainConfig, train_config
from medlib.errors import RunError


def test_profiles_carry_their_name_and_the_seed():
    assert set(PROFILES) == {"quick", "standard", "gpu", "lidc", "lidc-outline"}
    for name in PROFILES:
        config = train_config(name, seed=3)
        assert (config.profile, config.seed) == (name, 3)
    assert PROFILES["quick"].seed == 0


def test_an_unknown_profile_names_those_there_are():
    with pytest.raises(RunError, match="'fast' is unknown: choose one of quick, standard, gpu"):
        train_config("fast")


def test_a_configuration_is_frozen_checked_and_survives_json():
    config = train_config("quick")
    with pytest.raises(ValidationError):
        config.steps = 3
    with pytest.raises(ValidationError):
        TrainConfig(profile="x", cohort="quick", crop_px=50)
    with pytest.raises(ValidationError):
        TrainConfig(profile="x", cohort="quick", stepz=50)
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
