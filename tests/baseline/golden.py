"""The stored answer of the shipped weights; make it again with: python tests/baseline/golden.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from toy import Ball, toy_volume

from medlib.baseline.inference import predict_volume
from medlib.baseline.run import Run
from medlib.risk.real import shipped_run

STORED = Path(__file__).with_name("golden.npz")
BALLS = [Ball((15, 64, 36), 5.0), Ball((25, 50, 92), 9.0, hu=20.0), Ball((28, 84, 30), 3.0)]


def marked(device: torch.device) -> tuple[np.ndarray, np.ndarray, str]:
    """Return what the shipped weights mark in a fixed chest, the lesions in it, and which weights.

    Balls and tubes in two lungs of constant density with noise: drawn by numpy alone, so that the
    answer does not hang on the phantom.
    """
    run = Run(shipped_run())
    volume, masks = toy_volume(BALLS, spacing_mm=(2.5, 0.8, 0.8), noise_hu=25.0, seed=3)
    found = predict_volume(
        run.load_network(), run.config, volume, device, outliner=run.load_outliner()
    )
    return found.labels > 0, np.any(masks, axis=0), run.weights_sha256()


if __name__ == "__main__":
    mask, lesions, weights = marked(torch.device("cpu"))
    print("Dice with the drawn balls:", 2 * (mask & lesions).sum() / (mask.sum() + lesions.sum()))
    np.savez_compressed(
        STORED, mask=np.packbits(mask), shape=np.array(mask.shape), weights=np.array(weights)
    )
