"""CheXpert: chest radiographs labelled from reports, some of the labels uncertain (-1).

The labels come from a text labeller: 1 the report names the finding, 0 it rules it out, -1 it is
not sure, blank it says nothing. What -1 means for training is a choice, and results depend on it.
Hence the policy is an argument without a default.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medlib.cohorts.splits import check_disjoint
from medlib.errors import DataError

FILES = ("train.csv", "valid.csv")
FINDINGS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
IMAGE_COLUMNS = ("patient_id", "image_id", "image_path", "site", "split")
COLUMNS = (*IMAGE_COLUMNS, "finding", "label", "label_weight")
UNCERTAIN = -1.0
SITE = "Stanford"
# The folder above the part is called differently in the full and the small release.
_PATH = re.compile(r"(?P<image_id>(?P<split>[^/]+)/(?P<patient_id>patient\d+)/study\d+/[^/]+)$")


class Policy(NamedTuple):
    """What becomes of an uncertain label: drawn evenly from `low` to `high`; weight 0: left out."""

    low: float
    high: float
    weight: float = 1.0


POLICIES = {
    "U-Ones": Policy(1.0, 1.0),  # all but the soft one: Irvin et al. 2019
    "U-Zeros": Policy(0.0, 0.0),
    "soft": Policy(0.55, 0.85),  # Pham et al. 2021 (U-Ones+LSR)
    "ignore": Policy(np.nan, np.nan, weight=0.0),
}


def read_chexpert(
    source: Path,
    policy: str,
    *,
    findings: Sequence[str] = FINDINGS,
    seed: int = 0,
) -> pd.DataFrame:
    """Read CheXpert's CSV files under a named policy for uncertain labels.

    `source` is ``train.csv``, ``valid.csv``, or their folder. `policy` is a name of `POLICIES`, in
    letters of either case. A label that a soft policy draws depends on `seed`, image and finding,
    not on the other rows. A finding that the report does not mention is absent, as those who train
    on CheXpert take it.

    The table has `COLUMNS`, a row an image and finding; patient and part come from the path
    (``train/patient00001/study1/view1_frontal.jpg``), images need not exist.
    ``table.pivot(index="image_id", columns="finding", values="label")`` is the target matrix.

    Raises
    ------
    DataError
        If a file cannot be read, a column is missing, a path names no patient, an image stands
        twice, a label is not one of 1, 0, -1 and blank, or there is no such policy.
    OverlapError
        If a patient stands in two parts.
    """
    chosen = {name.lower(): found for name, found in POLICIES.items()}.get(policy.lower())
    if chosen is None:
        raise DataError(
            f"there is no policy {policy!r} for uncertain labels; expected one of "
            f"{', '.join(POLICIES)}"
        )
    raw = _read(source, findings)
    table = raw.assign(label=raw["raw"].fillna(0.0), label_weight=1.0)
    unsure = raw["raw"] == UNCERTAIN
    draws = _even_draws(raw.loc[unsure, "image_id"] + "/" + raw.loc[unsure, "finding"], seed)
    table.loc[unsure, "label"] = chosen.low + draws * (chosen.high - chosen.low)
    table.loc[unsure, "label_weight"] = chosen.weight
    return table[list(COLUMNS)]


def _even_draws(keys: pd.Series, seed: int) -> NDArray[np.float64]:
    """Give each key one number in [0, 1), which other keys do not change."""
    hashed = pd.util.hash_array(np.array([f"{seed}/{key}" for key in keys], dtype=object))
    return np.asarray(hashed >> np.uint64(11), dtype=np.float64) / 2.0**53


def _read(source: Path, findings: Sequence[str]) -> pd.DataFrame:
    """Return a row an image and finding, `raw` the label as the file has it."""
    inside = [source / name for name in FILES if (source / name).is_file()]
    files = inside if source.is_dir() else [source]
    if not files:
        raise DataError(f"{source}: no CSV; expected train.csv, valid.csv or both of CheXpert")
    table = pd.concat([_read_file(file, findings) for file in files], ignore_index=True)
    if table.empty:
        raise DataError(f"{files[0]}: no image found; expected at least one; fetch it again")
    if (twice := table.duplicated(["image_id", "finding"])).any():
        raise DataError(
            f"{files[0]}: {table['image_id'][twice].iloc[0]} stands there more than once; expected "
            "every image once; remove the copies"
        )
    check_disjoint(table)
    return table


def _read_file(csv: Path, findings: Sequence[str]) -> pd.DataFrame:
    try:
        wide = pd.read_csv(csv)
    except (OSError, ValueError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else "not readable as CSV"
        raise DataError(f"{csv}: {why}; expected CheXpert's train.csv or valid.csv") from error
    if missing := [name for name in ("Path", *findings) if name not in wide.columns]:
        raise DataError(
            f"{csv}: no column {missing[0]!r} ({len(missing)} missing); expected 'Path' and the "
            "findings of CheXpert; name the ones that the file has"
        )
    paths = wide["Path"].astype("string")
    images = paths.str.extract(_PATH)
    if (lost := images["patient_id"].isna()).any():
        raise DataError(
            f"{csv}: row {int(lost.idxmax()) + 2} has the path {paths[lost.idxmax()]!r}; expected "
            ".../train/patient00001/study1/view1_frontal.jpg, which says whose image it is"
        )
    labels = wide[list(findings)].apply(pd.to_numeric, errors="coerce")
    strange = ~(labels.isin([0.0, 1.0, UNCERTAIN]) | wide[list(findings)].isna()).to_numpy()
    if strange.any():
        row, column = (int(at[0]) for at in np.nonzero(strange))
        raise DataError(
            f"{csv}: row {row + 2} has {str(wide[findings[column]][row])!r} for "
            f"{findings[column]!r}; expected 1, 0, -1 (uncertain) or blank"
        )
    # The paths start above the folder of the CSV (<root>/CheXpert-v1.0-small/train.csv).
    images["image_path"] = [str(csv.resolve().parent.parent / path) for path in paths]
    images["site"] = SITE
    return images.join(labels).melt(list(IMAGE_COLUMNS), list(findings), "finding", "raw")
