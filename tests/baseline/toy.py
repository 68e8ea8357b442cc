"""Toy chests for the tests: two lungs in a body, round lesions, tubes as vessels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from medlib.annotation.case import Case
from medlib.cohorts.case_folders import FILES
from medlib.images.volume import SeriesIdentity, Volume


@dataclass(frozen=True)
class Ball:
    center_mm: tuple[float, float, float]
    radius_mm: float
    n_readers: int = 4
    hu: float = 40.0


def toy_volume(
    balls: list[Ball],
    spacing_mm: tuple[float, float, float] = (2.5, 1.0, 1.0),
    size_mm: tuple[float, float, float] = (40.0, 128.0, 128.0),
    patient_id: str = "toy-1",
    noise_hu: float = 0.0,
    seed: int = 0,
) -> tuple[Volume, list[np.ndarray]]:
    """Draw a chest; voxel (0, 0, 0) is centred at half a voxel from the origin."""
    shape = tuple(round(size / step) for size, step in zip(size_mm, spacing_mm, strict=True))
    z, y, x = np.meshgrid(
        *[(np.arange(n) + 0.5) * step for n, step in zip(shape, spacing_mm, strict=True)],
        indexing="ij",
        sparse=True,
    )
    middle = size_mm[1] / 2
    hu = np.full(shape, -1000.0)
    hu[np.broadcast_to(((y - middle) / 60) ** 2 + ((x - middle) / 60) ** 2 < 1, shape)] = 30
    for side in (-28, 28):
        lung = ((y - middle) / 42) ** 2 + ((x - middle - side) / 23) ** 2 < 1
        hu[np.broadcast_to(lung, shape)] = -850
    for y_mm in (middle - 15, middle + 15):  # vessels along z
        hu[np.broadcast_to((y - y_mm) ** 2 + (x - middle - 28) ** 2 < 2.0**2, shape)] = 30
    masks = []
    for ball in balls:
        cz, cy, cx = ball.center_mm
        masks.append((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < ball.radius_mm**2)
        hu[masks[-1]] = ball.hu
    hu += noise_hu * np.random.default_rng(seed).standard_normal(shape)
    affine = np.diag([spacing_mm[2], spacing_mm[1], spacing_mm[0], 1.0])
    identity = SeriesIdentity(patient_id, f"1.2.{seed}", f"1.2.{seed}.1")
    return Volume(hu.astype(np.float32), affine, identity), masks


def toy_case(
    balls: list[Ball], patient_id: str = "toy-1", split: str = "train", **volume_options
) -> Case:
    volume, masks = toy_volume(balls, patient_id=patient_id, **volume_options)
    readers = np.zeros(volume.hu.shape, dtype=np.uint8)
    labels = np.zeros(volume.hu.shape, dtype=np.uint8)
    for label, (ball, mask) in enumerate(zip(balls, masks, strict=True), start=1):
        readers[mask] = 2**ball.n_readers - 1
        labels[mask] = label
    lesions = pd.DataFrame(
        {
            "lesion_id": [f"{patient_id}-{k}" for k in range(1, len(balls) + 1)],
            "label": range(1, len(balls) + 1),
            "n_readers": [ball.n_readers for ball in balls],
            "diameter_mm": [2 * ball.radius_mm for ball in balls],
        }
    )
    return Case(f"case-{patient_id}", patient_id, "site-a", split, volume, readers, labels, lesions)


KNOWN = ("case_id", "patient_id", "site", "split", "label_kind", "is_window")


@dataclass(frozen=True)
class ToyCohort:
    """Stands in for `medlib.cohorts.cohort.Cohort`."""

    all_cases: tuple[Case, ...]
    folder: Path = Path()

    @property
    def table(self) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {name: getattr(case, name) for name in KNOWN} | {"licence": ""}
                for case in self.all_cases
            ]
        )

    def case(self, case_id: str) -> Case:
        return next(case for case in self.all_cases if case.case_id == case_id)

    def cases(self, split: str | None = None) -> Iterator[Case]:
        return (case for case in self.all_cases if split in (None, case.split))


def toy_cohort(folder: Path) -> ToyCohort:
    rng = np.random.default_rng(5)
    cases = []
    for number, split in enumerate(["train", "train", "train", "tune", "test"]):
        balls = [
            Ball((rng.uniform(10, 30), 64 + rng.uniform(-25, 25), x + rng.uniform(-8, 8)), radius)
            for x, radius in ((36.0, 5.0), (92.0, 7.0))
        ]
        cases.append(toy_case(balls, f"toy-{number}", split, noise_hu=20.0, seed=number))
    for case in cases:  # stand for the annotations on disk, which make the cohort's key
        (folder / case.case_id).mkdir(parents=True)
        for name in FILES:
            (folder / case.case_id / name).write_bytes(name.encode())
    return ToyCohort(tuple(cases), folder)


class DenserThan(nn.Module):
    """Stands in for a network: sure of every voxel of the middle slice above a HU value."""

    def __init__(self, hu: float) -> None:
        super().__init__()
        self.level = (hu + 1000) / 700 - 1
        self.slices = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        assert image.shape[2] % 32 == 0
        assert image.shape[3] % 32 == 0
        self.slices += len(image)
        return 100 * (image[:, image.shape[1] // 2][:, None] - self.level)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))
