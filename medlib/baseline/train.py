"""Training: Lightning's loop, judged on the tune part only.

An epoch is the stretch between two looks at the tune part. At its end everything is saved: weights,
optimiser, schedule, curves and the best look so far. Crop i is the same whenever it is drawn, so a
training that was killed goes on from the last look and ends as if nothing had happened.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, Subset

from medlib import progress
from medlib.baseline import processes
from medlib.baseline.config import TrainConfig
from medlib.baseline.crops import DrawnCrops
from medlib.baseline.device import has_fast_bfloat16
from medlib.baseline.segmenter import Segmenter

HISTORY_EVERY = 10  # steps between two rows of the training loss
LAST = "last"  # checkpoint of the last look


@dataclass(frozen=True)
class Trained:
    """A trained network, on the CPU, and how it came about.

    The history has a row every `HISTORY_EVERY` steps: ``step``, ``seconds``, ``learning_rate``,
    ``train_loss`` (mean since the last row), and ``tune_loss`` and ``tune_dice`` (of all voxels of
    the tune crops together) where the tune part was looked at, else NaN.
    """

    network: nn.Module
    history: pd.DataFrame
    best_step: int  # whose weights were kept
    seconds: float


class History(Callback):
    """Collects the rows of the history and reports progress."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.losses: list[float] = []
        self.start = time.monotonic()
        self.bar: progress.Bar | None = None

    def on_train_start(self, trainer: L.Trainer, _: Any) -> None:
        """Show a bar, in the first process."""
        if trainer.is_global_zero:
            self.bar = progress.Bar("training steps", trainer.max_steps)

    def on_train_end(self, *_: Any) -> None:
        """Take the bar away."""
        if self.bar:
            self.bar.close()

    def on_exception(self, *_: Any) -> None:
        """Take the bar away from what is said then."""
        self.on_train_end()

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far and the time they took."""
        return {
            "rows": list(self.rows),
            "losses": list(self.losses),
            "seconds": time.monotonic() - self.start,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the rows of a training that was cut off."""
        self.rows = list(state_dict["rows"])
        self.losses = list(state_dict["losses"])
        self.start = time.monotonic() - state_dict["seconds"]

    def on_train_batch_end(self, trainer: L.Trainer, _: Any, outputs: Any, *__: Any) -> None:
        """Write a row every few steps."""
        self.losses.append(float(outputs["loss"]))
        if trainer.global_step % HISTORY_EVERY and trainer.global_step != trainer.max_steps:
            return
        loss = sum(self.losses) / len(self.losses)
        if self.bar:
            self.bar.move(trainer.global_step, f"loss {loss:.3f}")
        seconds = round(time.monotonic() - self.start, 1)
        rate = trainer.optimizers[0].param_groups[-1]["lr"]
        row = {"step": trainer.global_step, "seconds": seconds, "learning_rate": rate}
        self.rows.append({**row, "train_loss": loss})
        self.losses.clear()

    def on_validation_end(self, trainer: L.Trainer, _: Any) -> None:
        """Add what the tune part showed to the row of this step."""
        seen = {key: float(trainer.callback_metrics[key]) for key in ("tune_loss", "tune_dice")}
        self.rows.append({"step": trainer.global_step, **seen})

    def table(self) -> pd.DataFrame:
        """Return the history, one row a step."""
        return pd.DataFrame(self.rows).groupby("step", as_index=False).first()


