"""What a user would train instead, side by side: same patients, same windows, same time.

Every peer gets the same seconds of training on centred windows of the train part of the real
volumes of interest (0.5 mm, 64 x 64, five slices), on the same machine, one after the other, and
is judged with the same code on patients that none has seen. What differs is what each brings:
network, loss, rates, augmentation.

    medlib     the network for outlines of the profile lidc-outline, its schedule fitted to the time
    smp        the loop of its "binary segmentation" example: Dice loss, Adam at 2e-4, cosine, no
               augmentation; with the encoder and the ImageNet weights that medlib uses, because the
               example's own come from a hub
    monai      BasicUNet in two dimensions in the form of its tutorials: Dice loss, Adam at 1e-3,
               random flips and quarter turns
    threshold  what is denser than half-way between lung and tissue, in the middle; no training

    MEDLIB_REAL_CT=DIR python benchmarks/peers.py --seconds 50 200

trains each of them anew for each of these times, which shows how long the same quality takes. It
needs `monai` beside medlib's own dependencies, and writes reference_runs/peers/peers.json, which
chapter 4 shows.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from segmentation_models_pytorch.losses import DiceLoss
from torch import nn
from torch.utils.data import DataLoader

from medlib.annotation import voi
from medlib.baseline.config import train_config
from medlib.baseline.device import best_device, describe
from medlib.baseline.network import build_network
from medlib.baseline.outline import Outliner, outline_window
from medlib.baseline.real_training import (
    VOI_FOLDER,
    MixedCrops,
    open_real_ct,
    outline_crops,
    outline_data,
)
from medlib.baseline.slices import Crops
from medlib.baseline.train import train_on
from medlib.paths import REFERENCE_RUNS
from medlib.risk.bootstrap import bootstrap_mean
from medlib.risk.voi import METRICS, score_voi

PEERS = ("medlib", "smp", "monai", "threshold")
HELD_OUT = ("test", "external")
HALF_WAY_HU = -400.0  # between lung and soft tissue
LEVEL = 0.5
TRIALS = (20, 80)  # steps
CONFIG = train_config("lidc-outline").model_copy(update={"candidate_level": LEVEL})


class AboveHalfWay(nn.Module):
    """A threshold in the place of a network."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Be sure of every voxel of the middle slice above the level."""
        low, high = CONFIG.hu_range
        level = (HALF_WAY_HU - low) * 2 / (high - low) - 1
        return 100 * (image[:, image.shape[1] // 2][:, None] - level)


def plain_crops(data, length: int) -> MixedCrops:
    """Windows centred on nodules, as they are."""
    config = CONFIG.model_copy(update={"lesion_share": 1.0})
    nodules = data["train"].nodules
    return MixedCrops(
        [(share, Crops(volumes, config, 0, 0, grafts=[])) for share, volumes in nodules],
        config,
        length,
        0,
    )


def loop(network: nn.Module, data, seconds: float, rate: float, loss, change=None):
    """Train until the time is over, the rate falling as a cosine.

    Returns the number of crops and the seconds that it took.
    """
    crops = plain_crops(data, 10**6)
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    network.train()
    start, seen = time.monotonic(), 0
    for image, target in DataLoader(crops, batch_size=CONFIG.batch_size):
        share = (time.monotonic() - start) / seconds
        if share >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = rate * (1 + np.cos(np.pi * share)) / 2
        if change is not None:
            image, target = change(image, target)
        optimiser.zero_grad()
        loss(network(image), target).backward()
        optimiser.step()
        seen += len(image)
    return seen, time.monotonic() - start


def train_medlib(data, seconds: float):
    """Fit the schedule to the time by short trials, then train."""

    def for_steps(steps: int):
        config = CONFIG.model_copy(
            update={"steps": steps, "tune_every": max(steps // 5, 1), "tune_crops": 96}
        )
        crops, tune, _ = outline_crops(data, config)
        return train_on(crops, tune, config, best_device()), config

    for_steps(TRIALS[0])  # the first is slower
    short, long = (for_steps(steps)[0].seconds for steps in TRIALS)
    per_step = (long - short) / (TRIALS[1] - TRIALS[0])
    trained, config = for_steps(round(TRIALS[0] + (seconds - short) / per_step))
    return trained.network, config.steps * config.batch_size, trained.seconds


def train_smp(data, seconds: float):
    """Train as smp's example does."""
    network = build_network(CONFIG)
    nn.init.zeros_(network.segmentation_head[0].bias)  # medlib begins from a prior, smp does not
    loss = DiceLoss("binary", from_logits=True)
    return network, *loop(network, data, seconds, 2e-4, loss)


def train_monai(data, seconds: float):
    """Train as MONAI's tutorials do."""
    from monai.losses import DiceLoss as MonaiDice
    from monai.networks.nets import BasicUNet

    network = BasicUNet(spatial_dims=2, in_channels=CONFIG.n_slices, out_channels=1)
    rng = np.random.default_rng(0)

    def turned(image, target):
        turns, flip = int(rng.integers(4)), rng.random() < 0.5
        both = [torch.rot90(t, turns, (2, 3)) for t in (image, target)]
        return [t.flip(3) if flip else t for t in both]

    return network, *loop(network, data, seconds, 1e-3, MonaiDice(sigmoid=True), turned)


def one(peer: str, seconds: float) -> dict:
    """Train a peer and judge it on held-out volumes."""
    torch.manual_seed(0)
    real = open_real_ct()
    if peer == "threshold":
        network, seen, took = AboveHalfWay(), 0, 0.0
    else:
        train = {"medlib": train_medlib, "smp": train_smp, "monai": train_monai}[peer]
        network, seen, took = train(outline_data(real, None, CONFIG), seconds)
    parameters = sum(p.numel() for p in network.parameters())
    outliner = Outliner(network.eval(), CONFIG)
    start, rows = time.perf_counter(), []
    for _, row in real.vois[real.vois["split"].isin(HELD_OUT)].iterrows():
        found = voi.read_voi(real.folder / VOI_FOLDER, row)
        rows.append(score_voi(found, outline_window(outliner, found.volume) >= LEVEL))
    cases = pd.DataFrame(rows)
    return {
        "peer": peer,
        "budget_s": seconds if took else 0.0,
        "parameters": parameters,
        "train_seconds": round(took, 1),
        "crops_per_second": round(seen / took, 1) if took else None,
        "seconds_per_volume": round((time.perf_counter() - start) / len(cases), 3),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "n_volumes": len(cases),
        "metrics": {name: asdict(bootstrap_mean(cases, name)) for name in METRICS},
        "dice_by_volume": dict(zip(cases["voi_id"], cases["dice"].round(4), strict=True)),
    }


def main() -> None:
    """Run every peer in a process of its own, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, nargs="+", default=[50.0, 200.0])
    parser.add_argument("--out", type=Path, default=REFERENCE_RUNS / "peers" / "peers.json")
    parser.add_argument("--one", choices=PEERS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one, given.seconds[0])))
        return
    if importlib.util.find_spec("monai") is None:
        sys.exit("monai is not installed: the peers need it beside medlib's own dependencies")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    results = []
    todo = [(peer, seconds) for peer in PEERS[:-1] for seconds in sorted(given.seconds)]
    for peer, seconds in [*todo, (PEERS[-1], 0.0)]:
        command = [sys.executable, __file__, "--one", peer, "--seconds", str(seconds)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"{peer} failed; nothing was written")
        results.append(json.loads(done.stdout.splitlines()[-1]))
        found = results[-1]["metrics"]["dice"]
        print(f"{peer}, {seconds:g} s: Dice {found['value']:.3f} ({found['low']:.3f} to "
              f"{found['high']:.3f}), {results[-1]['crops_per_second']} crops a second",
              flush=True)  # fmt: skip
    beside = given.out.with_suffix(".new")
    stored = {"device": describe(best_device()), "peers": results}
    beside.write_text(json.dumps(stored, indent=2) + "\n")
    beside.replace(given.out)


if __name__ == "__main__":
    main()
