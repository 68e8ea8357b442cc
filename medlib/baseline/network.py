"""The network: a U-Net whose encoder has seen ImageNet."""

from __future__ import annotations

from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from medlib.baseline.config import TrainConfig
from medlib.baseline.weights import load_imagenet
from medlib.errors import RunError

NORMALISATION_MOMENTUM = 0.1
PRIOR_LOGIT = -4.0  # a probability of about 2 %


def build_network(config: TrainConfig, *, pretrained: bool | None = None) -> nn.Module:
    """Build the U-Net; by default the configuration says whether it starts from ImageNet.

    It maps images (batch, n_slices, y, x) in -1..1, y and x multiples of 32, to the logits
    (batch, 1, y, x) of the middle slice. Raises RunError if there is no such encoder.
    """
    try:
        network = smp.Unet(
            config.encoder,
            encoder_weights=None,
            decoder_channels=config.decoder_channels,
            in_channels=config.n_slices,
            classes=1,
        )
    except (KeyError, RuntimeError) as error:
        raise RunError(
            f"no U-Net can be built with encoder '{config.encoder}' and decoder_channels "
            f"{list(config.decoder_channels)}: take an encoder of segmentation-models-pytorch "
            "(resnet18, densenet121, tu-tf_efficientnet_lite0) and five channels"
        ) from error
    if config.pretrained if pretrained is None else pretrained:
        load_imagenet(network.encoder, config.encoder)
    # EfficientNet-B0 comes with 0.01, made for long trainings: after a short one its running means
    # still are those of the start, and it sees nothing.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = NORMALISATION_MOMENTUM
    # Lesion voxels are rare: start from that prior instead of spending the first steps on it
    # (Lin et al., Focal loss for dense object detection, ICCV 2017).
    nn.init.constant_(network.segmentation_head[0].bias, PRIOR_LOGIT)
    unet: nn.Module = network.to(memory_format=torch.channels_last)
    return unet


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the weights in half precision, without pickle."""
    half = {
        key: (t.half() if t.is_floating_point() else t).detach().cpu().contiguous()
        for key, t in network.state_dict().items()
    }
    save_file(half, path)


def load_weights(config: TrainConfig, path: Path) -> nn.Module:
    """Build the network with weights of a run; ready for inference in single precision."""
    network = build_network(config, pretrained=False)
    network.load_state_dict(load_file(path))
    return network.eval()


def without_normalisation(network: nn.Module) -> nn.Module:
    """Fold each batch normalisation into the convolution before it, in place.

    The network computes the same (to rounding) in two thirds of the time; it can no longer be
    trained.
    """
    for parent in list(network.modules()):
        before = ""  # the name of the convolution
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and before:
                convolution = parent.get_submodule(before)
                assert isinstance(convolution, nn.Conv2d)
                setattr(parent, before, fuse_conv_bn_eval(convolution, child))
                # timm's layers hold their activation in the normalisation.
                setattr(parent, name, getattr(child, "act", nn.Identity()))
            before = name if isinstance(child, nn.Conv2d) else ""
    return network.to(memory_format=torch.channels_last)