class Batches(L.LightningDataModule):
    """Batches of the training, epoch by epoch, and of the tune part."""

    def __init__(
        self, config: TrainConfig, crops: DrawnCrops, tune_crops: DrawnCrops, device: torch.device
    ) -> None:
        super().__init__()
        self.config, self.device = config, device
        self.crops, self.tune_crops = crops, tune_crops

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of the present epoch: they are drawn at random, so not shuffled."""
        per_epoch = self.config.tune_every * self.config.batch_size
        first = self.trainer.current_epoch * per_epoch if self.trainer else 0
        return self._load(Subset(self.crops, range(first, min(first + per_epoch, len(self.crops)))))

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the batches of the tune part, always the same."""
        return self._load(self.tune_crops)

    def _load(self, crops: Any) -> DataLoader[Any]:
        dealt: DistributedSampler[Any] | None = None
        if processes.count() > 1:  # in turn, in order: together the processes see this batch
            dealt = DistributedSampler(crops, processes.count(), processes.rank(), shuffle=False)
        return DataLoader(
            crops,
            sampler=dealt,
            batch_size=processes.share_of(self.config.batch_size),
            num_workers=self._n_workers(),
            pin_memory=self.device.type == "cuda",
        )

    def _n_workers(self) -> int:
        if self.config.n_workers is not None:
            return self.config.n_workers
        if self.device.type == "cpu":
            return 0
        return max((os.cpu_count() or 1) // processes.count_here() - 1, 1)


def train_on(
    crops: DrawnCrops,
    tune_crops: DrawnCrops,
    config: TrainConfig,
    device: torch.device,
    checkpoints: Path | None = None,
) -> Trained:
    """Train a network; keep the weights that the configuration says.

    The same configuration and crops give the same weights on the same CPU with as many threads and
    the same library versions. In `checkpoints`, by default a temporary folder, the training is
    saved at every look, and goes on from there if it was cut off.
    """
    L.seed_everything(config.seed, verbose=False)
    # Deterministic kernels, yes; filling every new tensor would cost a sixth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    history = History()
    with TemporaryDirectory() as temporary, _quiet_lightning():
        folder = checkpoints or Path(temporary)
        # Judged right after the look; saved once the epoch has ended, where a resumed one begins.
        stop = EarlyStopping("tune_loss", patience=config.patience, check_on_train_epoch_end=False)
        best = ModelCheckpoint(
            folder,
            monitor="tune_loss",
            mode="min",
            filename="best-{step}",
            save_on_train_epoch_end=False,
        )
        last = ModelCheckpoint(
            folder, filename=LAST, enable_version_counter=False, save_on_train_epoch_end=True
        )
        saved = folder / f"{LAST}.ckpt"
        trainer = L.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=processes.count_here(),
            num_nodes=processes.count() // processes.count_here(),
            # The encoder may learn nothing at first.
            strategy="ddp_find_unused_parameters_true" if processes.count() > 1 else "auto",
            precision="bf16-mixed" if has_fast_bfloat16(device) else "32-true",
            use_distributed_sampler=False,  # it would shuffle
            max_steps=_stopped_at(saved, stop) or config.steps,
            max_epochs=-1,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            callbacks=[history, stop, best, last],
            deterministic="warn",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        module = Segmenter(config)
        trainer.fit(
            module,
            datamodule=Batches(config, crops, tune_crops, device),
            ckpt_path=saved if saved.is_file() else None,
        )
        # By its name: the folder may have been moved since the best look.
        kept = saved if config.keep == "last" else folder / Path(best.best_model_path).name
        checkpoint = torch.load(kept, map_location="cpu", weights_only=True)
        module.load_state_dict(checkpoint["state_dict"])
        trainer.strategy.barrier()  # everyone has read it before anyone takes it away
    return Trained(
        network=module.network.cpu().eval(),
        history=history.table(),
        best_step=int(checkpoint["global_step"]),
        seconds=time.monotonic() - history.start,
    )


def _stopped_at(saved: Path, stop: EarlyStopping) -> int | None:
    """Return the step at which a saved training had stopped early: it may not go on from there."""
    if not saved.is_file():
        return None
    checkpoint = torch.load(saved, map_location="cpu", weights_only=True)
    waited = checkpoint["callbacks"][stop.state_key]["wait_count"]
    return int(checkpoint["global_step"]) if waited >= stop.patience else None


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's hints about workers and hardware out of the pages of the book."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        yield
