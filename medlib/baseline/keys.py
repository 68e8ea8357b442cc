"""Content keys: what a result was made from, so that a stale one is never taken for a fresh one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from medlib.annotation.cohort import Cohort
from medlib.baseline.config import TrainConfig

TRAINING_MODULES = (
    "medlib.images.lungs",
    "medlib.annotation.reference",
    "medlib.baseline.augment",
    "medlib.baseline.grid",
    "medlib.baseline.losses",
    "medlib.baseline.network",
    "medlib.baseline.slices",
    "medlib.baseline.train",
    "medlib.baseline.weights",
)
PREDICTION_MODULES = (
    "medlib.images.lungs",
    "medlib.baseline.comparators",
    "medlib.baseline.grid",
    "medlib.baseline.inference",
    "medlib.baseline.prediction",
)


def digest(*parts: str | bytes) -> str:
    """Return a SHA-256 of the parts, which cannot run into one another."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()


def source_key(modules: Iterable[str]) -> str:
    """Return the digest of the source files of these modules."""
    sources = []
    for module in modules:
        spec = find_spec(module)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(module)
        sources.append(Path(spec.origin).read_bytes())
    return digest(*sources)


def cohort_key(cohort: Cohort) -> str:
    """Return the digest of the cohort's table and of its checksums, where it stores them."""
    return digest(cohort.table.to_csv(index=False))


def training_keys(config: TrainConfig, cohort: Cohort) -> dict[str, str]:
    """Return one key for each thing that a training run is made from."""
    return {
        "configuration": digest(config.model_dump_json()),
        "cohort": cohort_key(cohort),
        "training code": source_key(TRAINING_MODULES),
    }
