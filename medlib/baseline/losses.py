"""The loss: Dice, binary cross-entropy and false alarms, blind to voxels that are left out."""

from __future__ import annotations

import torch
from segmentation_models_pytorch.losses import (
    DiceLoss,
    FocalLoss,
    SoftBCEWithLogitsLoss,
    TverskyLoss,
)
from torch import nn
from torch.nn import functional

from medlib.baseline.config import TrainConfig
from medlib.baseline.training_volume import IGNORED, LESION_SHARE

SMOOTH_PX = 8.0
ALARM_PX = 20  # about what a nodule of 4 mm fills in a slice of the fine grid of the search
EDGE_PX = 2  # beyond a lesion in its slice, where readers disagree most
LESION_WEIGHT = 10.0  # of a lesion voxel in weighted cross-entropy
FOCAL_ALPHA, FOCAL_GAMMA = 0.75, 2.0  # the lesion's weight; how little a voxel that is right counts
MISS_WEIGHT = 0.7  # Tversky: of a missed voxel; a false one has the rest


def build_loss(config: TrainConfig) -> nn.Module:
    """Build the configured loss of logits and target, both as `DiceBCELoss` takes them."""
    loss: nn.Module
    match config.loss:
        case "bce":
            loss = DiceBCELoss(0, 1)
        case "dice":
            loss = DiceBCELoss(1, 0)
        case "weighted-bce":
            weight = torch.tensor(LESION_WEIGHT)
            loss = SoftBCEWithLogitsLoss(ignore_index=IGNORED, pos_weight=weight)
        case "focal":  # Lin et al., Focal loss for dense object detection, ICCV 2017
            loss = FocalLoss(
                "binary",
                alpha=FOCAL_ALPHA,
                gamma=FOCAL_GAMMA,
                ignore_index=IGNORED,
                normalized=True,
            )
        case "tversky":  # Salehi et al., Tversky loss function for image segmentation, MLMI 2017
            loss = TverskyLoss(
                "binary", alpha=1 - MISS_WEIGHT, beta=MISS_WEIGHT, ignore_index=IGNORED
            )
        case "combined":
            loss = DiceBCELoss(
                config.dice_weight, config.bce_weight, config.crop_dice_weight, config.alarm_weight
            )
    return loss


class DiceBCELoss(nn.Module):
    """Weighted sum of the Dice loss, the binary cross-entropy and the loss by false alarms.

    Cross-entropy weighs every voxel alike, so with one lesion voxel in thousands it is nearly
    content with an empty mask; its gradient is smooth. Dice compares lesion with prediction and so
    does not care how large the background is, but it is rough where lesions are small. Their sum
    has the merits of both (Isensee et al., nnU-Net, 2021). Dice is taken over the whole batch,
    because it is undefined on a crop without a lesion. Two more may be added: the Dice of single
    crops, in which a small lesion counts as much as a large one, and `alarm_loss`, in which a false
    alarm counts, however small it is.
    """

    def __init__(
        self,
        dice_weight: float = 1.0,
        bce_weight: float = 1.0,
        crop_dice_weight: float = 0.0,
        alarm_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.dice_weight, self.bce_weight = dice_weight, bce_weight
        self.crop_dice_weight, self.alarm_weight = crop_dice_weight, alarm_weight
        self.dice = DiceLoss("binary", ignore_index=IGNORED)
        self.bce = SoftBCEWithLogitsLoss(ignore_index=IGNORED)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits and target, both (batch, 1, y, x); target 0, 1 or `IGNORED`."""
        dice: torch.Tensor = self.dice(logits, target)
        bce: torch.Tensor = self.bce(logits, target)
        loss = self.dice_weight * dice + self.bce_weight * bce
        if self.crop_dice_weight:
            loss = loss + self.crop_dice_weight * crop_dice_loss(logits, target)
        if self.alarm_weight:
            loss = loss + self.alarm_weight * alarm_loss(logits, target)
        return loss


def crop_dice_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return 1 - Dice of each crop with a lesion, averaged; 0 where no crop has one.

    `SMOOTH_PX` pixels are added to both sides of the ratio, so that the last pixels of a lesion,
    which readers disagree on, do not rule the gradient.
    """
    known = (target != IGNORED).to(logits.dtype)
    lesion = target * known  # 0, 1, or the share of readers
    probability = logits.sigmoid() * known
    both = (probability * lesion).sum(dim=(1, 2, 3))
    total = probability.sum(dim=(1, 2, 3)) + lesion.sum(dim=(1, 2, 3))
    with_lesion = lesion.amax(dim=(1, 2, 3)) >= LESION_SHARE
    loss = 1 - (2 * both + SMOOTH_PX) / (total + SMOOTH_PX)
    return (loss * with_lesion).sum() / with_lesion.sum().clamp(min=1)


def alarm_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of the surest false voxels of each crop, averaged.

    In the mean over all voxels the few of a false alarm cost next to nothing, and the Dice of a
    crop does not see crops without a lesion. Here the `ALARM_PX` surest of each crop are all that
    counts, so that one spot that looks like a nodule costs the same however much quiet lung is
    around it. What lies within `EDGE_PX` of a lesion in this slice, or of what is left out, is no
    false alarm; a slice just beyond the end of a lesion has none, so there the blurred end counts.
    """
    near = functional.max_pool2d((target != 0).float(), 2 * EDGE_PX + 1, 1, EDGE_PX) > 0
    quiet = functional.softplus(logits.masked_fill(near, -30.0)).flatten(1)
    return quiet.topk(ALARM_PX, dim=1).values.mean()
