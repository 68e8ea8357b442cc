from __future__ import annotations

import pandas as pd
import pytest
from typer.testing import CliRunner

from medlib import cli, paths
from medlib.cohorts.collections import checked_splits, collection, collections, summary
from medlib.errors import DataError, OverlapError
from medlib.files import check_sums, write_sums
from tools.croissant import columns
from tools.lidc_tables import TENTHS

LISTED = """
[lidc]
title = "L"
licence = "CC BY 3.0"
split = "lidc.csv"
[luna]
title = "U"
licence = "CC BY 3.0"
split = "luna.csv"
same_patients_as = "lidc"
[other]
title = "O"
licence = "none"
split = "other.csv"
"""
LIDC = [("p1", "1.1", "train"), ("p2", "1.2", "test"), ("p2", "1.3", "test")]


def write(path, rows):
    table = pd.DataFrame(rows, columns=["patient_id", "series_instance_uid", "split"])
    table.insert(2, "manufacturer", "M")
    table.to_csv(path, index=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "collections.toml").write_text(LISTED)
    write(tmp_path / "lidc.csv", LIDC)
    write(tmp_path / "luna.csv", [("x7", "1.2", "test")])  # p2 under another number
    write(tmp_path / "other.csv", [("p1", "9.1", "test")])  # another p1
    monkeypatch.setattr(paths, "MANIFESTS", tmp_path)
    return tmp_path


def test_shared_patients_in_the_same_part_pass(folder):
    rows = checked_splits()
    assert len(rows) == 5
    assert rows["person"].nunique() == 3
    done = CliRunner().invoke(cli.app, ["data", "split", "--check"])
    assert (done.exit_code, done.stdout.splitlines()) == (
        0,
        ["lidc, other, luna: 3 patients, nobody in two parts"],
    )


@pytest.mark.parametrize(
    ("name", "rows", "match"),
    [
        ("lidc", [*LIDC, ("p1", "1.4", "tune")], "lidc/p1 in train, tune"),
        ("luna", [("x7", "1.2", "train")], "lidc/p2 in test, train"),  # by its series
        ("luna", [("p1", "5.5", "external")], "lidc/p1 in external, train"),  # by its number
    ],
)
def test_a_torn_patient_is_refused(folder, name, rows, match):
    write(folder / f"{name}.csv", rows)
    with pytest.raises(OverlapError, match=match):
        checked_splits()
    done = CliRunner().invoke(cli.app, ["data", "split", "--check"])
    assert done.exit_code == 2
    [line] = done.stderr.splitlines()
    assert "more than one part" in line


def test_a_copy_listed_first_is_still_the_copy(folder):
    text = (folder / "collections.toml").read_text()
    lidc, luna, other = ("[" + part for part in text.split("[")[1:])
    (folder / "collections.toml").write_text(luna + lidc + other)
    write(folder / "luna.csv", [("x7", "1.3", "test"), ("x8", "1.2", "test")])
    assert set(checked_splits()["person"]) == {"lidc/p1", "lidc/p2", "other/p1"}


def test_what_cannot_be_read_is_named(folder):
    write(folder / "lidc.csv", [*LIDC, LIDC[0]])
    with pytest.raises(DataError, match=r"a row for each series_instance_uid, each once; 1\.1 "):
        checked_splits()
    pd.read_csv(folder / "lidc.csv").drop(columns="split").to_csv(folder / "lidc.csv")
    with pytest.raises(DataError, match="lacks the columns split"):
        checked_splits()
    (folder / "lidc.csv").unlink()
    with pytest.raises(DataError, match=r"lidc\.csv: not a CSV table"):
        checked_splits()
    with pytest.raises(DataError, match="no collection 'lung'; expected one of lidc"):
        collection("lung", folder)
    with pytest.raises(DataError, match="no table of scans"):
        collection("lidc", folder).table("scans")
    (folder / "collections.toml").write_text(LISTED.replace('"lidc"\n[other]', '"gone"\n[other]'))
    with pytest.raises(DataError, match="shares patients with 'gone'"):
        collections(folder)
    (folder / "collections.toml").write_text("[lidc]\nname = 3")
    with pytest.raises(DataError, match=r"collections\.toml cannot be read"):
        collections(folder)


def test_the_projects_own_split_holds():
    rows = checked_splits()
    lidc = rows[rows["collection"] == "lidc"]
    assert (len(lidc), lidc["patient_id"].nunique()) == (1018, 1010)
    internal = lidc[lidc["split"] != "external"]
    assert set(internal["manufacturer"]) == {"GE MEDICAL SYSTEMS", "SIEMENS"}
    # The four patients whom scanners of both kinds have seen are external with all scans.
    seen = lidc.groupby("patient_id")["manufacturer"].nunique()
    both = lidc[lidc["patient_id"].isin(seen[seen > 1].index)]
    assert len(both) == 8
    assert set(both["split"]) == {"external"}
    shares = internal.groupby("split")["patient_id"].nunique() / internal["patient_id"].nunique()
    for part, tenths in TENTHS.items():
        assert shares[part] == pytest.approx(tenths / 10, abs=0.005)


def test_every_column_is_explained():
    known = columns()
    for kind in ("scans", "nodules", "split"):
        assert list(known[kind]) == list(collection("lidc").table(kind).columns)


def test_the_list_shows_scans_parts_and_licence():
    shown = summary().set_index("name")
    assert shown.loc["lidc", "scans"] == "1,018"
    assert shown.loc["lidc", "size"] == "128.4 GB to fetch"
    assert "test 173" in shown.loc["lidc", "parts"]
    assert shown.loc["lidc", "licence"] == "CC BY 3.0"
    assert int(shown.loc["phantom", "patients"]) >= 36
    done = CliRunner().invoke(cli.app, ["data", "list"])
    assert done.exit_code == 0
    for text in ("1,018", "128.4 GB", "external", "CC BY 3.0"):
        assert text in done.stdout


def test_checksums(tmp_path):
    (tmp_path / "a.csv").write_text("1")
    (tmp_path / "b.csv").write_text("2")
    write_sums(tmp_path, ["b.csv", "a.csv"])
    assert check_sums(tmp_path) == 2
    (tmp_path / "b.csv").write_text("3")
    with pytest.raises(DataError, match=r"1 of 2 files are not what .*first b\.csv"):
        check_sums(tmp_path)
    (tmp_path / "a.csv").unlink()
    with pytest.raises(DataError, match=r"1 of 2 files missing, first a\.csv"):
        check_sums(tmp_path)
    (tmp_path / "SHA256SUMS").write_text("nonsense\n")
    with pytest.raises(DataError, match="cannot be read"):
        check_sums(tmp_path)
