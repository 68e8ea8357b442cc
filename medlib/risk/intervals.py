"""Estimates with intervals, from resampling patients.

Lesions of one patient share a scanner, a noise level and a lung: they are not independent. So
whole patients are drawn with replacement, each with all of its rows :cite:p:`efron1993`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

N_RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; NaN where undefined."""

    value: float
    low: float
    high: float
    n: int  # patients it rests on
    unit: str = ""  # "mm", "per scan"; empty for a share
    method: str = ""  # how it was computed

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Estimate:
        """Read one from a file, in which undefined is null."""
        known: dict[str, Any] = {k: float("nan") if v is None else v for k, v in stored.items()}
        return cls(**known)

    def __str__(self) -> str:
        return self.text()

    def text(self, digits: int = 2) -> str:
        """Write ``0.82 (0.70 to 0.91)``; what rounds to zero has no sign."""
        if np.isnan(self.value):
            return "undefined"
        if np.isnan(self.low):
            return f"{self.value:z.{digits}f} (interval undefined)"
        return f"{self.value:z.{digits}f} ({self.low:z.{digits}f} to {self.high:z.{digits}f})"


def bootstrap(
    table: pd.DataFrame,
    statistic: Callable[[pd.DataFrame], float],
    patient_column: str = "patient_id",
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    *,
    unit: str = "",
) -> Estimate:
    """Estimate any statistic of a table with a patient-level percentile interval.

    The statistic is NaN where it is undefined; resamples in which it is are left out of the
    interval, and counted in `method`. Fewer than two patients have no interval.
    """
    row_numbers = list(table.groupby(patient_column, sort=True).indices.values())
    draws = _draw_patients(len(row_numbers), n_resamples, seed)
    drawn = (table.iloc[np.concatenate([row_numbers[k] for k in draw])] for draw in draws)
    resampled = np.array([statistic(rows) for rows in drawn])
    value = statistic(table) if len(table) else float("nan")
    return _estimate(value, resampled, len(row_numbers), len(table), unit)


def bootstrap_mean(
    table: pd.DataFrame,
    column: str,
    patient_column: str = "patient_id",
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    *,
    unit: str = "",
) -> Estimate:
    """Estimate the mean of a column; the same figures as `bootstrap`, without a loop.

    Undefined (NaN) rows stay out of the mean, and patients with nothing else out of `n`. With a
    column of true and false the mean is a share: of lesions hit, for example.
    """
    defined = table[[patient_column, column]].dropna(subset=[column])
    values = defined[column].astype(float)
    by_patient = values.groupby(defined[patient_column], sort=True)
    totals, counts = by_patient.sum().to_numpy(), by_patient.count().to_numpy()
    draws = _draw_patients(len(totals), n_resamples, seed)
    with np.errstate(invalid="ignore"):
        resampled = totals[draws].sum(axis=1) / counts[draws].sum(axis=1)
    return _estimate(values.mean(), resampled, len(totals), len(values), unit)


def _draw_patients(n_patients: int, n_resamples: int, seed: int) -> NDArray[np.int64]:
    """Draw patients with replacement: a row a resample; no rows for fewer than two patients."""
    if n_patients < 2:
        return np.empty((0, n_patients), dtype=np.int64)
    return np.random.default_rng(seed).integers(n_patients, size=(n_resamples, n_patients))


def _estimate(
    value: float, resampled: NDArray[np.float64], n_patients: int, n_rows: int, unit: str
) -> Estimate:
    defined = resampled[~np.isnan(resampled)]
    bounds = [0.5 - LEVEL / 2, 0.5 + LEVEL / 2]
    low, high = np.quantile(defined, bounds).tolist() if len(defined) else [float("nan")] * 2
    method = f"{n_rows} rows of {n_patients} patients; "
    if n_patients < 2:
        method += "an interval needs two patients"
    else:
        method += f"{LEVEL:.0%} percentile interval of {len(resampled)} resamples of patients"
    if undefined := len(resampled) - len(defined):
        method += f", {undefined} of them undefined"
    return Estimate(float(value), low, high, n_patients, unit, method)


def in_words(stored: Mapping[str, Any]) -> str:
    """Write a stored estimate with its interval."""
    return f"{Estimate.of(stored)} {stored['unit']}".strip()
