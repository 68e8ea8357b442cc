"""The run folder: found where it was made from the same inputs, made where not."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from medlib.baseline import processes
from medlib.baseline.card import evidence_card
from medlib.baseline.config import TrainConfig, train_config
from medlib.baseline.device import best_device
from medlib.baseline.network import load_weights, save_weights, without_normalisation
from medlib.baseline.network_passes import Model
from medlib.baseline.runtime import ForInference
from medlib.cohorts.cohort import Cohort, cohort_key, open_cohort
from medlib.errors import RunError
from medlib.files import lock_on
from medlib.keys import code_key, digest
from medlib.paths import RUNS

CONFIG, WEIGHTS, HISTORY, CARD = "config.json", "weights.safetensors", "history.csv", "card.json"
OUTLINER = "outliner"


@dataclass(frozen=True)
class Run:
    """One training run on disk.

    Attributes
    ----------
    folder : Path
        Holds ``config.json``, ``weights.safetensors``, ``history.csv`` and ``card.json``; later
        also ``predictions/`` and ``evaluation/``.
    """

    folder: Path

    @cached_property
    def config(self) -> TrainConfig:
        """What the run was made with."""
        try:
            return TrainConfig.model_validate_json(self._file(CONFIG).read_bytes())
        except ValidationError as error:
            raise RunError(
                f"the run folder {self.folder.name} was made by another version of medlib "
                f"({error.error_count()} of its choices are not known, or out of range): make the "
                "run again"
            ) from error

    @cached_property
    def card(self) -> dict[str, Any]:
        """The evidence card; see `medlib.baseline.card`."""
        try:
            card: dict[str, Any] = json.loads(self._file(CARD).read_bytes())
        except ValueError as error:  # cut short, or edited
            raise RunError(
                f"the run folder {self.folder.name} has a {CARD} that is no JSON: restore it, or "
                "make the run again"
            ) from error
        return card

    @cached_property
    def history(self) -> pd.DataFrame:
        """The training curves; see `medlib.baseline.train.Trained`."""
        return pd.read_csv(self._file(HISTORY))

    def load_network(self) -> ForInference:
        """Return the trained network, ready for inference and for nothing else."""
        network = load_weights(self.config, self._file(WEIGHTS))
        return ForInference(without_normalisation(network))

    def load_outliner(self) -> Model | None:
        """Return the network of the close look, where the run has one: a run in its folder."""
        inner = Run(self.folder / OUTLINER)
        return Model(inner.load_network(), inner.config) if inner.folder.is_dir() else None

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the weights, the outliner's behind them: which model this is."""
        total = hashlib.sha256(self._file(WEIGHTS).read_bytes())
        outliner = self.folder / OUTLINER / WEIGHTS
        if outliner.is_file():
            total.update(outliner.read_bytes())
        return total.hexdigest()

    def model_key(self) -> str:
        """Return the digest of all that its answers rest on, code apart: weights and choices."""
        outliner = self.folder / OUTLINER / CONFIG
        choices = [outliner.read_bytes()] if outliner.is_file() else []
        return digest(self.weights_sha256(), self.config.model_dump_json(), *choices)

    def _file(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise RunError(
                f"the run folder {self.folder.name} has no {name}: delete the folder and run again"
            )
        return path


def find_or_make_run(
    profile: str = "quick",
    dataset: str = "phantom",
    seed: int = 0,
    run_dir: Path | None = None,
    changes: Sequence[str] = (),
) -> Run:
    """Return the run made from these inputs; train it where there is none. Prints which it was.

    Parameters
    ----------
    profile : str
        A name in `medlib.baseline.config.PROFILES`.
    dataset : str
        ``"phantom"`` or a folder with a cohort.
    seed : int
        Of the cohort and of the training.
    run_dir : Path, optional
        Where the run stands; by default under the project's build folder.
    changes : sequence of str
        To the profile, each ``FIELD=VALUE``; see `medlib.baseline.config.train_config`.

    Returns
    -------
    Run

    Raises
    ------
    RunError
        If the profile or a field is unknown, a value is not what the field takes, the profile
        draws from real CT, or `run_dir` holds something that is not a run.
    """
    config = train_config(profile, seed, changes)
    if config.voi_crops or config.scan_crops or config.mass_crops:
        raise RunError(
            f"profile '{config.profile}' learns from real CT: use --profile lidc --dataset lidc-voi"
        )
    name = "-".join([Path(dataset).name, profile, f"seed{seed}", *changes])
    folder = Path(run_dir) if run_dir else RUNS / re.sub(r"[^\w.-]+", "-", name)
    cohort = open_cohort(dataset, config.cohort, seed)
    keys = {
        "configuration": digest(config.model_dump_json()),
        "cohort": cohort_key(cohort),
        "training code": code_key("medlib.baseline.train"),
    }
    # Another command waits, then finds it; the processes of one training go together.
    lock = lock_on(folder) if not processes.rank() else None
    with lock or nullcontext():
        changed = _what_changed(folder, keys)
        run = Run(folder) if not changed else make_run(config, cohort, folder, keys)
    made = run.card["time"]
    if changed:
        print(f"made the run {folder.name} in {made['seconds']:.0f} s ({' and '.join(changed)})")
    else:
        print(f"found the run {folder.name}, made {made['finished']} in {made['seconds']:.0f} s")
    return run


def _what_changed(folder: Path, keys: dict[str, str]) -> list[str]:
    """Say why the folder is no run of these inputs; an empty list if it is one."""
    if not folder.exists() or not any(folder.iterdir()):
        return ["there was none"]
    if not (folder / CARD).is_file():
        raise RunError(
            f"{folder} holds files but no {CARD}, so it is no run: name an empty or a new folder"
        )
    before = Run(folder).card.get("keys", {})
    return [f"another {name}" for name, key in keys.items() if before.get(name) != key]


def make_run(config: TrainConfig, cohort: Cohort, folder: Path, keys: dict[str, str]) -> Run:
    """Train and write the run beside its folder, then put it in place of what stood there."""
    # Training needs Lightning, which takes seconds to import; finding a run does not.
    from medlib.baseline.train import train
    from medlib.baseline.training_volume import training_volumes
    from medlib.cohorts.splits import check_disjoint

    check_disjoint(cohort.table)
    patients = {
        str(split): sorted(group["patient_id"].astype(str).unique())
        for split, group in cohort.table.groupby("split")
    }
    volumes = {
        split: training_volumes(
            cohort.cases(split),
            config,
            split,
            {p for other, members in patients.items() if other != split for p in members},
        )
        for split in ("train", "tune")
    }
    device = best_device()
    # Killed, the training goes on from its last look at the tune part.
    checkpoints = folder.parent / f".{folder.name}.{digest(*keys.values())[:16]}"
    checkpoints.mkdir(parents=True, exist_ok=True)
    trained = train(config, volumes["train"], volumes["tune"], device, checkpoints)
    if processes.rank():
        raise SystemExit(0)  # the first process writes

    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.parent / f".{folder.name}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    (beside / CONFIG).write_text(config.model_dump_json(indent=2))
    save_weights(trained.network, beside / WEIGHTS)
    trained.history.to_csv(beside / HISTORY, index=False)
    card = evidence_card(config, cohort, patients, trained, device, Run(beside).weights_sha256())
    (beside / CARD).write_text(json.dumps({**card, "keys": keys}, indent=2))
    _replace(folder, beside)
    shutil.rmtree(checkpoints)
    return Run(folder)


def _replace(folder: Path, beside: Path) -> None:
    """Put a finished folder in the place of an older one, which is gone only once it is moved."""
    old = beside.with_name(beside.name + ".old")
    if folder.exists():
        folder.rename(old)
    beside.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
