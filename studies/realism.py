"""How close the phantom comes to real CT, as numbers.

Volumes of interest around nodules, cut and measured alike (`voi_features`), are compared in two
ways. `compare` sets each figure beside the real one, from quantiles that stand in data_manifests:
no real picture is needed. `two_sample` trains a classifier to tell both kinds apart on patients
that it has not seen (a classifier two-sample test, Lopez-Paz and Oquab 2017, arXiv:1610.06545):
an AUC of 0.5 means that it cannot.
"""

from __future__ import annotations

import argparse
import io
import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from medlib import paths
from medlib.annotation.case import Case
from medlib.cohorts.nodule_volumes import lesion_voi
from medlib.errors import DataError
from studies.nodule_features import FEATURES, NOT_CLASSIFIED, measure

REAL_STATISTICS = paths.MANIFESTS / "real_voi_statistics.csv"
EVIDENCE = paths.MANIFESTS / "phantom_realism.json"
TABLE = "lidc_voi.csv"
LEVELS = tuple(k / 20 for k in range(1, 20))
_FOLDS, _RESAMPLES = 5, 1000
_SOURCE = """\
# Figures of studies.nodule_features over volumes of interest cut from LIDC-IDRI scans.
# Source: LIDC-IDRI, doi:10.7937/K9/TCIA.2015.LO9QL9SX, licence CC BY 3.0; nodules with three or
# more readers, merged clusters left out. Quantiles and moments only; no image, no single case.
"""


def measure_folder(folder: Path) -> pd.DataFrame:
    """Measure every volume of interest of a folder; merged clusters are left out.

    Parameters
    ----------
    folder : Path
        With `lidc_voi.csv` (columns `voi_id`, `patient_id`, `ct_file`, `readers_file`,
        `slice_spacing_mm`, `pixel_spacing_mm`, `flag`) and the NIfTI files that it names.

    Returns
    -------
    DataFrame
        A row a volume: `voi_id`, `patient_id` and the columns of `voi_features.FEATURES`.

    Raises
    ------
    DataError
        If there is no such table.
    """
    if not (folder / TABLE).is_file():
        raise DataError(f"{folder} holds no {TABLE}; expected a folder of volumes of interest")
    table = pd.read_csv(folder / TABLE)
    rows = []
    for voi in table[table["flag"].isna()].itertuples():
        hu, readers = (
            np.asarray(nib.Nifti1Image.from_filename(folder / name).dataobj).T
            for name in (voi.ct_file, voi.readers_file)
        )
        spacing = (voi.slice_spacing_mm, voi.pixel_spacing_mm, voi.pixel_spacing_mm)
        figures = measure(hu.astype(np.float32), readers.astype(np.uint8), spacing)
        rows.append({"voi_id": voi.voi_id, "patient_id": voi.patient_id, **figures})
    return pd.DataFrame(rows)


def measure_lesion(case: Case, label: int) -> dict[str, float]:
    """Measure one lesion of a cohort in the crop of `medlib.cohorts.nodule_volumes.lesion_voi`."""
    crop = lesion_voi(case, label)
    own = np.where(case.lesion_labels[crop] == label, case.readers[crop], 0).astype(np.uint8)
    return measure(case.volume.hu[crop], own, case.volume.spacing_mm)


def statistics(measured: pd.DataFrame) -> pd.DataFrame:
    """Return count, mean, standard deviation and the quantiles `LEVELS` of every figure.

    Returns
    -------
    DataFrame
        Index `figure`.
    """
    figures = measured[list(FEATURES)]
    table = pd.DataFrame({"n": figures.count(), "mean": figures.mean(), "sd": figures.std()})
    quantiles = figures.quantile(list(LEVELS)).T
    quantiles.columns = [f"q{round(100 * level):02d}" for level in LEVELS]
    return table.join(quantiles).rename_axis("figure")


def real_statistics(path: Path = REAL_STATISTICS) -> pd.DataFrame:
    """Read the stored statistics of real volumes of interest."""
    return pd.read_csv(path, comment="#", index_col="figure")


