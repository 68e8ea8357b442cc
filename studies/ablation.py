"""One choice changed at a time: what it does to the outlines of real nodules, at equal budget.

The base is the profile of the shipped outlines, without the phantom and at this budget.

Every variant is trained for the same number of steps on the train part of the real volumes of
interest, with several seeds, and judged on the tune part; test patients are not touched, because
choices are made here. The ImageNet weights of encoders other than EfficientNet-Lite0 have to be
downloaded, so all of them start from random weights and are held against the Lite0 that does too.

    python -m studies ablation --steps 200 --seed 0 --seed 1

Each training that is done is kept; a study that was cut off goes on with the next. Seeds are kept
apart, so that several processes may share the work. `quick_study` is a small one on the phantom.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from medlib import progress
from medlib.annotation.case import Case
from medlib.baseline.config import TrainConfig, train_config
from medlib.baseline.device import best_device, describe
from medlib.baseline.network_passes import Model
from medlib.baseline.outline import outline_window
from medlib.baseline.train import train_on
from medlib.baseline.training_mix import OutlineData, outline_crops, outline_data
from medlib.baseline.training_sources import checksum, is_real, windows
from medlib.cohorts.cohort import REAL, Cohort, open_cohort
from medlib.errors import RunError
from medlib.files import write_file, write_json
from medlib.keys import code_key, digest
from medlib.paths import REFERENCE_RUNS, RUNS
from medlib.risk.intervals import Estimate, bootstrap_mean
from medlib.risk.outline_scores import score_outline

FOLDER = REFERENCE_RUNS / "ablation-lidc-outline"
TABLE, SETTINGS = "seed{seed}.csv", "settings.json"
BASE, RANDOM = "as trained", "random weights"
LEVEL = 0.5  # the same for every variant
QUICK_STEPS = 40
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    # name: what it is held against, kind of choice, what is changed
    BASE: (BASE, "", {}),
    "cross-entropy": (BASE, "loss", {"loss": "bce"}),
    "weighted cross-entropy": (BASE, "loss", {"loss": "weighted-bce"}),
    "Dice": (BASE, "loss", {"loss": "dice"}),
    "focal": (BASE, "loss", {"loss": "focal"}),
    "Tversky": (BASE, "loss", {"loss": "tversky"}),
    "one slice (2D)": (BASE, "input", {"n_slices": 1}),
    "three slices": (BASE, "input", {"n_slices": 3}),
    "lesions drawn rarely": (BASE, "sampling", {"lesion_share": 0.1}),
    "no augmentation": (BASE, "augmentation", {"augmentation": "none"}),
    "shape alone": (BASE, "augmentation", {"augmentation": "shape"}),
    "intensity alone": (BASE, "augmentation", {"augmentation": "intensity"}),
    RANDOM: (BASE, "start", {"pretrained": False}),
    "head first, encoder at a tenth": (BASE, "start", {"encoder_rate": 0.1}),
    "ResNet-18": (RANDOM, "encoder", {"encoder": "resnet18", "pretrained": False}),
    "ResNet-34": (RANDOM, "encoder", {"encoder": "resnet34", "pretrained": False}),
    "EfficientNet-B0": (RANDOM, "encoder", {"encoder": "efficientnet-b0", "pretrained": False}),
    "DenseNet-121": (RANDOM, "encoder", {"encoder": "densenet121", "pretrained": False}),
}
QUICK = (BASE, "cross-entropy", "one slice (2D)", RANDOM)


def without_phantom(config: TrainConfig) -> TrainConfig:
    """Return the configuration with all crops from real CT, its two shares in proportion."""
    real = config.voi_crops + config.scan_crops
    voi_crops = round(config.voi_crops / real, 6)
    shares = {"voi_crops": voi_crops, "scan_crops": round(1 - voi_crops, 6), "mass_crops": 0.0}
    return config.model_copy(update=shares)


def variant_config(name: str, steps: int, seed: int, *, has_scans: bool = True) -> TrainConfig:
    """Return the configuration of a variant at this budget, with or without whole scans."""
    changes: dict[str, Any] = dict(VARIANTS[name][2])
    if "encoder_rate" in changes:
        changes["head_first_steps"] = steps // 4
    base = without_phantom(train_config("lidc-outline", seed))
    if not has_scans:
        base = base.model_copy(update={"voi_crops": 1.0, "scan_crops": 0.0})
    budget = {"steps": steps, "tune_every": steps, "candidate_level": LEVEL}
    return base.model_copy(update=budget | changes)


def study(
    steps: int,
    seeds: Sequence[int],
    folder: Path = FOLDER,
    source: Cohort | None = None,
    names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Train and judge every variant that has not been yet; return what `read_study` does.

    Each with each seed and `steps` steps; `folder` gets a table a seed.

    Parameters
    ----------
    source : Cohort, optional
        What is learned and judged on; by default the real CT that ``MEDLIB_REAL_CT`` names.
    names : sequence of str, optional
        Of `VARIANTS`; by default all.

    Raises
    ------
    DataError
        If it takes real CT and ``MEDLIB_REAL_CT`` names no folder with any.
    RunError
        If the folder holds a study with other settings: another budget, other data or device.
    """
    source = source or open_cohort(REAL)
    configured = partial(variant_config, steps=steps, has_scans=is_real(source))
    settings = {"steps": steps, "level": LEVEL, "real_ct_sha256": checksum(source),
                "config": configured(BASE, seed=0).model_dump(mode="json"),
                "device": describe(best_device())}  # fmt: skip
    _check_settings(folder, settings)
    vois = list(windows(source, "tune"))
    data: dict[str, OutlineData] = {}
    todo = [(name, seed) for seed in seeds for name in names or VARIANTS]
    for name, seed in progress.track(todo, "variants", total=len(todo)):
        table = folder / TABLE.format(seed=seed)
        done = pd.read_csv(table) if table.is_file() else pd.DataFrame(columns=["variant"])
        if (done["variant"] == name).any():
            continue
        config = configured(name, seed=seed)
        data = data or outline_data(source, None, config)
        rows = _judge(data, vois, config).assign(variant=name, seed=seed)
        write_file(table, pd.concat([done, rows], ignore_index=True).to_csv(index=False))
    return read_study(folder)


