from __future__ import annotations

import pytest
from pydantic import ValidationError

from medlib.baseline.config import PROFILES, TrainConfig, train_config
from medlib.baseline.network import build_network
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


def test_settings_are_changed_by_words_numbers_and_lists():
    changes = ["loss=focal", "encoder=resnet18", "learning_rate=2e-4", "hu_range=[-1000, 200]"]
    config = train_config("quick", 3, [*changes, "pretrained=false", "phantom_patients=null"])
    assert (config.loss, config.encoder, config.learning_rate) == ("focal", "resnet18", 2e-4)
    assert (config.hu_range, config.pretrained, config.seed) == ((-1000, 200), False, 3)
    assert train_config("quick", 3, ["steps=7", "steps=8"]).steps == 8


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("loss=foo", "loss cannot be 'foo': input should be 'combined', 'bce'"),
        ("steps=0", "steps cannot be '0': input should be greater than or equal to 1"),
        ("steps=many", "steps cannot be 'many': input should be a valid integer"),
        ("steps", "'steps' changes nothing: write FIELD=VALUE, with one of in_plane_spacing_mm"),
        ("steps=", "'steps=' changes nothing"),
        ("stepz=3", "'stepz=3' changes nothing"),
        ("seed=3", "'seed=3' changes nothing"),
        ("mass_crops=0.5", "mass_crops cannot be '0.5': .* are 1.1 of all crops"),
    ],
)
def test_what_cannot_be_set_is_said_in_one_line(change: str, said: str):
    with pytest.raises(RunError, match=said) as caught:
        train_config("lidc", 0, [change])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", [{"encoder": "nope"}, {"encoder": "tu-nope"}])
def test_an_encoder_that_there_is_not_is_said_in_one_line(setting: dict):
    config = PROFILES["quick"].model_copy(update={"pretrained": False, **setting})
    with pytest.raises(RunError, match="no U-Net can be built with encoder '.*nope'"):
        build_network(config)
