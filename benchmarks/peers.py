"""What a user would train instead, side by side: same patients, same windows, same time.

Every peer gets the same seconds of training on centred windows of the train part of the real
volumes of interest (0.5 mm, 64 x 64, seven slices), on the same machine, one after the other, and
is judged with the same code on patients that none has seen. What differs is what each brings:
network, loss, rates, augmentation.

    medlib     the network for outlines of the profile lidc-outline, without the phantom, its
               schedule fitted to the time
    smp        the loop of its "binary segmentation" example: Dice loss, Adam at 2e-4, cosine, no
               augmentation; with the encoder and the ImageNet weights that medlib uses, because the
               example's own come from a hub
    monai      BasicUNet in two dimensions in the form of its tutorials: Dice loss, Adam at 1e-3,
               random flips and quarter turns
    nnunet     nnU-Net v2 in its configuration 2d, which plans its own windows, network and batch;
               the target is the readers' majority in the same volumes. See peers_nnunet.py
    dots       the classical blob detector of medlib.baseline.comparators, with the settings that
               were chosen on the phantom; no training
    threshold  what is denser than half-way between lung and tissue, in the middle; no training

    MEDLIB_REAL_CT=DIR python benchmarks/peers.py --seconds 50 200 --nnunet-python ENV/bin/python

trains each of them anew for each of these times, which shows how long the same quality takes. It
needs `monai` beside medlib's own dependencies, and writes reference_runs/peers/peers.json, which
chapter 4 shows. With ``--peers`` only some are run, and the other results stay, provided that they
are of the same machine, versions, data and profile.

nnU-Net is not a dependency of medlib and has an environment of its own, with the same torch:

    python -m venv ENV && ENV/bin/pip install nnunetv2 torch==VERSION

Without ``--nnunet-python`` it is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK
import torch
from peers_handover import HELD_OUT, run_nnunet
from record import write
from segmentation_models_pytorch.losses import DiceLoss
from torch import nn
from torch.utils.data import DataLoader

from medlib.annotation.agreement import dice
from medlib.annotation.case import Case
from medlib.annotation.reference import more_than_half
from medlib.baseline.comparators import predict_threshold
from medlib.baseline.config import train_config
from medlib.baseline.crops import Crops
from medlib.baseline.device import best_device, describe
from medlib.baseline.network import build_network
from medlib.baseline.network_passes import Model
from medlib.baseline.outline import central_region, outline_window
from medlib.baseline.train import train_on
from medlib.baseline.training_mix import MixedCrops, outline_crops, outline_data
from medlib.baseline.training_sources import checksum, windows
from medlib.cohorts.cohort import REAL, Cohort, open_cohort
from medlib.paths import REFERENCE_RUNS
from medlib.risk.intervals import bootstrap_mean
from medlib.risk.outline_scores import OUTLINE_METRICS, score_outline
from studies.ablation import without_phantom

NNUNET, DOTS, ABOVE = "nnunet", "dots", "threshold"
UNTRAINED = (DOTS, ABOVE)
PEERS = ("medlib", "smp", "monai", NNUNET, *UNTRAINED)
HALF_WAY_HU = -400.0  # between lung and soft tissue
LEVEL = 0.5
TRIALS = (20, 80)  # steps
# In so short a time more steps are worth more than large batches, to every peer.
CONFIG = without_phantom(train_config("lidc-outline")).model_copy(
    update={"candidate_level": LEVEL, "batch_size": 16, "learning_rate": 2e-3}
)


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
        [(share, Crops(volumes, config, grafts=[])) for share, volumes in nodules],
        config,
        length,
        0,
    )


def loop(network: nn.Module, data, seconds: float, rate: float, loss, change=None):
    """Train until the time is over, the rate falling as a cosine.

    Returns the number of crops and the seconds that it took.
    """
    crops, device = plain_crops(data, 10**6), best_device()
    network.to(device)
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
        loss(network(image.to(device)), target.to(device)).backward()
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


def judge(real: Cohort, mark: Callable[[Case], np.ndarray]) -> pd.DataFrame:
    """Score what is marked in each held-out volume."""
    found = (window for split in HELD_OUT for window in windows(real, split))
    return pd.DataFrame([score_outline(window, mark(window)) for window in found])


def in_the_middle(marked: np.ndarray, found: Case) -> np.ndarray:
    """Keep the region in the middle, as a close look does."""
    center = np.array(marked.shape) / 2 - 0.5
    # `central_region` adds a rim of what is not marked, which the others' level takes away.
    return marked & central_region(marked, center, found.volume.spacing_mm)


def dots(found: Case) -> np.ndarray:
    """Mark what the blob detector finds in the middle."""
    return in_the_middle(predict_threshold(CONFIG, found.volume, is_window=True).labels > 0, found)


def judge_nnunet(real: Cohort, masks: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score nnU-Net's masks: of each the region in the middle, as the others keep it, and all."""
    all_marked = []

    def mark(found: Case) -> np.ndarray:
        image = SimpleITK.ReadImage(masks / f"{found.case_id}.nii.gz")
        marked = SimpleITK.GetArrayFromImage(image) > 0
        whole = dice(more_than_half(found.drawn_masks()), marked)
        all_marked.append({"patient_id": found.patient_id, "dice": whole})
        return in_the_middle(marked, found)

    return judge(real, mark), pd.DataFrame(all_marked)


