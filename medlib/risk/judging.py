"""The one way from a case to its rows: predict, match, and of a window judge the outline too.

What is done is kept case by case, so that whoever was cut off goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medlib import progress
from medlib.annotation.case import Case
from medlib.baseline.candidates import Prediction
from medlib.cohorts.cohort import Cohort, cohort_key
from medlib.files import write_json
from medlib.images.lungs import lung_field
from medlib.keys import digest
from medlib.risk.evaluation_files import TABLES, read_rows
from medlib.risk.matching import Matching, concatenate, match_case
from medlib.risk.outline_scores import score_outline

Predict = Callable[[Case], Prediction]
Draw = Callable[[Case], NDArray[np.bool_]]


class Judged(NamedTuple):
    """The rows of one case, and what was marked in it: in a window the mask, else candidates."""

    tables: Matching
    marked: NDArray[Any]


def judge(case: Case, predict: Predict, draw: Draw | None = None) -> Judged:
    """Judge what a method sees in a case, by what the case is; see `match_case`.

    Of a window the cases also hold `score_outline` of what is drawn there, of an outlined scan the
    share of the lesion in the lung field.
    """
    start = time.perf_counter()
    found = predict(case)
    known: dict[str, Any] = {"seconds": time.perf_counter() - start}
    marked: NDArray[Any] = found.labels
    if case.is_window and draw:
        start = time.perf_counter()
        marked = draw(case)
        known = {"seconds": time.perf_counter() - start, **score_outline(case, marked)}
        known["volume_ml"] = case.volume.hu.size * case.volume.voxel_volume_mm3 / 1000
    elif case.label_kind in ("outline", "algorithms") and case.reference.any():
        field = lung_field(case.volume.hu, case.volume.spacing_mm)
        known["tumour_in_field"] = float(field[case.reference].mean())
    tables = match_case(case, found)
    return Judged(replace(tables, cases=tables.cases.assign(**known)), marked)


def judge_cohort(
    cohort: Cohort,
    rows_of: Callable[[Case], Matching],
    store: Path,
    key: str,
    what: str,
    in_turn: Callable[[Callable[[str], Matching], Iterable[str]], Iterator[Matching]] = map,
) -> Matching:
    """Judge every case of a cohort; what `store` has under the same key is taken as it is.

    `store` gets a file a case, `key` is of all that the rows rest on but for the case itself, and
    `in_turn` may be `medlib.parallel.in_order`.
    """

    def of(case_id: str) -> Matching:
        alone = replace(cohort, table=cohort.table[cohort.table["case_id"] == case_id])
        of_case, path = digest(key, cohort_key(alone)), store / f"{case_id}.json"
        stored = json.loads(path.read_bytes()) if path.is_file() else {}
        if stored.get("key") != of_case:
            path.unlink(missing_ok=True)  # cut off, what is made beside it may not stay alone
            tables = rows_of(cohort.case(case_id))
            rows = {name: getattr(tables, name).to_csv(index=False) for name in TABLES}
            stored = {"key": of_case, **rows}
            write_json(path, stored)
        return Matching(*(read_rows(stored[name]) for name in TABLES))

    case_ids = list(cohort.table["case_id"])
    return concatenate(list(progress.track(in_turn(of, case_ids), what, total=len(case_ids))))
