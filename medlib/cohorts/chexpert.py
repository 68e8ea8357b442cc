"""CheXpert: chest radiographs labelled from reports, some of the labels uncertain (-1).

The labels come from a text labeller: 1 the report names the finding, 0 it rules it out, -1 it is
not sure, blank it says nothing. What -1 means for training is a choice, and results depend on it.
Hence the policy is an argument without a default, and `compare_policies` shows several.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from medlib.cohorts.label_table import COLUMNS, finished, named
from medlib.errors import DataError

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
UNCERTAIN = -1.0
SITE = "Stanford"
_PATH = re.compile(r"(?:^|/)(?P<split>[^/]+)/(?P<patient>patient\d+)/(?P<study>study\d+)/[^/]+$")


@dataclass(frozen=True)
class UncertainPolicy:
    """What becomes of an uncertain label.

    Attributes
    ----------
    name : str
    low, high : float
        The label is drawn evenly between them; it is a constant where they are equal, and NaN
        where they are NaN.
    weight : float
        Of the label; 0 leaves it out.
    source : str
    """

    name: str
    low: float
    high: float
    weight: float
    source: str

    def __post_init__(self) -> None:
        if self.weight < 0 or (self.weight > 0 and not 0 <= self.low <= self.high <= 1):
            raise ValueError(
                f"policy {self.name!r}: labels lie between 0 and 1, low before high, and a weight "
                f"is not below 0; got {self.low} to {self.high}, weight {self.weight}"
            )


_IRVIN = "Irvin et al. 2019, CheXpert"
_PHAM = "Pham et al. 2021, label smoothing of uncertain labels (U-Ones+LSR)"
POLICIES: Mapping[str, UncertainPolicy] = MappingProxyType(
    {
        policy.name: policy
        for policy in (
            UncertainPolicy("U-Ones", 1.0, 1.0, 1.0, _IRVIN),
            UncertainPolicy("U-Zeros", 0.0, 0.0, 1.0, _IRVIN),
            UncertainPolicy("soft", 0.55, 0.85, 1.0, _PHAM),
            UncertainPolicy("ignore", np.nan, np.nan, 0.0, f"{_IRVIN} (U-Ignore)"),
        )
    }
)


def read_chexpert(
    csv: Path | Sequence[Path],
    policy: str | UncertainPolicy,
    *,
    findings: Sequence[str] = FINDINGS,
    blank: Literal["negative", "unknown"] = "negative",
    root: Path | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Read CheXpert's CSV files under a named policy for uncertain labels.

    Parameters
    ----------
    csv : Path or sequence of Path
        ``train.csv``, ``valid.csv`` or both, with the columns ``Path`` and the findings.
    policy : str or UncertainPolicy
        A name of `POLICIES`, or a policy of one's own. There is no default.
    findings : sequence of str
        Columns to read.
    blank : {"negative", "unknown"}
        What a finding means that the report does not mention: absent, as those who train on
        CheXpert take it, or unknown (NaN, weight 0).
    root : Path, optional
        The folder that the paths of the CSV start from; the folder above the CSV's own where left
        out (``<root>/CheXpert-v1.0-small/train.csv``).
    seed : int
        Of the labels drawn by a soft policy. A label depends on seed, image and finding, not on
        the other rows.

    Returns
    -------
    DataFrame
        As `medlib.images.datasets` says, a row an image and finding; `patient_id` and `split` from
        the path (``train/patient00001/study1/view1_frontal.jpg``). Images need not exist.
        ``table.pivot(index="image_id", columns="finding", values="label")`` is the target matrix.

    Raises
    ------
    DataError
        If a file cannot be read, a column is missing, a path names no patient, a label is not one
        of 1, 0, -1 and blank, or there is no such policy.
    OverlapError
        If a patient stands in two parts.
    """
    chosen = find_policy(policy)
    files = [Path(csv)] if isinstance(csv, (str, Path)) else [Path(file) for file in csv]
    if not files:
        raise DataError("no CSV given; expected train.csv, valid.csv or both of CheXpert")
    raw = pd.concat([_read_raw(file, findings, root) for file in files], ignore_index=True)
    raw["label_weight"] = np.where(raw["raw"] == UNCERTAIN, chosen.weight, 1.0)
    raw["label"] = raw["raw"].where(raw["raw"] != UNCERTAIN)
    unsure = raw["raw"] == UNCERTAIN
    draws = _even_draws(raw.loc[unsure, "image_id"] + "/" + raw.loc[unsure, "finding"], seed)
    raw.loc[unsure, "label"] = chosen.low + draws * (chosen.high - chosen.low)
    unsaid = raw["raw"].isna()
    if blank == "negative":
        raw.loc[unsaid, "label"] = 0.0
    elif blank == "unknown":
        raw.loc[unsaid, "label_weight"] = 0.0
    else:
        raise DataError(f"blank={blank!r}: expected 'negative' or 'unknown'")
    return finished(raw[list(COLUMNS)], files[0])


def find_policy(policy: str | UncertainPolicy) -> UncertainPolicy:
    """Return a policy by its name.

    Raises
    ------
    DataError
        If there is none of that name.
    """
    if isinstance(policy, UncertainPolicy):
        return policy
    if policy not in POLICIES:
        raise DataError(
            f"there is no policy {policy!r} for uncertain labels; expected one of "
            f"{', '.join(POLICIES)}"
        )
    return POLICIES[policy]


