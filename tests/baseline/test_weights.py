from __future__ import annotations

import pytest
import skimage
import timm
import torch
from skimage.transform import resize
from torch import nn

from medlib.baseline import weights
from medlib.baseline.config import train_config
from medlib.baseline.network import (
    build_network,
    load_weights,
    save_weights,
    without_normalisation,
)
from medlib.errors import RunError

ENCODERS = ("tu-tf_efficientnet_lite0", "resnet18", "resnet34", "efficientnet-b0", "densenet121")
EGYPTIAN_CAT, ESPRESSO = 285, 967  # ImageNet-1k classes


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    model = timm.create_model(weights.WHEEL_MODEL, pretrained=False)
    model.load_state_dict(weights.wheel_state(model))
    return model.eval()


@pytest.mark.parametrize(("picture", "expected"), [("chelsea", EGYPTIAN_CAT), ("coffee", ESPRESSO)])
def test_the_weights_of_the_wheel_see_a_cat_and_an_espresso(classifier, picture, expected):
    image = getattr(skimage.data, picture)()
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = resize(image[top : top + side, left : left + side], (224, 224), anti_aliasing=True)
    tensor = torch.from_numpy(square).permute(2, 0, 1).float()[None] * 2 - 1
    with torch.inference_mode():
        assert classifier(tensor).argmax().item() == expected


def test_the_encoder_of_the_network_holds_them(classifier):
    network = build_network(train_config("quick"))
    ours = network.encoder.state_dict()
    theirs = classifier.state_dict()
    assert all(
        torch.equal(value, theirs[key.removeprefix("model.")]) for key, value in ours.items()
    )
    plain = build_network(train_config("quick"), pretrained=False).encoder.state_dict()
    assert not torch.equal(plain["model.conv_stem.weight"], ours["model.conv_stem.weight"])


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_normalisation_of_every_encoder_follows_a_short_training(encoder):
    config = train_config("quick").model_copy(update={"encoder": encoder})
    norms = [
        module
        for module in build_network(config, pretrained=False).modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    assert norms
    assert {module.momentum for module in norms} == {0.1}


def test_weights_for_another_model_are_refused():
    with pytest.raises(RunError, match="do not fit"):
        weights.wheel_state(nn.Linear(2, 2))


def test_without_a_network_other_encoders_say_what_to_do(monkeypatch):
    def offline(*_, pretrained, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(weights.timm, "create_model", offline)
    with pytest.raises(RunError, match=r"'resnet18' .* connect to a network, or use the encoder"):
        weights.load_imagenet(nn.Linear(2, 2), "tu-resnet18")


def test_saved_weights_come_back_in_half_precision(tmp_path):
    config = train_config("quick").model_copy(update={"pretrained": False})
    network = build_network(config).eval()
    save_weights(network, tmp_path / "w.safetensors")
    again = load_weights(config, tmp_path / "w.safetensors")
    for key, value in network.state_dict().items():
        expected = value.half().float() if value.is_floating_point() else value
        assert torch.equal(again.state_dict()[key], expected), key
    assert not again.training


def test_folded_normalisation_changes_no_answer():
    config = train_config("quick").model_copy(update={"pretrained": False})
    torch.manual_seed(0)
    network = build_network(config)
    image = torch.randn(2, config.n_slices, 64, 96)
    network(image)  # gives the normalisations something to remember
    network.eval()
    with torch.inference_mode():
        expected = network(image)
        folded = without_normalisation(network)
        assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
        assert torch.allclose(folded(image), expected, atol=1e-4)
        assert expected.std() > 0.01
