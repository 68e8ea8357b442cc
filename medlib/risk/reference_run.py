"""The reference run: trained on real CT, chosen on the tune part, judged on patients never seen.

Made by one command, ``medlib train --profile lidc --dataset lidc-voi``; killed, it goes on from its
last look at the tune part. Two networks are trained: one searches whole scans, the other outlines
what is found. The folder is a run like any other, the second network a run inside it, with more
evidence: metrics of each held-out volume of interest and whole scan, a failure report and a model
card.

With ``--dataset phantom`` the phantom takes the place of real CT in training and in every choice,
and real patients test what came of it: how much worse it is bounds what the phantom does not show.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import nn

from medlib import progress
from medlib.annotation.reference import more_than_half
from medlib.baseline import processes
from medlib.baseline.card import evidence_card, now
from medlib.baseline.config import OUTLINE_PROFILE, TrainConfig, is_pair, train_config
from medlib.baseline.device import best_device
from medlib.baseline.inference import predict_volume
from medlib.baseline.network import save_weights
from medlib.baseline.network_passes import Model
from medlib.baseline.outline import outline_window
from medlib.baseline.run import CARD, CONFIG, HISTORY, OUTLINER, WEIGHTS, Run
from medlib.baseline.train import Trained, train_on
from medlib.baseline.training_mix import (
    Mix,
    outline_crops,
    outline_data,
    phantom_share,
    search_crops,
)
from medlib.baseline.training_sources import (
    check_scans,
    checksum,
    described,
    is_real,
    leave_out,
    outline_givers,
    windows,
)
from medlib.cohorts.cohort import PHANTOM, REAL, REAL_PARTS, Cohort, cohort_key, open_cohort
from medlib.cohorts.project_split import SPLIT
from medlib.errors import OverlapError, RunError
from medlib.keys import code_key, digest
from medlib.paths import BUILD
from medlib.risk.evaluation import (
    FOLDER,
    HELD_OUT,
    METRICS_FILE,
    OPERATING_POINT,
    REAL_SCANS,
    REAL_VOIS,
    for_json,
)
from medlib.risk.luna16 import LUNA16, OWN, luna16
from medlib.risk.matching import concatenate, match_case
from medlib.risk.metrics import METRICS, at_operating_point, estimate, select
from medlib.risk.nodule_scores import search_score
from medlib.risk.operating_point import SENSITIVITY_RULE, choose_for_sensitivity
from medlib.risk.real import evaluate
from medlib.risk.voxel import dice

LEVELS = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65)


def make_reference_run(
    profile: str,
    seed: int,
    folder: Path,
    left_out: str | None = None,
    dataset: str = REAL,
) -> Run:
    """Train on real CT and on the phantom, or on the phantom alone, then judge the result.

    Parameters
    ----------
    profile : str
        A name in `medlib.baseline.config.PROFILES` that draws from real CT.
    seed : int
    folder : Path
        Of the run; it must not exist yet.
    left_out : str, optional
        A whole scan that training would see, kept for testing.
    dataset : str
        ``"lidc-voi"``, the folder that ``MEDLIB_REAL_CT`` names, or ``"phantom"``, which takes its
        place in training; the real CT then tests.

    Returns
    -------
    Run

    Raises
    ------
    RunError
        If the folder exists, or the profile is not one of a run on real CT.
    DataError
        If the real CT or a scan to train on is not there, or no such scan can be left out.
    OverlapError
        If a patient would stand in train and in tune, or has given outlines to both.
    """
    if folder.exists():
        raise RunError(f"{folder} exists: delete it to make the run again, or name another folder")
    config = train_config(profile, seed)
    if not is_pair(profile):
        raise RunError(f"profile '{profile}' makes no run on real CT: use the profile 'lidc'")
    outline_config = train_config(OUTLINE_PROFILE.format(profile=profile), seed)
    real = open_cohort(REAL)
    if left_out is not None:
        real = leave_out(real, left_out)
    phantom = open_cohort(PHANTOM, config.cohort, seed)
    source = phantom if dataset == PHANTOM else real
    if source is real:
        check_scans(real)
    parts = source.table[["case_id", "split"]].to_json()  # one may be left out
    inputs = digest(
        checksum(source), SPLIT.read_text(), parts, cohort_key(phantom),
        code_key("medlib.baseline.training_mix"),
    )  # fmt: skip
    givers = {part: outline_givers(source, part) for part in ("train", "tune")}
    if both := givers["train"] & givers["tune"]:
        raise OverlapError(f"{min(both)} gave outlines to train and to tune patients")
    search = _trained(config, search_crops(source, phantom, config), givers, inputs, folder)
    synthetic = phantom if dataset == PHANTOM or phantom_share(outline_config) else None
    outline_parts = outline_crops(outline_data(source, synthetic, outline_config), outline_config)
    outlines = _trained(outline_config, outline_parts, givers, inputs, folder)
    if processes.rank():
        raise SystemExit(0)  # the first process judges and writes
    told = f"--dataset {dataset}{f' --leave-out {left_out}' if left_out else ''}"
    run = finish(search, outlines, source, real, phantom, folder, told)
    shutil.rmtree(BUILD / "checkpoints" / folder.name)
    return run


class Part(NamedTuple):
    """One of the two networks: what it was asked to be, what it became, and from whom."""

    config: TrainConfig
    trained: Trained
    patients: dict[str, list[str]]


def _trained(
    config: TrainConfig,
    crops: Mix,
    givers: Mapping[str, set[str]],
    inputs: str,
    folder: Path,
) -> Part:
    """Train one network, or go on with its training if nothing that it rests on has changed."""
    key = digest(config.model_dump_json(), inputs)
    checkpoints = BUILD / "checkpoints" / folder.name / f"{config.profile}-{key[:12]}"
    checkpoints.mkdir(parents=True, exist_ok=True)
    train, tune, shown = crops
    # Who gave the outlines of what is shown is no test either.
    patients = {part: sorted({*names, *givers[part]}) for part, names in shown.items()}
    return Part(config, train_on(train, tune, config, best_device(), checkpoints), patients)


def finish(
    search: Part,
    outlines: Part,
    source: Cohort,
    real: Cohort,
    phantom: Cohort,
    folder: Path,
    told: str,
) -> Run:
    """Choose level and operating point on the tune part, judge, and write the run folder."""
    patients = {
        split: sorted({*search.patients[split], *outlines.patients[split]})
        for split in search.patients
    }
    beside = folder.parent / f".{folder.name}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    (beside / FOLDER).mkdir(parents=True)
    try:
        told_of, of_patients = described(source), is_real(source)
        learned_from = told_of | {
            "cohort": f"{told_of['cohort']}, {phantom.folder.name}",
            "phantom": phantom.folder.name,
        }
        # Chosen with the networks as they are shipped, in half precision: the operating point is
        # the score of one nodule.
        _write_part(beside / OUTLINER, outlines, phantom)
        shipped = Run(beside / OUTLINER).load_network()
        level, by_level = choose_level(shipped, outlines.config, source)
        outlines = outlines._replace(
            config=outlines.config.model_copy(update={"candidate_level": level})
        )
        inner = _write_part(beside / OUTLINER, outlines, phantom)
        for absent in ("predictions", "evaluation"):
            del inner["artifacts"][absent]
        if phantom_share(outlines.config):
            inner["data"] |= learned_from
        else:
            inner["data"] = {"patients": outlines.patients, **told_of}
        _write(beside / OUTLINER / CARD, inner)
        card = _write_part(beside, search._replace(patients=patients), phantom)
        run = Run(beside)
        network = run.load_network()
        operating_point = choose_operating_point_on_nodules(
            network, run.config, Model(shipped, outlines.config), source
        )
        card["data"] |= learned_from
        if not of_patients:
            card["data"]["tested_on"] = described(real)["real_ct"]
        card["data"]["outlines_saw_the_phantom"] = phantom_share(outlines.config) > 0
        card["metric"] |= {
            "candidate_level": level,
            "candidate_level_rule": "highest mean 3D Dice on the tune volumes of interest",
            "tune_dice_by_level": by_level,
            "operating_point_rule": SENSITIVITY_RULE,
        }
        card["artifacts"] |= {
            WEIGHTS: "the network that searches, half precision",
            OUTLINER: "the network that outlines: weights, configuration, curves and card",
            "evaluation": f"{REAL_VOIS}, {REAL_SCANS}: held-out real CT; the others: the phantom",
        }
        if of_patients:
            card["artifacts"]["MODEL_CARD.md"] = "intended use, training data, limits, failures"
        card["expected_output"] = (
            f"this folder; medlib train --profile {search.config.profile} --seed "
            f"{search.config.seed} {told} --run-dir DIR makes it again"
        )
        del card["artifacts"]["predictions"]  # not kept
        _write(beside / CARD, card)
        _write(beside / FOLDER / OPERATING_POINT, {"network": operating_point})
        _judge_on_phantom(run, network, phantom, operating_point)
        for name, part in zip((REAL_VOIS, REAL_SCANS), REAL_PARTS, strict=True):
            found = evaluate(
                real.folder / part, beside / ".work" / part, beside, only_unseen=name == REAL_VOIS
            )
            _write(beside / FOLDER / name, {**found, "run": folder.name})
        shutil.rmtree(beside / ".work")
        card["time"]["judged"] = now()
        _write(beside / CARD, card)
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Run(folder)


def _write_part(folder: Path, part: Part, phantom: Cohort) -> dict[str, Any]:
    """Write what every run has: configuration, weights, curves and the evidence card."""
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_text(part.config.model_dump_json(indent=2) + "\n")
    save_weights(part.trained.network, folder / WEIGHTS)
    part.trained.history.to_csv(folder / HISTORY, index=False)
    sha256 = Run(folder).weights_sha256()
    card = evidence_card(part.config, phantom, part.patients, part.trained, best_device(), sha256)
    _write(folder / CARD, card)
    return card


def choose_level(
    network: nn.Module, config: TrainConfig, source: Cohort
) -> tuple[float, dict[str, float]]:
    """Choose the probability from which a voxel is marked: best mean Dice on the tune part.

    Parameters
    ----------
    network, config
        Of the close look.
    source : Cohort

    Returns
    -------
    level : float
    by_level : dict
        The mean Dice at each level.
    """
    outliners = [
        Model(network, config.model_copy(update={"candidate_level": level})) for level in LEVELS
    ]
    rows = []
    for found in windows(source, "tune"):
        reference = more_than_half(found.drawn_masks())
        rows.append(
            [
                dice(reference, outline_window(outliner, found.volume) >= level)
                for outliner, level in zip(outliners, LEVELS, strict=True)
            ]
        )
    mean = np.nanmean(np.array(rows), axis=0)
    by_level = {f"{level:g}": round(float(d), 4) for level, d in zip(LEVELS, mean, strict=True)}
    return float(LEVELS[int(mean.argmax())]), by_level


def choose_operating_point_on_nodules(
    network: nn.Module, config: TrainConfig, outliner: Model, source: Cohort
) -> float:
    """Choose the lowest score that is reported, by `SENSITIVITY_RULE`: the miss comes first.

    Real scans are too few to count false alarms on, and what alarms in the phantom is not what
    alarms in patients.
    """
    predict = partial(predict_volume, network, config, outliner=outliner, is_window=True)
    nodules = pd.DataFrame(
        [
            (found.patient_id, found.split, search_score(found, predict(found.volume)))
            for found in windows(source, "tune")
        ],
        columns=["patient_id", "split", "best_score"],
    )
    return choose_for_sensitivity(nodules.dropna(subset="best_score"))


def _judge_on_phantom(run: Run, network: nn.Module, phantom: Cohort, threshold: float) -> None:
    """Judge held-out phantom scans."""
    n_cases = int(phantom.table["split"].isin(HELD_OUT).sum())
    cases = (case for split in HELD_OUT for case in phantom.cases(split))
    predict = partial(predict_volume, network, run.config, outliner=run.load_outliner())
    matched = concatenate(
        [
            match_case(case, predict(case.volume))
            for case in progress.track(cases, "phantom scans", total=n_cases)
        ]
    )
    judged = at_operating_point(matched, threshold)
    for name in ("lesions", "candidates", "cases"):
        getattr(judged, name).to_csv(run.folder / FOLDER / f"network-{name}.csv", index=False)
    metrics = {
        part: {name: for_json(estimate(name, select(judged, split=part))) for name in METRICS}
        for part in HELD_OUT
    }
    by_distance = {
        name: {
            part: {
                point: for_json(found)
                for point, found in luna16(select(matched, split=part), required).items()
            }
            for part in HELD_OUT
        }
        for name, required in (("luna16", LUNA16), ("luna16_own", OWN))
    }
    _write(run.folder / FOLDER / METRICS_FILE, {"network": metrics, **by_distance})


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
