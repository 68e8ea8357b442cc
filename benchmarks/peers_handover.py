"""Volumes of interest handed over to nnU-Net, which runs in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import SimpleITK

from medlib.annotation.case import Case
from medlib.annotation.reference import more_than_half
from medlib.baseline.training_sources import training_windows, windows
from medlib.cohorts.cohort import Cohort

NNUNET_SCRIPT = Path(__file__).with_name("peers_nnunet.py")
HELD_OUT = ("test", "external")


def write_nifti(array: np.ndarray, like: Case, path: Path) -> None:
    """Write whole numbers with the voxel size of a volume of interest, without its place."""
    image = SimpleITK.GetImageFromArray(array.astype(np.int16))
    image.SetSpacing(like.volume.spacing_mm[::-1])
    SimpleITK.WriteImage(image, path)


def run_nnunet(real: Cohort, seconds: float, python: str, folder: Path) -> dict:
    """Hand the volumes over to nnU-Net in its own environment; its masks come to FOLDER/masks.

    Returns what `peers_nnunet.py` reports.
    """
    own = {
        part: str(folder / part) for part in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    }
    dataset = folder / "nnUNet_raw" / "Dataset001_nodules"
    images, labels, held_out = dataset / "imagesTr", dataset / "labelsTr", folder / "held_out"
    for part in (images, labels, held_out):
        part.mkdir(parents=True)
    train = training_windows(real, "train")
    for found in train:
        write_nifti(found.volume.hu, found, images / f"{found.case_id}_0000.nii.gz")
        write_nifti(more_than_half(found.drawn_masks()), found, labels / f"{found.case_id}.nii.gz")
    for found in (found for split in HELD_OUT for found in windows(real, split)):
        write_nifti(found.volume.hu, found, held_out / f"{found.case_id}_0000.nii.gz")
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "nodule": 1},
        "numTraining": len(train),
        "file_ending": ".nii.gz",
    }
    (dataset / "dataset.json").write_text(json.dumps(description))
    report, log = folder / "report.json", folder / "log.txt"
    command = [python, NNUNET_SCRIPT, "--seconds", str(seconds), "--report", report]
    command += ["--images", held_out, "--masks", folder / "masks"]
    with log.open("w") as output:
        done = subprocess.run(command, env={**os.environ, **own}, stdout=output, stderr=output)
    if done.returncode:
        sys.exit("\n".join(log.read_text().splitlines()[-20:]))
    return json.loads(report.read_bytes())
