"""Content keys: what a result was made from, so that a stale one is never taken for a fresh one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from medlib.annotation.cohort import SMALL_FILES, Cohort
from medlib.baseline.config import TrainConfig
from medlib.sources import code_digest

TRAINING_MODULES = (
    "medlib.images.lungs",
    "medlib.annotation.reference",
    "medlib.baseline.augment",
    "medlib.baseline.device",
    "medlib.baseline.dots",
    "medlib.baseline.grid",
    "medlib.baseline.losses",
    "medlib.baseline.network",
    "medlib.baseline.slices",
    "medlib.baseline.train",
    "medlib.baseline.transplant",
    "medlib.baseline.weights",
)
PREDICTION_MODULES = (
    "medlib.images.lungs",
    "medlib.baseline.comparators",
    "medlib.baseline.device",
    "medlib.baseline.dots",
    "medlib.baseline.grid",
    "medlib.baseline.inference",
    "medlib.baseline.network",
    "medlib.baseline.outline",
    "medlib.baseline.prediction",
    "medlib.baseline.roundness",
    "medlib.baseline.runtime",
    "medlib.baseline.views",
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
    """Return the digest of the code of these modules."""
    sources = []
    for module in modules:
        spec = find_spec(module)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(module)
        sources.append(Path(spec.origin))
    return code_digest(sources)


def cohort_key(cohort: Cohort) -> str:
    """Return the digest of the cohort's table and of what is known of its cases.

    A phantom case has a receipt with checksums of its voxels. A case of one's own has none: there
    its annotations are digested, and its series is known by the UID in the table.
    """
    known: list[bytes | str] = [cohort.table.to_csv(index=False)]
    for case_id in cohort.table["case_id"]:
        folder = cohort.folder / case_id
        receipt = folder / "receipt.json"
        if receipt.is_file():
            known.append(json.dumps(json.loads(receipt.read_bytes())["voxels"], sort_keys=True))
        else:
            known += [(folder / name).read_bytes() for name in SMALL_FILES]
    return digest(*known)


def training_keys(config: TrainConfig, cohort: Cohort) -> dict[str, str]:
    """Return one key for each thing that a training run is made from."""
    return {
        "configuration": digest(config.model_dump_json()),
        "cohort": cohort_key(cohort),
        "training code": source_key(TRAINING_MODULES),
    }
