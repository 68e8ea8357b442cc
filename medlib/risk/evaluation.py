"""`medlib evaluate`: a run held against what is known of the cases of any cohort."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medlib.annotation.case import Case
from medlib.annotation.drawings import Author
from medlib.baseline.network_passes import Model, predict_window
from medlib.baseline.outline import outline_window
from medlib.baseline.run import CARD, Run
from medlib.baseline.stored_predictions import predictor
from medlib.cohorts.cohort import Cohort, open_cohort
from medlib.cohorts.project_split import lidc_patients
from medlib.errors import DataError, RunError
from medlib.files import write_json
from medlib.images.image_files import DESCRIPTION_BYTES, write_mask
from medlib.keys import code_key, digest
from medlib.risk.case_figures import SCANS, WINDOWS, Figures, summary
from medlib.risk.evaluation_files import METRICS_FILE, operating_point, shipped_run
from medlib.risk.intervals import in_words as estimate_in_words
from medlib.risk.judging import Draw, judge, judge_cohort
from medlib.risk.matching import Matching
from medlib.risk.metrics import select
from medlib.scope import DISCLAIMER

CASES, MASKS = "cases", "masks"
SEEN_SPLITS = ("train", "tune")


def evaluate_dataset(
    dataset: str, out: Path, run_dir: Path | None = None, *, save_masks: bool = False
) -> list[dict[str, Any]]:
    """Evaluate a run, by default the shipped one, on what `open_cohort` opens.

    `out` gets ``metrics.json``: each case, and a summary with patient-level intervals; of each
    kind, where the cohort holds windows and whole scans. Besides ``cases/``, see `judge_cohort`,
    and ``masks/<case>_pred.nii.gz`` if wanted, each on the grid of its case.

    DataError, InputError or RunError where data or run cannot be read, or nothing be written.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file; name a folder for the results")
    run = Run((run_dir or shipped_run()).resolve())
    if not (run.folder / CARD).is_file():
        raise RunError(f"{run.folder}: not a run folder (it has no {CARD}); make one: medlib train")
    threshold = operating_point(run)
    cohort = open_cohort(dataset, run.config.cohort, run.config.seed)
    try:
        found = evaluate(run, cohort, threshold, out, save_masks=save_masks)
        write_json(out / METRICS_FILE, found[0] if len(found) == 1 else found)
    except OSError as error:
        if not str(error.filename).startswith(str(out)):
            raise
        raise DataError(
            f"{out}: cannot write here ({error.strerror}); choose another --out"
        ) from error
    return found


def evaluate(
    run: Run,
    cohort: Cohort,
    threshold: float,
    out: Path,
    *,
    save_masks: bool = False,
    only_unseen: bool = False,
) -> list[dict[str, Any]]:
    """Judge every case at an operating point and sum up, windows and whole scans apart.

    Patients that the run was trained or tuned on are summarised apart from those that it has never
    seen; with `only_unseen` they are left out.
    """
    table = cohort.table.assign(seen_by_the_run=seen_by(run, cohort.table))
    if only_unseen:
        table = table[~table["seen_by_the_run"]]
    see, draw = predictor(run), _draw(run)
    author = Author("algorithm", f"run {run.folder.name}", weights_sha256=run.weights_sha256())
    drawn_by = author.brief(DESCRIPTION_BYTES)

    def rows_of(case: Case) -> Matching:
        tables, marked = judge(case, see, draw)
        file = out / MASKS / f"{case.case_id}_pred.nii.gz"
        file.unlink(missing_ok=True)  # of another run
        if save_masks:
            if not case.is_window:
                is_shown = tables.candidates["score"] >= threshold
                shown = tables.candidates.loc[is_shown, "candidate_id"]
                marked = np.where(np.isin(marked, shown), marked, 0)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_mask(marked, case.volume, file, drawn_by)
        return tables

    key = digest(
        run.model_key(), str(threshold), str(save_masks), code_key("medlib.risk.evaluation")
    )
    what = f"{cohort.name} with {run.folder.name}"
    judged = judge_cohort(replace(cohort, table=table), rows_of, out / CASES, key, what)
    known = table.set_index("case_id")[["label_kind", "is_window", "seen_by_the_run"]]
    cases = judged.cases.join(known, on="case_id")
    return [
        _content(run, figures, replace(judged, cases=part), threshold)
        for figures in (WINDOWS, SCANS)
        if len(part := cases[cases["is_window"] == (figures is WINDOWS)])
    ]


def _draw(run: Run) -> Draw:
    """Return what marks the lesion in the middle of a window: the close look, or the search."""
    outliner = run.load_outliner()
    if outliner is not None:
        return lambda case: outline_window(outliner, case.volume) >= outliner.config.candidate_level
    search = Model(run.load_network(), run.config)
    return lambda case: (
        predict_window(search, case.volume.hu, case.volume.spacing_mm)
        >= search.config.candidate_level
    )


def seen_by(run: Run, table: pd.DataFrame) -> pd.Series:
    """Say of which cases a run was trained or tuned on the patient.

    For a run that saw real CT these are all LIDC-IDRI patients of the train and the tune part: one
    whose nodules were left out of the training may still have had a say in a choice.
    """
    data = run.card["data"]
    patients = {p for split in SEEN_SPLITS for p in data["patients"].get(split, [])}
    if "real_ct" in data:
        patients |= {p for split in SEEN_SPLITS for p in lidc_patients(split)}
    return table["case_id"].isin(patients) | table["patient_id"].isin(patients)


def _content(run: Run, figures: Figures, judged: Matching, threshold: float) -> dict[str, Any]:
    rows = []
    for _, case in judged.cases.iterrows():
        row = figures.row(case, select(judged, case_id=case["case_id"]), threshold)
        rows.append({**row, "seen_by_the_run": bool(case["seen_by_the_run"])})
    cases = pd.DataFrame(rows)
    return {
        "run": run.folder.name,
        "weights_sha256": run.weights_sha256(),
        "kind": figures.kind,
        "reference": figures.reference,
        "metrics": {name: words for name, (_, words) in figures.metrics.items()},
        "summary": {
            part: summary(cases[cases["seen_by_the_run"] == is_seen], figures)
            for part, is_seen in (("held_out", False), ("seen_by_the_run", True))
        },
        "cases": rows,
        "note": DISCLAIMER,
    }


def in_words(content: dict[str, Any]) -> Iterator[str]:
    """Yield the summary of an evaluation, a line a figure."""
    for part, found in content["summary"].items():
        yield f"{part.replace('_', ' ')}: {found['n_cases']} {content['kind']}"
        for name, words in content["metrics"].items() if found["n_cases"] else ():
            yield f"  {words}: {estimate_in_words(found[name])}"
