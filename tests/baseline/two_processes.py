"""Trains a toy network; run alone or under torchrun. Argument: a folder for the results."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # toy.py

import torch
from toy import Ball, toy_case

from medlib.baseline.config import TrainConfig
from medlib.baseline.crops import Crops
from medlib.baseline.prepared_cases import prepare
from medlib.baseline.train import train_on

out = Path(sys.argv[1])
config = TrainConfig(
    profile="tiny", cohort="quick", steps=20, tune_every=10, tune_crops=16, batch_size=8,
    crop_px=64, jitter_px=16, decoder_channels=(64, 32, 16, 8, 8), learning_rate=4e-3,
)  # fmt: skip
case = toy_case([Ball((20, 50, 36), 6), Ball((20, 70, 92), 9)], noise_hu=20.0)
drawn: list[int] = []


class Noted(Crops):
    """Crops that note which ones were asked for."""

    def __getitem__(self, index):
        drawn.append(index)
        return super().__getitem__(index)


volumes = [prepare(case, config)]
crops = Noted(volumes, config, config.steps * config.batch_size, 0)
trained = train_on(
    crops, Crops(volumes, config, 16, 1), config, torch.device("cpu"), out / "checkpoints"
)
rank = int(os.environ.get("RANK", "0"))
(out / f"drawn-{rank}.json").write_text(json.dumps(drawn))
if rank == 0:
    trained.history.to_csv(out / "history.csv", index=False)
