"""A run with its evaluation: found where it was made from the same inputs, made where not.

A run of one network is judged with the methods that it has to beat, each at an operating point
chosen on the tune part of its cohort. A run of two, a search and a close look, is chosen on nodules
of the tune part and judged on phantom scans and on real CT that it has never seen.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from medlib.baseline import processes
from medlib.baseline.card import now
from medlib.baseline.make_run import find_or_make_run, open_data, order
from medlib.baseline.network_passes import Model
from medlib.baseline.run import CARD, CONFIG, OUTLINER, Run
from medlib.baseline.stored_predictions import METHODS, predictor, stored_predictor
from medlib.baseline.training_sources import described, is_real, windows
from medlib.cohorts.cohort import REAL, Cohort, cohort_key, open_cohort
from medlib.cohorts.splits import check_disjoint
from medlib.errors import RunError
from medlib.files import lock_on, put_in_place, write_file, write_json
from medlib.keys import code_key, digest
from medlib.parallel import in_order
from medlib.parameters import Seed, checked
from medlib.risk import evaluation_files as files
from medlib.risk.evaluation import evaluate
from medlib.risk.evaluation_files import HELD_OUT, TABLES, Evaluation, read_evaluation
from medlib.risk.judging import Predict, judge, judge_cohort
from medlib.risk.luna16 import LUNA16, OWN, luna16
from medlib.risk.matching import Matching
from medlib.risk.metrics import METRICS, at_operating_point, estimate, select
from medlib.risk.operating_point import SENSITIVITY_RULE, choose_operating_point
from medlib.risk.tune_choices import choose_level, choose_operating_point_on_nodules

JUDGED = ".judged"  # in the run folder while it is being evaluated


@checked
def evaluated_run(
    profile: str = "quick",
    dataset: str | Path | None = None,
    seed: Seed = 0,
    run_dir: str | Path | None = None,
    changes: Sequence[str] = (),
    left_out: str | None = None,
) -> Evaluation:
    """Return a run with its evaluation; make what there is not. Prints which it was.

    Takes and raises what `find_or_make_run` does. In a training of several processes, the first
    alone evaluates, and the others end here.
    """
    wanted = order(profile, dataset, seed, changes, left_out)
    real = open_cohort(REAL) if wanted.is_pair else None
    run = find_or_make_run(profile, dataset, seed, run_dir, changes, left_out)
    if processes.rank():
        raise SystemExit(0)
    learned_from, cohort = open_data(wanted)
    check_disjoint(cohort.table)
    done = "found"
    if not _is_evaluated(run, cohort, real):
        with lock_on(run.folder):  # what stands is read without
            run = _as_it_is_now(run)
            if not _is_evaluated(run, cohort, real):
                run, done = _evaluate(run, learned_from, cohort, real), "made"
    print(f"{done} the evaluation of {run.folder.name}")
    return read_evaluation(run, cohort)


def _as_it_is_now(run: Run) -> Run:
    """Read a run again: while this process waited, another may have evaluated it, or made it."""
    again = Run(run.folder)
    if again.card["keys"] != run.card["keys"]:
        raise RunError(f"{run.folder} was made again from other inputs meanwhile: ask once more")
    return again


def _is_evaluated(run: Run, cohort: Cohort, real: Cohort | None) -> bool:
    stored = run.folder / files.FOLDER / files.KEY
    return stored.is_file() and stored.read_text(encoding="utf-8") == _key(run, cohort, real)


def _evaluate(run: Run, learned_from: Cohort, cohort: Cohort, real: Cohort | None) -> Run:
    if real is not None:
        run = _with_level(run, learned_from)
    with put_in_place(run.folder / files.FOLDER) as beside:
        beside.mkdir()
        if real is None:
            _evaluate_methods(run, cohort, beside)
        else:
            _evaluate_pair(run, learned_from, cohort, real, beside)
        write_file(beside / files.KEY, _key(run, cohort, real))
    shutil.rmtree(run.folder / JUDGED)
    return run


def _key(run: Run, cohort: Cohort, real: Cohort | None) -> str:
    """Return the digest of all that an evaluation rests on: weights, cohorts and code."""
    cohorts = [cohort] if real is None else [cohort, real]
    return digest(
        run.model_key(), *map(cohort_key, cohorts), code_key("medlib.risk.run_evaluation")
    )


def _evaluate_methods(run: Run, cohort: Cohort, folder: Path) -> None:
    """Judge each method at the operating point that it has on the tune part."""
    thresholds, metrics = {}, {}
    for method in METHODS:
        see = stored_predictor(run, cohort, method)
        matched = _judged(run, cohort, ("tune", *HELD_OUT), method, see)
        tune = select(matched, split="tune")
        thresholds[method] = choose_operating_point(tune.cases, tune.candidates)
        metrics[method] = _write_tables(matched, thresholds[method], method, folder)
    write_json(folder / files.OPERATING_POINT, thresholds)
    write_json(folder / files.METRICS_FILE, metrics)


def _judged(run: Run, cohort: Cohort, splits: Sequence[str], method: str, see: Predict) -> Matching:
    table = pd.concat([cohort.table[cohort.table["split"] == split] for split in splits])
    code = code_key("medlib.risk.judging", "medlib.baseline.stored_predictions")
    found = judge_cohort(
        replace(cohort, table=table),
        lambda case: judge(case, see).tables,
        run.folder / JUDGED / method,
        digest(run.model_key(), method, code),
        f"{cohort.name}, {method}",
        in_order,
    )
    return replace(found, cases=found.cases.drop(columns="seconds"))


def _write_tables(matched: Matching, threshold: float, method: str, folder: Path) -> dict[str, Any]:
    """Write the three tables at an operating point; return the metrics of the held-out parts."""
    judged = at_operating_point(matched, threshold)
    for name in TABLES:
        getattr(judged, name).to_csv(folder / f"{method}-{name}.csv", index=False)
    return {
        part: {name: vars(estimate(name, select(judged, split=part))) for name in METRICS}
        for part in HELD_OUT
    }


def _with_level(run: Run, learned_from: Cohort) -> Run:
    """Choose from which probability the close look marks a voxel, and note it in the run."""
    inner = Run(run.folder / OUTLINER)
    outliner = Model(inner.load_network(), inner.config)
    level, by_level = choose_level(outliner, windows(learned_from, "tune"))
    config = inner.config.model_copy(update={"candidate_level": level})
    write_file(inner.folder / CONFIG, config.model_dump_json(indent=2) + "\n")
    metric = run.card["metric"] | {
        "candidate_level": level,
        "candidate_level_rule": "highest mean 3D Dice on the tune volumes of interest",
        "tune_dice_by_level": by_level,
    }
    write_json(run.folder / CARD, {**run.card, "metric": metric})
    return Run(run.folder)


def _evaluate_pair(
    run: Run, learned_from: Cohort, phantom: Cohort, real: Cohort, folder: Path
) -> None:
    """Choose the operating point on tune nodules; judge held-out phantom scans and real CT."""
    see = predictor(run)
    threshold = choose_operating_point_on_nodules(see, windows(learned_from, "tune"))
    write_json(folder / files.OPERATING_POINT, {"network": threshold})
    matched = _judged(run, phantom, HELD_OUT, "network", see)
    metrics = {"network": _write_tables(matched, threshold, "network", folder)}
    for name, required in (("luna16", LUNA16), ("luna16_own", OWN)):
        metrics[name] = {}
        for split in HELD_OUT:
            found_at = luna16(select(matched, split=split), required)
            metrics[name][split] = {point: vars(found) for point, found in found_at.items()}
    write_json(folder / files.METRICS_FILE, metrics)
    of_windows = real.table["is_window"].astype(bool)
    for name, rows in ((files.REAL_VOIS, of_windows), (files.REAL_SCANS, ~of_windows)):
        part, store = replace(real, table=real.table[rows]), run.folder / JUDGED / name
        [found] = evaluate(run, part, threshold, store, only_unseen=name == files.REAL_VOIS)
        write_json(folder / name, found)
    card = run.card
    card["metric"]["operating_point_rule"] = SENSITIVITY_RULE
    if not is_real(learned_from):
        card["data"]["tested_on"] = described(real)["real_ct"]
    card["time"]["judged"] = now()
    write_json(run.folder / CARD, card)