def compare(measured: pd.DataFrame, real: pd.DataFrame) -> pd.DataFrame:
    """Set measured volumes of interest beside the statistics of real ones.

    Parameters
    ----------
    measured : DataFrame
        Of `measure_folder`, or any rows of `voi_features.measure`.
    real : DataFrame
        Of `real_statistics`.

    Returns
    -------
    DataFrame
        Index `figure`; `real` and `phantom` (medians), `difference` (of the means, in real
        standard deviations), `distance` (Kolmogorov-Smirnov distance, taken at the stored
        quantiles: 0 the same distribution, 1 no overlap). NaN where nothing was measured.
    """
    rows = {}
    for name, known in real.iterrows():
        values = measured[name].dropna().to_numpy(float)
        edges = known[[f"q{round(100 * level):02d}" for level in LEVELS]].to_numpy(float)
        # A quantile's level is shared by all values that equal it, so ties count half.
        below = (
            [(np.mean(values < e) + np.mean(values <= e)) / 2 for e in edges]
            if len(values)
            else np.nan
        )
        rows[name] = {
            "real": known["q50"],
            "phantom": np.median(values) if len(values) else np.nan,
            "difference": (values.mean() - known["mean"]) / known["sd"] if len(values) else np.nan,
            "distance": np.max(np.abs(np.array(below) - LEVELS)),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("figure")


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
    resamples : int
    seed : int

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
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        times = np.bincount(rng.integers(0, patients.max() + 1, patients.max() + 1),
                            minlength=patients.max() + 1)[patients]  # fmt: skip
        drawn.append(roc_auc_score(label, score, sample_weight=times))
    alone = {}
    for name in names:
        known = both[name].notna().to_numpy()
        area = roc_auc_score(label[known], both.loc[known, name])
        alone[name] = round(max(area, 1 - area), 3)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "auc": round(float(roc_auc_score(label, score)), 3),
        "low": round(float(low), 3),
        "high": round(float(high), 3),
        "alone": alone,
    }


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


def _summary(real: pd.DataFrame, folder: Path, source: str) -> dict[str, Any]:
    measured = measure_folder(folder)
    figures = compare(measured, statistics(real)).round(3)
    return {
        "source": source,
        "vois": len(measured),
        "patients": int(measured["patient_id"].nunique()),
        "mean_distance": round(float(figures["distance"].drop(list(NOT_CLASSIFIED)).mean()), 3),
        "classifier": two_sample(real, measured),
        "figures": figures.to_dict("index"),
    }


def main() -> None:
    """Measure real and phantom volumes of interest; write statistics and evidence."""
    parser = argparse.ArgumentParser(prog="python -m studies.realism")
    parser.add_argument("--real", type=Path, help="folder lidc_voi; by default of MEDLIB_REAL_CT")
    parser.add_argument(
        "--phantom", action="append", required=True, metavar="NAME:SOURCE=FOLDER",
        help="made by benchmarks/phantom_vois.py, for instance v2:HEAD=FOLDER",
    )  # fmt: skip
    options = parser.parse_args()
    folder = options.real or Path(os.environ.get("MEDLIB_REAL_CT", ".")) / "lidc_voi"
    real = measure_folder(folder)
    text = io.StringIO()
    statistics(real).to_csv(text, float_format="%.5g")
    REAL_STATISTICS.write_text(_SOURCE + text.getvalue())
    phantoms = {}
    for option in options.phantom:
        label, _, made = option.partition("=")
        name, _, source = label.partition(":")
        phantoms[name] = _summary(real, Path(made), source)
        print(f"{name}: AUC {phantoms[name]['classifier']['auc']}")
    found = {
        "command": "python benchmarks/phantom_vois.py FOLDER --real REAL_CT/lidc_voi; "
        "python -m studies.realism --real REAL_CT/lidc_voi --phantom NAME:SOURCE=FOLDER",
        "date": date.today().isoformat(),
        "real": {"vois": len(real), "patients": int(real["patient_id"].nunique())},
        "phantoms": phantoms,
    }
    EVIDENCE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
