"""How close the phantom comes to real CT, as numbers.

Volumes of interest around nodules, cut and measured alike (`nodule_features`), are compared in two
ways. `compare` sets each figure beside the real one, from quantiles that stand in data_manifests:
no real picture is needed. `two_sample` trains a classifier to tell both kinds apart on patients
that it has not seen (a classifier two-sample test, Lopez-Paz and Oquab 2017, arXiv:1610.06545):
an AUC of 0.5 means that it cannot.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medlib import paths
from medlib.annotation.case import Case
from medlib.cohorts.nodule_volumes import TABLE, lesion_voi, open_table, read_case
from medlib.errors import DataError
from medlib.files import write_file
from medlib.risk.intervals import bootstrap
from studies.nodule_features import FEATURES, NOT_CLASSIFIED, measure

REAL_STATISTICS = paths.MANIFESTS / "real_voi_statistics.csv"
EVIDENCE = paths.MANIFESTS / "phantom_realism.json"
LEVELS = tuple(k / 20 for k in range(1, 20))
QUANTILES = [f"q{round(100 * level):02d}" for level in LEVELS]
_COMPARED = ["phantom", "difference", "distance"]
_FOLDS, _RESAMPLES = 5, 1000
_COMMAND = (
    "python benchmarks/phantom_vois.py FOLDER --real REAL_CT/lidc_voi; "
    "python -m studies realism --real REAL_CT/lidc_voi --phantom NAME:SOURCE=FOLDER"
)
_SOURCE = """\
# Figures of studies.nodule_features over volumes of interest cut from LIDC-IDRI scans.
# Source: LIDC-IDRI, doi:10.7937/K9/TCIA.2015.LO9QL9SX, licence CC BY 3.0; nodules with three or
# more readers, merged clusters left out. Quantiles and moments only; no image, no single case.
"""


def read_vois(folder: Path) -> Iterator[tuple[pd.Series, Case]]:
    """Yield row and case of every volume in `lidc_voi.csv` but those with a flag."""
    if not (folder / TABLE).is_file():
        raise DataError(f"{folder} holds no {TABLE}; expected a folder of volumes of interest")
    table = open_table(folder)
    for _, row in table[table["flag"].fillna("") == ""].iterrows():
        yield row, read_case(folder, row)


def measure_folder(folder: Path) -> pd.DataFrame:
    """Measure `read_vois`: `voi_id`, `patient_id` and the columns `FEATURES`."""
    return pd.DataFrame(
        {"voi_id": row["voi_id"], "patient_id": row["patient_id"]}
        | measure(case.volume.hu, case.readers, case.volume.spacing_mm)
        for row, case in read_vois(folder)
    )


def measure_lesion(case: Case, label: int) -> dict[str, float]:
    """Measure one lesion of a cohort in the crop of `medlib.cohorts.nodule_volumes.lesion_voi`."""
    crop = lesion_voi(case, label)
    own = np.where(case.lesion_labels[crop] == label, case.readers[crop], 0).astype(np.uint8)
    return measure(case.volume.hu[crop], own, case.volume.spacing_mm)


def statistics(measured: pd.DataFrame) -> pd.DataFrame:
    """Return count, mean, standard deviation and the quantiles `LEVELS` of every figure."""
    figures = measured[list(FEATURES)]
    table = pd.DataFrame({"n": figures.count(), "mean": figures.mean(), "sd": figures.std()})
    quantiles = figures.quantile(list(LEVELS)).T
    quantiles.columns = QUANTILES
    return table.join(quantiles).rename_axis("figure")


def real_statistics(path: Path = REAL_STATISTICS) -> pd.DataFrame:
    """Read the stored statistics of real volumes of interest."""
    return pd.read_csv(path, comment="#", index_col="figure")


def compare(measured: pd.DataFrame, real: pd.DataFrame) -> pd.DataFrame:
    """Set measured volumes of interest beside `real_statistics`.

    Returns
    -------
    DataFrame
        Index `figure`; `real` and `phantom` (medians), `difference` (of the means, in real
        standard deviations), `distance` (Kolmogorov-Smirnov distance, taken at the stored
        quantiles: 0 the same distribution, 1 no overlap). NaN where nothing was measured.
    """
    rows = pd.DataFrame({"real": real["q50"]}, columns=["real", *_COMPARED], dtype=float)
    for name, known in real.iterrows():
        values = measured[name].dropna().to_numpy(float)
        if not len(values):
            continue
        edges = known[QUANTILES].to_numpy(float)[:, None]
        # A quantile's level is shared by all values that equal it, so ties count half.
        below = ((values < edges).mean(axis=1) + (values <= edges).mean(axis=1)) / 2
        rows.loc[name, _COMPARED] = (
            np.median(values),
            (values.mean() - known["mean"]) / known["sd"],
            np.max(np.abs(below - LEVELS)),
        )
    return rows


def two_sample(
    real: pd.DataFrame, phantom: pd.DataFrame, *, resamples: int = _RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Train a classifier to tell phantom from real, and measure it on patients it has not seen.

    Gradient-boosted trees on all figures but those that the choice of nodules and scanners sets,
    five folds by patient; the interval is a bootstrap over patients of the held-out scores.

    Parameters
    ----------
    real, phantom : DataFrame
        Of `measure_folder`; no patient in both.

    Returns
    -------
    dict
        `auc`, `low`, `high` (95 %), and `alone`: for each figure the AUC that it reaches without
        any training, 0.5 to 1.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    both = pd.concat([real, phantom], ignore_index=True)
    label = np.repeat([0, 1], [len(real), len(phantom)])
    names = [name for name in FEATURES if name not in NOT_CLASSIFIED]
    patients = pd.factorize(both["patient_id"])[0]
    model = HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.06, max_leaf_nodes=8, l2_regularization=1.0,
        class_weight="balanced", random_state=seed,
    )  # fmt: skip
    score = cross_val_predict(
        model, both[names], label, groups=patients, method="predict_proba",
        cv=StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed),
    )[:, 1]  # fmt: skip
    found = bootstrap(
        pd.DataFrame({"patient_id": patients, "label": label, "score": score}),
        lambda drawn: float(roc_auc_score(drawn["label"], drawn["score"])),
        n_resamples=resamples,
        seed=seed,
    )
    alone = {}
    for name in names:
        known = both[name].notna().to_numpy()
        area = roc_auc_score(label[known], both.loc[known, name])
        alone[name] = round(max(area, 1 - area), 3)
    areas = {name: round(getattr(found, name), 3) for name in ("value", "low", "high")}
    return {"auc": areas.pop("value"), **areas, "alone": alone}


def evidence(path: Path = EVIDENCE) -> dict[str, Any]:
    """Read what was measured: for every phantom its comparison and its classifier.

    Returns
    -------
    dict
        `command`, `date`, `real` (`vois`, `patients`), and `phantoms`: for each name `source`,
        `vois`, `patients`, `classifier` (as `two_sample`) and `figures` (as `compare`).
    """
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def write_evidence(real_folder: Path, phantoms: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Measure real and phantom volumes of interest; write statistics and evidence.

    Parameters
    ----------
    real_folder : Path
        As `read_vois`.
    phantoms : mapping
        ``"NAME:SOURCE"`` to folder: what it is called, and what code made it.

    Returns
    -------
    dict
        Name of the phantom to what `two_sample` found.
    """
    real = measure_folder(real_folder)
    real_figures = statistics(real)
    write_file(REAL_STATISTICS, _SOURCE + real_figures.to_csv(float_format="%.5g"))
    found = {}
    for label, folder in phantoms.items():
        name, _, source = label.partition(":")
        measured = measure_folder(Path(folder))
        figures = compare(measured, real_figures).round(3)
        looks = figures["distance"].drop(list(NOT_CLASSIFIED))
        found[name] = {
            "source": source,
            **_size(measured),
            "mean_distance": round(float(looks.mean()), 3),
            "classifier": two_sample(real, measured),
            "figures": figures.to_dict("index"),
        }
    content = {
        "command": _COMMAND,
        "date": date.today().isoformat(),
        "real": _size(real),
        "phantoms": found,
    }
    write_file(EVIDENCE, json.dumps(content, indent=1) + "\n")
    return {name: one["classifier"] for name, one in found.items()}


def _size(measured: pd.DataFrame) -> dict[str, int]:
    return {"vois": len(measured), "patients": int(measured["patient_id"].nunique())}
