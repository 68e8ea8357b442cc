from __future__ import annotations

import json
import os

import pandas as pd
import pytest

from medlib.baseline.real_manifest import FILE, checksum, manifest
from medlib.cohorts.cohort import REAL, REAL_CT, Cohort, open_cohort
from medlib.cohorts.project_split import split_of
from medlib.errors import DataError
from medlib.paths import REFERENCE_RUNS

STATED = {
    path.parent.name: data["real_ct"]["sha256"]
    for path in sorted(REFERENCE_RUNS.rglob("card.json"))
    if "real_ct" in (data := json.loads(path.read_bytes())["data"])
}


def read_manifest() -> pd.DataFrame:
    return pd.read_csv(FILE, dtype=str, keep_default_na=False)


@pytest.mark.parametrize("run", STATED)
def test_a_run_learned_from_what_the_manifest_lists(run):
    assert STATED[run] == checksum(read_manifest())


def test_there_are_such_runs():
    assert len(STATED) > 1


def test_the_manifest_knows_the_part_of_every_patient():
    table = read_manifest()
    nodules = table[table["licence"].eq("CC BY 3.0") & table["series_instance_uid"].ne("")]
    assert (nodules["split"] == split_of(nodules["patient_id"])).all()
    assert table["sha256"].str.fullmatch("[0-9a-f]{64}").all()
    assert table["file"].is_unique
    # Non-commercial images only test.
    assert set(table.loc[table["licence"].str.contains("NC"), "split"]) == {"test"}


def test_the_checksum_is_of_names_and_contents(tmp_path):
    def listed() -> pd.DataFrame:
        row = {"ct_file": "a", "readers_file": "b", "patient_id": "p", "split": "train"}
        table = pd.DataFrame([row | {"part": "lidc_voi", "licence": "CC BY 3.0"}])
        return manifest(Cohort("real", tmp_path, table))

    for name in ("lidc_voi/lidc_voi.csv", "lidc_voi/a", "lidc_voi/b", "full_ct/cases.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    first = checksum(listed())
    assert checksum(listed()) == first
    (tmp_path / "lidc_voi" / "b").write_text("other")
    assert checksum(listed()) != first
    (tmp_path / "lidc_voi" / "b").unlink()
    with pytest.raises(DataError, match="lidc_voi/b cannot be read"):
        listed()


@pytest.mark.real_ct
def test_the_manifest_is_of_the_real_ct_at_hand():
    if REAL_CT not in os.environ:
        pytest.skip("MEDLIB_REAL_CT names no folder with real CT")
    pd.testing.assert_frame_equal(manifest(open_cohort(REAL)), read_manifest())
