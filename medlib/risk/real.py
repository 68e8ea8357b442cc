"""`medlib evaluate`: a run on real CT, volumes of interest or whole scans."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medlib import progress
from medlib.baseline.run import CARD, Run
from medlib.cohorts import nodule_volumes as voi
from medlib.cohorts import whole_scans as real_scans
from medlib.errors import DataError, RunError
from medlib.images.image_files import write_mask
from medlib.images.volume import Volume
from medlib.keys import code_key, digest
from medlib.paths import REFERENCE_RUNS
from medlib.risk import nodule_scores as voi_metrics
from medlib.risk import scan_scores as scan_metrics
from medlib.risk.bootstrap import in_words as estimate_in_words
from medlib.risk.evaluation import FOLDER, OPERATING_POINT, for_json
from medlib.scope import DISCLAIMER

METRICS_FILE, CASES, MASKS = "metrics.json", "cases", "masks"
SEEN_SPLITS = ("train", "tune")


@dataclass(frozen=True)
class Task:
    """One case to be scored: its name, its patient, and how to read and judge it."""

    name: str
    patient_id: str
    split: str  # of a LIDC patient, by the project's split
    inputs: str  # what the result rests on, for the key
    score: Callable[[], tuple[dict[str, Any], Volume, NDArray[Any]]]


def shipped_run() -> Path:
    """Return the reference run that comes with the project: the newest that saw real CT.

    Raises
    ------
    RunError
        If there is none.
    """
    complete = [
        folder
        for folder in sorted(REFERENCE_RUNS.glob("[!.]*"))  # a run that is being made has a dot
        if (folder / CARD).is_file() and (folder / FOLDER / OPERATING_POINT).is_file()
    ]
    if not complete:
        raise RunError(
            f"no reference run in {REFERENCE_RUNS.name}/: name a run folder with --run, or make "
            "one with: medlib train"
        )

    def rank(folder: Path) -> tuple[bool, str]:
        card = Run(folder).card
        return "real_ct" in card["data"], str(card["time"]["finished"])

    return max(complete, key=rank)


def evaluate(
    data: Path,
    out: Path,
    run_dir: Path | None = None,
    *,
    save_masks: bool = False,
    only_unseen: bool = False,
) -> dict[str, Any]:
    """Evaluate a run on a folder of real CT.

    Parameters
    ----------
    data : Path
        With ``lidc_voi.csv`` and the volumes of interest that it names, or with ``cases.csv`` and
        a folder for each whole scan.
    out : Path
        Gets ``metrics.json`` (each case, and a summary with patient-level intervals) and
        ``cases/``, a file for each case that is done: a run that was cut off goes on from there.
    run_dir : Path, optional
        Run folder of the model; by default the reference run that comes with the project.
    save_masks : bool
        Write ``masks/<case>_pred.nii.gz`` too, each on the grid of its case.
    only_unseen : bool
        Leave out the patients that the run was trained or tuned on.

    Returns
    -------
    dict
        What ``metrics.json`` holds. Patients that the run was trained or tuned on are summarised
        apart from those that it has never seen.

    Raises
    ------
    DataError, InputError
        If the data cannot be read.
    RunError
        If there is no run, or it was never evaluated.
    """
    kinds = [
        kind
        for kind, table in (("voi", voi.TABLE), ("scan", real_scans.TABLE))
        if (data / table).is_file()
    ]
    if len(kinds) != 1:
        raise DataError(
            f"{data}: expected a folder with {voi.TABLE} (volumes of interest) or "
            f"{real_scans.TABLE} (whole scans), found {'both' if kinds else 'neither'}"
        )
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file; name a folder for the results")
    run = Run((run_dir or shipped_run()).resolve())
    if not (run.folder / CARD).is_file():
        raise RunError(f"{run.folder}: not a run folder (it has no {CARD}); make one: medlib train")
    tasks, metrics = (_voi_tasks if kinds[0] == "voi" else _scan_tasks)(data, run)
    seen = _seen(tasks, run)
    if only_unseen:
        tasks = [task for task in tasks if task.name not in seen]
    key = digest(
        run.model_key(),
        code_key("medlib.risk.real"),
    )
    rows = []
    for task in progress.track(tasks, f"{data.name} with {run.folder.name}", total=len(tasks)):
        row = _scored(task, out, digest(key, task.inputs), save_masks)
        rows.append({**row, "patient_id": task.patient_id, "seen_by_the_run": task.name in seen})
    cases = pd.DataFrame(rows)
    content = {
        "run": run.folder.name,
        "weights_sha256": run.weights_sha256(),
        "kind": "volumes of interest" if kinds[0] == "voi" else "whole scans",
        "reference": voi_metrics.REFERENCE if kinds[0] == "voi" else "outline or boxes",
        "metrics": {name: words for name, (_, words) in metrics.METRICS.items()},
        "summary": {
            part: _summary(cases[cases["seen_by_the_run"] == is_seen], metrics)
            for part, is_seen in (("held_out", False), ("seen_by_the_run", True))
        },
        "cases": [{name: _for_json(value) for name, value in row.items()} for row in rows],
        "note": DISCLAIMER,
    }
    _write(out / METRICS_FILE, content)
    return content


def _seen(tasks: list[Task], run: Run) -> set[str]:
    """Name the cases of patients that the run was trained or tuned on.

    For a run that saw real CT these are all of the split's train and tune part: one whose nodules
    were left out of the training may still have had a say in a choice.
    """
    data = run.card["data"]
    patients = {p for split in SEEN_SPLITS for p in data["patients"].get(split, [])}
    by_split = SEEN_SPLITS if "real_ct" in data else ()
    return {
        task.name
        for task in tasks
        if {task.name, task.patient_id} & patients or task.split in by_split
    }


def in_words(content: dict[str, Any]) -> Iterator[str]:
    """Yield the summary of an evaluation, a line a figure."""
    for part, found in content["summary"].items():
        yield f"{part.replace('_', ' ')}: {found['n_cases']} {content['kind']}"
        for name, words in content["metrics"].items() if found["n_cases"] else ():
            yield f"  {words}: {estimate_in_words(found[name])}"


def _voi_tasks(data: Path, run: Run) -> tuple[list[Task], Any]:
    # Torch takes seconds to import.
    from medlib.baseline.inference import predict_volume
    from medlib.baseline.network_passes import Model, predict_window
    from medlib.baseline.outline import outline_window

    table = voi.open_table(data)
    network, config, outliner = run.load_network(), run.config, run.load_outliner()
    operating_point = _operating_point(run)

    def score(row: pd.Series) -> tuple[dict[str, Any], Volume, NDArray[Any]]:
        found = voi.read_case(data, row)
        start = time.perf_counter()
        hu, spacing_mm = found.volume.hu, found.volume.spacing_mm
        if outliner is None:
            marked = (
                predict_window(Model(network, config), hu, spacing_mm) >= config.candidate_level
            )
        else:
            marked = outline_window(outliner, found.volume) >= outliner.config.candidate_level
        seconds = time.perf_counter() - start
        scores = voi_metrics.score_voi(found, marked)
        searched = predict_volume(network, config, found.volume, outliner=outliner, is_window=True)
        best = voi_metrics.search_score(found, searched)
        scores["search_score"] = best
        is_reported = best > 0 and best >= operating_point  # 0: no candidate, at any point
        scores["not_reported"] = math.nan if math.isnan(best) else float(not is_reported)
        alarms = voi_metrics.search_alarm_scores(found, searched)
        scores["search_alarm_scores"] = alarms
        has_others = bool(row.get("other_annotations_in_voi", 0))  # not in the readers' file
        n_alarms = sum(alarm >= operating_point for alarm in alarms)
        scores["search_alarms"] = math.nan if has_others else float(n_alarms)
        scores["volume_ml"] = found.volume.hu.size * found.volume.voxel_volume_mm3 / 1000
        return {**scores, "split": row["split"], "seconds": seconds}, found.volume, marked

    return [
        Task(
            row["voi_id"],
            row["patient_id"],
            row["split"],
            row.to_json() + str(operating_point) + "".join(voi.fingerprint(data, row)),
            partial(score, row),
        )
        for _, row in table.iterrows()
    ], voi_metrics


def _scan_tasks(data: Path, run: Run) -> tuple[list[Task], Any]:
    from medlib.baseline.inference import predict_volume

    table = real_scans.open_table(data)
    network, config, outliner = run.load_network(), run.config, run.load_outliner()
    operating_point = _operating_point(run)

    def score(row: pd.Series) -> tuple[dict[str, Any], Volume, NDArray[Any]]:
        scan = real_scans.read_case(data, row)
        start = time.perf_counter()
        found = predict_volume(network, config, scan.volume, outliner=outliner)
        seconds = time.perf_counter() - start
        scores = scan_metrics.score_scan(scan, found, operating_point)
        kept = found.candidates.loc[found.candidates["score"] >= operating_point, "candidate_id"]
        mask = np.where(np.isin(found.labels, kept), found.labels, 0)
        return {**scores, "seconds": seconds}, scan.volume, mask

    return [
        Task(
            row["case"],
            row["patient_id"],
            "",  # one may be left out of the run: who was seen, its card says
            row.to_json() + str(operating_point) + "".join(real_scans.fingerprint(data, row)),
            partial(score, row),
        )
        for _, row in table.iterrows()
    ], scan_metrics


def _operating_point(run: Run) -> float:
    path = run.folder / FOLDER / OPERATING_POINT
    if not path.is_file():
        raise RunError(f"{run.folder}: the run was never evaluated; make one with: medlib train")
    return float(json.loads(path.read_bytes())["network"])


def _scored(task: Task, out: Path, key: str, save_masks: bool) -> dict[str, Any]:
    """Take the score of a case from an earlier, interrupted evaluation, or make it."""
    stored, mask_file = out / CASES / f"{task.name}.json", out / MASKS / f"{task.name}_pred.nii.gz"
    if stored.is_file() and (mask_file.is_file() or not save_masks):
        content = json.loads(stored.read_bytes())
        if content["key"] == key:
            row: dict[str, Any] = content["score"]
            return {name: math.nan if value is None else value for name, value in row.items()}
    row, volume, mask = task.score()
    with _writing(out):
        for old in (stored, mask_file):  # of another run; cut off, neither may stay alone
            old.unlink(missing_ok=True)
        if save_masks:
            mask_file.parent.mkdir(parents=True, exist_ok=True)
            write_mask(mask, volume, mask_file)
    score = {name: _for_json(value) for name, value in row.items()}
    _write(stored, {"key": key, "score": score})
    return row


def _summary(cases: pd.DataFrame, metrics: Any) -> dict[str, Any]:
    if cases.empty:
        return {"n_cases": 0}
    parts: dict[str, Any] = {
        "n_cases": len(cases),
        "n_patients": int(cases["patient_id"].nunique()),
        **_estimates(metrics.summarise(cases)),
    }
    if "diameter_mm" in cases:
        parts["by_size"] = [
            {name: _for_json(value) for name, value in row.items()}
            for row in voi_metrics.by_size(cases)
        ]
        parts["by_split"] = {
            str(split): {"n_cases": len(group), **_estimates(metrics.summarise(group))}
            for split, group in cases[cases["split"] != ""].groupby("split")
        }
    return parts


def _estimates(found: dict[str, Any]) -> dict[str, Any]:
    return {name: for_json(estimate) for name, estimate in found.items()}


def _for_json(value: Any) -> Any:
    """Undefined is null."""
    return None if isinstance(value, float) and math.isnan(value) else value


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder}: cannot write here ({error.strerror}); choose another --out"
        ) from error


def _write(path: Path, content: object) -> None:
    """Write JSON beside its place, then rename."""
    with _writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        beside.replace(path)