def quick_study(phantom: Cohort, seed: int = 0, steps: int = QUICK_STEPS) -> pd.DataFrame:
    """Make a study of the variants `QUICK` on the phantom alone, or find it: as `read_study`.

    The phantom's train nodules are learned from, its tune nodules judged on, cut out like
    real ones.
    """
    # Other threads round otherwise: what they made is not gone on with.
    device = describe(best_device())
    key = digest(checksum(phantom), code_key("medlib.baseline.training_mix"), str(steps), device)
    folder = RUNS / f"ablation-{phantom.folder.name}-{key[:12]}"
    made = study(steps, [seed], folder, phantom, QUICK)
    return made[made["seed"] == seed]


def read_study(folder: Path = FOLDER) -> pd.DataFrame:
    """Read what was judged so far.

    A row a variant, seed and volume: `variant`, `seed`, `seconds` and what `score_outline` gives.
    """
    return pd.concat(
        [pd.read_csv(table) for table in sorted(folder.glob(TABLE.format(seed="*")))],
        ignore_index=True,
    )


def _judge(data: Mapping[str, OutlineData], vois: list[Case], config: TrainConfig) -> pd.DataFrame:
    device = best_device()
    crops, tune_crops, _ = outline_crops(data, config)
    trained = train_on(crops, tune_crops, config, device)
    outliner = Model(trained.network.to(memory_format=torch.channels_last), config)
    rows = [
        score_outline(found, outline_window(outliner, found.volume) >= config.candidate_level)
        for found in vois
    ]
    return pd.DataFrame(rows).assign(seconds=round(trained.seconds, 1))


def _check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Store them where the study begins; refuse to go on with another study."""
    stored = folder / SETTINGS
    if not stored.is_file():
        if any(folder.glob(TABLE.format(seed="*"))):
            raise RunError(
                f"{folder} holds tables without {SETTINGS}: name another folder with --out"
            )
        write_json(stored, settings)
    before = json.loads(stored.read_bytes())
    if differ := [key for key, value in settings.items() if before.get(key) != value]:
        raise RunError(
            f"{folder} holds a study with another {' and '.join(differ)}: name another folder with "
            "--out, or delete this one"
        )


def summary(cases: pd.DataFrame) -> pd.DataFrame:
    """Average over seeds and patients, with what each variant is held against.

    Returns
    -------
    DataFrame
        A row a variant: `choice`, `variant`, `against`, `seeds`, `dice` and `difference` (both
        `Estimate`; the difference volume by volume, seeds averaged, resampled by patient),
        `spread` (largest minus smallest mean Dice of a seed), `missed`, `seconds`.
    """
    keys = ["variant", "voi_id", "patient_id"]
    by_voi = cases.groupby(keys, as_index=False)[["dice", "missed"]].mean()
    rows = []
    for name, (against, choice, _) in VARIANTS.items():
        own = by_voi[by_voi["variant"] == name]
        if own.empty:
            continue
        other = by_voi[by_voi["variant"] == against].set_index("voi_id")["dice"]
        own = own.assign(difference=own["dice"] - own["voi_id"].map(other))
        by_seed = cases[cases["variant"] == name].groupby("seed")
        means = by_seed["dice"].mean()
        same = Estimate(0.0, float("nan"), float("nan"), own["patient_id"].nunique())
        rows.append(
            {
                "choice": choice,
                "variant": name,
                "against": against,
                "seeds": len(means),
                "dice": bootstrap_mean(own, "dice"),
                "difference": same if name == against else bootstrap_mean(own, "difference"),
                "spread": float(means.max() - means.min()),
                "missed": float(own["missed"].mean()),
                "seconds": float(by_seed["seconds"].first().mean()),
            }
        )
    return pd.DataFrame(rows)
