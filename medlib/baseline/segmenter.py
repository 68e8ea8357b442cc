"""What Lightning trains: the network with its loss and its optimiser."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn

from medlib.baseline import processes
from medlib.baseline.config import TrainConfig
from medlib.baseline.losses import build_loss
from medlib.baseline.network import build_network
from medlib.baseline.training_volume import IGNORED, LESION_SHARE

Batch = tuple[torch.Tensor, torch.Tensor]


class Segmenter(L.LightningModule):
    """The network with its loss and its optimiser."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        self.network = build_network(config)
        self.loss = build_loss(config)
        self.overlap = torch.zeros(2)  # twice the intersection, sum of both areas

    def on_train_batch_start(self, *_: Any) -> None:
        """Train the decoder alone for the first steps, if the configuration asks for it."""
        if self.config.head_first_steps:
            learns = self.trainer.global_step >= self.config.head_first_steps
            self.network.get_submodule("encoder").requires_grad_(learns)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        logits = self.network(image.contiguous(memory_format=torch.channels_last))
        return torch.as_tensor(logits.float())

    def training_step(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch of crops."""
        image, target = batch
        return torch.as_tensor(self.loss(self(image), target))

    def on_validation_epoch_start(self) -> None:
        """Forget the overlap of the last look."""
        self.overlap = torch.zeros(2, device=self.device)

    def validation_step(self, batch: Batch) -> None:
        """Log the loss of tune crops and add up their overlap."""
        image, target = batch
        logits = self(image)
        known = target != IGNORED
        predicted, lesion = (logits > 0) & known, (target >= LESION_SHARE) & known
        self.overlap += torch.stack(
            [2 * (predicted & lesion).sum(), predicted.sum() + lesion.sum()]
        )
        loss = self.loss(logits, target)
        self.log("tune_loss", loss, batch_size=len(target), sync_dist=processes.count() > 1)

    def on_validation_epoch_end(self) -> None:
        """Log the Dice coefficient of all tune crops together; NaN where nothing is marked."""
        of_all_processes = torch.as_tensor(self.all_gather(self.overlap))
        overlap = of_all_processes.reshape(-1, 2).sum(dim=0)
        self.log("tune_dice", overlap[0] / overlap[1])

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Clip by the norm of all gradients.

        Lightning's own clipping refuses a fused optimiser in any mixed precision; bfloat16 scales
        no gradient, so nothing stands in its way.
        """
        nn.utils.clip_grad_norm_(self.parameters(), self.config.gradient_clip)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; the learning rate rises over a tenth of the steps and falls as a cosine.

        The encoder has seen images before: it may be given a smaller rate.
        """
        encoder = list(self.network.get_submodule("encoder").parameters())
        of_encoder = {id(parameter) for parameter in encoder}
        others = [p for p in self.parameters() if id(p) not in of_encoder]
        rate = self.config.learning_rate
        rates = [rate * self.config.encoder_rate, rate]
        groups = ({"params": encoder, "lr": rates[0]}, {"params": others, "lr": rates[1]})
        optimiser = torch.optim.AdamW(groups, weight_decay=self.config.weight_decay, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, rates, total_steps=self.config.steps, pct_start=0.1
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