def one(peer: str, seconds: float, nnunet_python: str | None = None) -> dict:
    """Train a peer and judge it on held-out volumes."""
    torch.manual_seed(0)
    real, more = open_cohort(REAL), {}
    if peer == NNUNET:
        with tempfile.TemporaryDirectory() as folder:
            report = run_nnunet(real, seconds, nnunet_python, Path(folder))
            start = time.perf_counter()
            cases, all_marked = judge_nnunet(real, Path(folder) / "masks")
        parameters, took = report.pop("parameters"), report.pop("train_seconds")
        seen = report["iterations"] * report["batch_size"]
        start -= report.pop("predict_seconds")
        peak_memory_gb = report.pop("peak_memory_gb")
        more = {"nnunet": report, "dice_all_marked": asdict(bootstrap_mean(all_marked, "dice"))}
    elif peer == DOTS:
        parameters, seen, took = 0, 0, 0.0
        start = time.perf_counter()
        cases = judge(real, dots)
        peak_memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    else:
        if peer == ABOVE:
            network, seen, took = AboveHalfWay(), 0, 0.0
        else:
            train = {"medlib": train_medlib, "smp": train_smp, "monai": train_monai}[peer]
            network, seen, took = train(outline_data(real, None, CONFIG), seconds)
        parameters = sum(p.numel() for p in network.parameters())
        outliner = Model(network.eval(), CONFIG)
        start = time.perf_counter()
        cases = judge(real, lambda found: outline_window(outliner, found.volume) >= LEVEL)
        peak_memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {
        "peer": peer,
        "budget_s": seconds if took else 0.0,
        "parameters": parameters,
        "train_seconds": round(took, 1),
        "crops_per_second": round(seen / took, 1) if took else None,
        "seconds_per_volume": round((time.perf_counter() - start) / len(cases), 3),
        "peak_memory_gb": round(peak_memory_gb, 2),
        "n_volumes": len(cases),
        "metrics": {
            **{name: asdict(bootstrap_mean(cases, name)) for name in OUTLINE_METRICS},
            "missed_in_patient": asdict(
                bootstrap_mean(
                    cases.groupby("patient_id", as_index=False)["missed"].max(), "missed"
                )
            ),
        },
        "dice_by_volume": dict(zip(cases["voi_id"], cases["dice"].round(4), strict=True)),
        **more,
    }


def settings() -> dict:
    """Return what results have to share to stand side by side."""
    return {
        "torch": torch.__version__,
        "held_out": list(HELD_OUT),
        "real_ct": checksum(open_cohort(REAL)),
        "profile": CONFIG.model_dump(mode="json"),
    }


def kept(path: Path, run: dict, todo: list[tuple[str, float]]) -> list[dict]:
    """Return the stored results that are not run again; end if new ones can't stand beside them."""
    if not path.is_file():
        return []
    stored = json.loads(path.read_bytes())
    now, then = ({"device": of["device"], **of.get("settings", {})} for of in (run, stored))
    differ = sorted(name for name in now if now[name] != then.get(name))
    if differ:
        sys.exit(
            f"{path} is of another {', '.join(differ)}; run all peers anew, without --peers, or "
            "name another file with --out"
        )
    return [old for old in stored["peers"] if (old["peer"], old["budget_s"]) not in todo]


def chosen(given: argparse.Namespace) -> list[str]:
    """Return the peers to run; end if what one of them needs is not there."""
    peers = [peer for peer in PEERS if peer in (given.peers or PEERS)]
    if NNUNET in peers and given.nnunet_python is None:
        if given.peers:
            sys.exit(f"{NNUNET} needs --nnunet-python; see the top of {Path(__file__).name}")
        peers.remove(NNUNET)
        print(f"{NNUNET} is left out: --nnunet-python was not given")
    if "monai" in peers and importlib.util.find_spec("monai") is None:
        sys.exit("monai is not installed: the peers need it beside medlib's own dependencies")
    if NNUNET in peers:
        look = "import importlib.util, sys; sys.exit(not importlib.util.find_spec('nnunetv2'))"
        if subprocess.run([given.nnunet_python, "-c", look]).returncode:
            sys.exit(f"{given.nnunet_python} has no nnunetv2")
    return peers


def main() -> None:
    """Run the peers, each in a process of its own, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, nargs="+", default=[50.0, 200.0])
    parser.add_argument("--out", type=Path, default=REFERENCE_RUNS / "peers" / "peers.json")
    parser.add_argument("--peers", choices=PEERS, nargs="+", help="only these; the others stay")
    parser.add_argument("--nnunet-python", help="the interpreter of an environment with nnunetv2")
    parser.add_argument("--one", choices=PEERS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one, given.seconds[0], given.nnunet_python)))
        return
    peers = chosen(given)
    budgets = sorted(set(given.seconds))
    todo = [(p, s) for p in peers for s in ([0.0] if p in UNTRAINED else budgets)]
    run = {"device": describe(best_device()), "settings": settings()}
    results = kept(given.out, run, todo) if given.peers else []
    for peer, seconds in todo:
        command = [sys.executable, __file__, "--one", peer, "--seconds", str(seconds)]
        if peer == NNUNET:
            command += ["--nnunet-python", given.nnunet_python]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"{peer} failed; nothing was written")
        results.append(json.loads(done.stdout.splitlines()[-1]))
        found = results[-1]["metrics"]["dice"]
        print(f"{peer}, {seconds:g} s: Dice {found['value']:.3f} ({found['low']:.3f} to "
              f"{found['high']:.3f}), {results[-1]['crops_per_second']} crops a second",
              flush=True)  # fmt: skip
    results.sort(key=lambda result: (PEERS.index(result["peer"]), result["budget_s"]))
    write({**run, "peers": results}, given.out)


if __name__ == "__main__":
    main()