def compare_policies(
    csv: Path | Sequence[Path],
    scores: Mapping[str, float] | pd.Series,
    finding: str,
    *,
    policies: Iterable[str | UncertainPolicy] = tuple(POLICIES),
    blank: Literal["negative", "unknown"] = "negative",
    seed: int = 0,
) -> pd.DataFrame:
    """Judge the same scores for one finding under several policies.

    Parameters
    ----------
    csv : Path or sequence of Path
    scores : mapping of str to float
        By `image_id`.
    finding : str
    policies : iterable
    blank, seed
        As in `read_chexpert`.

    Returns
    -------
    DataFrame
        A row a policy: `policy`, `patients`, `images` (with a label), `uncertain` (labels that
        were -1), `prevalence` (weighted mean label), `auroc` (`weighted_auroc`).

    Raises
    ------
    DataError
        As `read_chexpert`; also if an image has no score.
    """
    rows = []
    raw: pd.DataFrame | None = None
    for policy in map(find_policy, policies):
        table = read_chexpert(csv, policy, findings=[finding], blank=blank, seed=seed)
        if raw is None:
            every = [csv] if isinstance(csv, (str, Path)) else csv
            raw = pd.concat([_read_raw(Path(file), [finding], None) for file in every])
        score = table["image_id"].map(dict(scores))
        if score.isna().any():
            raise DataError(
                f"no score for {named(table.loc[score.isna(), 'image_id'])} images; expected one "
                "for every image of the CSV"
            )
        used = table["label_weight"] > 0
        label, weight = table.loc[used, "label"], table.loc[used, "label_weight"]
        rows.append(
            {
                "policy": policy.name,
                "patients": table.loc[used, "patient_id"].nunique(),
                "images": int(used.sum()),
                "uncertain": int((raw["raw"] == UNCERTAIN).sum()),
                "prevalence": float(np.average(label, weights=weight)) if len(label) else np.nan,
                "auroc": weighted_auroc(
                    label.to_numpy(), score[used].to_numpy(dtype=float), weight.to_numpy()
                ),
            }
        )
    return pd.DataFrame(rows)


def weighted_auroc(
    label: NDArray[np.float64], score: NDArray[np.float64], weight: NDArray[np.float64]
) -> float:
    """Return the area under the ROC curve for labels between 0 and 1.

    An image with label p counts as a positive one of weight p and a negative one of weight
    1 - p: for 0 and 1 this is the ordinary area.

    Parameters
    ----------
    label, score, weight : ndarray, shape (images,)

    Returns
    -------
    float
        NaN where there is no positive or no negative weight.
    """
    positive, negative = label * weight, (1 - label) * weight
    if positive.sum() <= 0 or negative.sum() <= 0:
        return float("nan")
    truth = np.repeat([1, 0], len(label))
    weights = np.concatenate([positive, negative])
    held = weights > 0
    return float(roc_auc_score(truth[held], np.tile(score, 2)[held], sample_weight=weights[held]))


def _read_raw(csv: Path, findings: Sequence[str], root: Path | None) -> pd.DataFrame:
    """Return a row an image and finding with the label as the file has it."""
    try:
        wide = pd.read_csv(csv)
    except FileNotFoundError as error:
        raise DataError(f"{csv}: no such file; expected CheXpert's train.csv or valid.csv") from (
            error
        )
    except (OSError, ValueError) as error:
        raise DataError(f"{csv}: not readable as CSV; expected CheXpert's; fetch it again") from (
            error
        )
    missing = [name for name in ("Path", *findings) if name not in wide.columns]
    if missing:
        raise DataError(
            f"{csv}: no column {missing[0]!r} ({len(missing)} missing); expected 'Path' and the "
            "findings of CheXpert; name the ones that the file has"
        )
    paths = wide["Path"].astype("string")
    parts = paths.str.extract(_PATH)
    lost = parts["patient"].isna()
    if lost.any():
        raise DataError(
            f"{csv}: row {int(lost.idxmax()) + 2} has the path {paths[lost.idxmax()]!r}; expected "
            ".../train/patient00001/study1/view1_frontal.jpg, which says whose image it is"
        )
    folder = csv.resolve().parent.parent if root is None else root
    images = pd.DataFrame(
        {
            "patient_id": parts["patient"],
            # From the part on: the same whatever the folder is called (full size or small).
            "image_id": paths.str.extract(r"([^/]+/patient\d+/study\d+/[^/]+)$")[0],
            "image_path": [f"{folder}/{path}" for path in paths],
            "split": parts["split"],
        }
    )
    labels = wide[list(findings)].apply(pd.to_numeric, errors="coerce")
    strange = ~(labels.isin([0.0, 1.0, UNCERTAIN]) | wide[list(findings)].isna())
    if strange.to_numpy().any():
        row, column = (int(at[0]) for at in np.nonzero(strange.to_numpy()))
        found = str(wide[findings[column]][row])
        raise DataError(
            f"{csv}: row {row + 2} has {found!r} for {findings[column]!r}; "
            "expected 1, 0, -1 (uncertain) or blank"
        )
    long = images.join(labels).melt(
        id_vars=list(images.columns),
        value_vars=list(findings),
        var_name="finding",
        value_name="raw",
    )
    return long.assign(mask_path=pd.NA, site=SITE)


def _even_draws(keys: pd.Series, seed: int) -> NDArray[np.float64]:
    """Return one number in [0, 1) for each key, which other keys do not change."""
    hashed = pd.util.hash_array(np.array([f"{seed}/{key}" for key in keys], dtype=object))
    return np.asarray(hashed >> np.uint64(11), dtype=np.float64) / 2.0**53
