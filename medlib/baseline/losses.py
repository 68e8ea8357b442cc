"""The loss: Dice plus binary cross-entropy, blind to voxels that are left out."""

from __future__ import annotations

import torch
from segmentation_models_pytorch.losses import DiceLoss, SoftBCEWithLogitsLoss
from torch import nn

from medlib.baseline.slices import IGNORED


class DiceBCELoss(nn.Module):
    """Weighted sum of the Dice loss and the binary cross-entropy.

    Cross-entropy weighs every voxel alike, so with one lesion voxel in thousands it is nearly
    content with an empty mask; its gradient is smooth. Dice compares lesion with prediction and so
    does not care how large the background is, but it is rough where lesions are small. Their sum
    has the merits of both (Isensee et al., nnU-Net, 2021). Dice is taken over the whole batch,
    because it is undefined on a crop without a lesion.

    Parameters
    ----------
    dice_weight, bce_weight : float
    """

    def __init__(self, dice_weight: float = 1.0, bce_weight: float = 1.0) -> None:
        super().__init__()
        self.dice_weight = dice_weight
        self.bce_weight = bce_weight
        self.dice = DiceLoss("binary", ignore_index=IGNORED)
        self.bce = SoftBCEWithLogitsLoss(ignore_index=IGNORED)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of logits and target, both (batch, 1, y, x); target 0, 1 or `IGNORED`."""
        dice: torch.Tensor = self.dice(logits, target)
        bce: torch.Tensor = self.bce(logits, target)
        return self.dice_weight * dice + self.bce_weight * bce
