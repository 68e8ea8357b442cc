from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medlib.risk.intervals import Estimate, bootstrap, bootstrap_mean


def table(values_by_patient):
    return pd.DataFrame(
        [(f"p{i}", value) for i, values in enumerate(values_by_patient) for value in values],
        columns=["patient_id", "hit"],
    )


def mean(rows):
    return rows["hit"].mean()


def test_the_fast_mean_gives_what_the_general_way_gives():
    rows = table([[1, 0, 1], [1], [0, 0], [1, 1, 1, 0]])
    fast, general = bootstrap_mean(rows, "hit", seed=3), bootstrap(rows, mean, seed=3)
    assert fast.value == pytest.approx(general.value) == pytest.approx(0.6)
    assert (fast.low, fast.high) == pytest.approx((general.low, general.high))
    assert fast.n == general.n == 4
    assert fast.method == general.method


def test_the_same_seed_gives_the_same_interval():
    rows = table([[1, 0], [1], [0], [1, 1]])
    assert bootstrap_mean(rows, "hit", seed=1) == bootstrap_mean(rows, "hit", seed=1)
    shuffled = rows.sample(frac=1, random_state=0)
    assert bootstrap_mean(shuffled, "hit", seed=1) == bootstrap_mean(rows, "hit", seed=1)
    many = table(np.random.default_rng(0).random((30, 2)))
    assert bootstrap_mean(many, "hit", seed=1) != bootstrap_mean(many, "hit", seed=2)


def test_patients_are_resampled_not_rows():
    """Ten lesions a patient, all alike within one: there are 12 facts here, not 120."""
    rng = np.random.default_rng(0)
    clustered = table([[value] * 10 for value in rng.integers(0, 2, 12)])
    independent = clustered.assign(patient_id=[f"p{i}" for i in range(len(clustered))])
    by_patient = bootstrap_mean(clustered, "hit")
    by_row = bootstrap_mean(independent, "hit")
    assert by_patient.value == by_row.value
    assert by_patient.high - by_patient.low > 2 * (by_row.high - by_row.low)


def test_coverage():
    """A 95 % interval of the mean of 40 patients holds the truth in most of 200 experiments."""
    rng = np.random.default_rng(1)
    held = 0
    for experiment in range(200):
        lesions = [(rng.random(3) < rng.beta(7, 3)).astype(float) for _ in range(40)]
        found = bootstrap_mean(table(lesions), "hit", n_resamples=400, seed=experiment)
        held += found.low <= 0.7 <= found.high
    assert 0.88 <= held / 200 <= 0.99


def test_undefined_rows_stay_out_and_are_not_patients():
    rows = table([[1, np.nan], [np.nan], [0], [1]])
    found = bootstrap_mean(rows, "hit")
    assert found.value == pytest.approx(2 / 3)
    assert found.n == 3
    assert found.method.startswith("3 rows of 3 patients")


@pytest.mark.parametrize("values", [[], [[1, 0]], [[np.nan], [1]]])
def test_fewer_than_two_patients_have_no_interval(values):
    found = bootstrap_mean(table(values), "hit")
    assert np.isnan(found.low)
    assert np.isnan(found.high)
    assert "two patients" in found.method


def test_undefined_resamples_are_counted():
    rows = table([[1.0], [0.0]]).assign(weight=[1.0, 0.0])

    def weighted(drawn):
        return (
            np.average(drawn["hit"], weights=drawn["weight"]) if drawn["weight"].any() else np.nan
        )

    found = bootstrap(rows, weighted, n_resamples=400)
    n_undefined = int(found.method.split(", ")[-1].split()[0])
    assert 60 < n_undefined < 140, "both drawn patients are the one without weight: 1 in 4"
    assert (found.low, found.high) == (1, 1)


def test_an_estimate_reads_as_a_figure():
    assert str(Estimate(0.8215, 0.7, 0.914, 9)) == "0.82 (0.70 to 0.91)"
    assert str(Estimate(0.5, np.nan, np.nan, 1)) == "0.50 (interval undefined)"
    assert str(Estimate(np.nan, np.nan, np.nan, 0)) == "undefined"


def test_what_rounds_to_zero_has_no_sign():
    assert Estimate(-0.0003, -0.0051, 0.004, n=9).text(3) == "0.000 (-0.005 to 0.004)"
    assert Estimate(-0.0003, float("nan"), float("nan"), n=9).text(3).startswith("0.000 ")
