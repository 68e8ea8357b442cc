"""nnU-Net v2 in its configuration 2d: plan and preprocess, train for some seconds, predict.

`peers.py` runs this with the interpreter of an environment that has nnunetv2 (`--nnunet-python`),
with the variables nnUNet_raw, nnUNet_preprocessed and nnUNet_results set:

    python peers_nnunet.py --seconds 50 --images DIR --masks DIR --report FILE

Plan, network, loss, augmentation, optimiser and prediction are nnU-Net's own, at their defaults.
Two things are not: training ends when the seconds are over, the rate following the time that is
used instead of the epochs; and validation epochs, which choose nothing, are left out. It computes
on the device where the other peers train, and augments in the process that trains, as they do.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprint_dataset,
    plan_experiment_dataset,
    preprocess_dataset,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

DATASET = 1
CONFIGURATION = "2d"
AUGMENTING = "nnUNet_n_proc_DA"  # nnU-Net's variable: processes that augment beside the training
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class TimedTrainer(nnUNetTrainer):
    """nnU-Net's trainer, for a time instead of a number of epochs."""

    seconds = 0.0
    used = 0.0
    iterations = 0

    def run_training(self) -> None:
        """Train until the time is over; what is prepared before the first step is not counted."""
        self.on_train_start()
        self.network.train()
        start = time.monotonic()
        while self.used < self.seconds:
            # nnU-Net's own polynomial; its scheduler takes fractions of an epoch.
            self.lr_scheduler.step(self.num_epochs * self.used / self.seconds)
            self.train_step(next(self.dataloader_train))
            self.iterations += 1
            self.used = time.monotonic() - start
        self.on_train_end()


def plan() -> tuple[dict[str, Any], dict[str, Any]]:
    """Plan and preprocess the dataset; return the plans and the description of the dataset."""
    processes = os.cpu_count() or 1
    extract_fingerprint_dataset(DATASET, num_processes=processes, show_progress_bar=False)
    plans, name = plan_experiment_dataset(DATASET)
    preprocess_dataset(
        DATASET, name, (CONFIGURATION,), num_processes=[processes], show_progress_bar=False
    )
    folder = Path(nnUNet_preprocessed) / plans["dataset_name"]
    files = (folder / f"{name}.json", folder / "dataset.json")
    return tuple(json.loads(path.read_bytes()) for path in files)


def train(plans: dict[str, Any], dataset: dict[str, Any], seconds: float) -> TimedTrainer:
    """Train on all patients of the dataset."""
    trainer = TimedTrainer(
        {**plans, "continue_training": False}, CONFIGURATION, "all", dataset, DEVICE
    )
    trainer.seconds = seconds
    trainer.disable_checkpointing = True  # the network is used at once
    trainer.run_training()
    return trainer


def predict(trainer: TimedTrainer, images: Path, masks: Path) -> int:
    """Write the mask of every image, one after the other; return their number."""
    network = trainer.network.eval()
    trainer.set_deep_supervision_enabled(False)
    predictor = nnUNetPredictor(device=DEVICE, perform_everything_on_device=False, allow_tqdm=False)
    predictor.manual_initialization(
        network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    masks.mkdir(parents=True)
    paths = sorted(images.glob("*_0000.nii.gz"))
    predictor.predict_from_files_sequential(
        [[str(path)] for path in paths],
        [str(masks / path.name.removesuffix("_0000.nii.gz")) for path in paths],
    )
    return len(paths)


def main() -> None:
    """Do all of it, and report what was planned, how much was seen and how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, required=True)
    for name in ("--images", "--masks", "--report"):
        parser.add_argument(name, type=Path, required=True)
    given = parser.parse_args()
    torch.manual_seed(0)
    augmenting = os.environ.pop(AUGMENTING, "0")  # the planner takes it for a number of threads
    start = time.monotonic()
    plans, dataset = plan()
    planned = time.monotonic()
    os.environ[AUGMENTING] = augmenting
    trainer = train(plans, dataset, given.seconds)
    trained = time.monotonic()
    n_images = predict(trainer, given.images, given.masks)
    predicted = time.monotonic() - trained
    configuration = trainer.configuration_manager
    used_by = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    report = {
        "versions": {name: version(name) for name in ("nnunetv2", "torch")},
        "threads": torch.get_num_threads(),
        "augmenting_processes": int(augmenting),
        "patch_size": [int(side) for side in configuration.patch_size],
        "spacing_mm": [round(float(step), 4) for step in configuration.spacing],
        "batch_size": trainer.batch_size,
        "mirrored_at_prediction": list(trainer.inference_allowed_mirroring_axes),
        "n_train_volumes": dataset["numTraining"],
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "preprocess_seconds": round(planned - start, 1),
        "train_seconds": trainer.used,
        "iterations": trainer.iterations,
        "predict_seconds": predicted,
        "n_predicted": n_images,
        "peak_memory_gb": max(resource.getrusage(who).ru_maxrss for who in used_by) / 1e6,
    }
    given.report.write_text(json.dumps(report))


if __name__ == "__main__":
    main()
