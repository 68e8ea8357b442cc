from __future__ import annotations

import pandas as pd

from medlib.cohorts.splits import check_disjoint
from tools.lidc_tables import split_collection


def scans(n=200):
    makers = ["A"] * 5 + ["B"] * 3 + ["C"] * 2
    return pd.DataFrame(
        {
            "patient_id": [f"p{k - (k % 17 == 1):03d}" for k in range(n)],
            "series_instance_uid": [f"1.{k}" for k in range(n)],
            "manufacturer": [makers[k * 7 % 10] for k in range(n)],
        }
    )


def test_a_manufacturer_is_held_out_whole_and_strata_are_alike():
    table = scans()
    stratum = pd.Series(["ab"[k % 2] for k in table.index])
    table["split"] = split_collection(table, stratum, seed=0)
    check_disjoint(table)
    assert set(table.loc[table["manufacturer"] == "C", "split"]) == {"external"}
    external = set(table.loc[table["manufacturer"] == "C", "patient_id"])
    assert set(table.loc[table["split"] == "external", "patient_id"]) == external
    train = table[table["split"] == "train"]
    assert abs((stratum[train.index] == "a").mean() - 0.5) < 0.1
    mixed = table.drop(columns="split").sample(frac=1, random_state=3)
    assert split_collection(mixed, stratum, seed=0).sort_index().equals(table["split"])
    assert not split_collection(mixed, stratum, seed=1).sort_index().equals(table["split"])
