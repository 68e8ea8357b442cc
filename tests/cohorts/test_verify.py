"""`medlib data verify` on a cohort and on fetched scans."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from medlib import paths
from medlib.annotation.case import LESION_COLUMNS, Case
from medlib.cohorts.case_folders import FILES
from medlib.cohorts.cohort import Cohort, receipts
from medlib.cohorts.phantom_receipts import Receipt
from medlib.cohorts.verify import verify
from medlib.errors import DataError
from medlib.files import sha256_of, write_sums
from medlib.images.dicom import write_series
from medlib.images.image_files import write_mask
from medlib.images.volume import SeriesIdentity, Volume
from tools.phantom_manifest import write_manifest


@pytest.fixture
def manifests(tmp_path, monkeypatch):
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "collections.toml").write_text(
        '[mini]\ntitle = "M"\nlicence = "CC0"\nscans = "scans.csv"\n'
    )
    pd.DataFrame(
        {
            "patient_id": ["p1", "p2"],
            "series_instance_uid": ["1.1", "1.2"],
            "n_files": [2, 1],
            "size_bytes": [8, 3],
            "aws_url": ["s3://b/1", "s3://b/2"],
        }
    ).to_csv(folder / "scans.csv", index=False)
    write_sums(folder, ["collections.toml", "scans.csv"])
    monkeypatch.setattr(paths, "MANIFESTS", folder)
    monkeypatch.setattr(paths, "DATA", tmp_path / "data")
    return folder


def test_fetched_scans(manifests, tmp_path):
    assert "nothing fetched yet" in list(verify("mini"))[1]
    series = tmp_path / "elsewhere" / "p1" / "1.1"
    series.mkdir(parents=True)
    for name in ("a.dcm", "b.dcm"):
        (series / name).write_bytes(b"1234")
    write_sums(series, ["a.dcm", "b.dcm"])
    assert "1 series, 2 files" in list(verify("mini", tmp_path / "elsewhere"))[1]
    (series / "b.dcm").write_bytes(b"4321")
    with pytest.raises(DataError, match=r"b\.dcm"):
        list(verify("mini", tmp_path / "elsewhere"))


def test_a_changed_manifest(manifests):
    (manifests / "scans.csv").write_text("patient_id\n")
    with pytest.raises(DataError, match=r"first scans\.csv"):
        list(verify())


@pytest.fixture
def cohort(manifests):
    """One patient of two slices, as `open_cohort` leaves one."""
    folder = paths.DATA / "phantom-tiny-seed0"
    case = folder / "case-1"
    hu = np.arange(2 * 8 * 8, dtype=np.float32).reshape(2, 8, 8)
    volume = Volume(hu, np.diag([1, 1, 2.5, 1.0]), SeriesIdentity("p", "1.2", "1.2.3"))
    write_series(volume, case / "ct")
    readers = (hu > 100).astype(np.uint8)
    write_mask(readers, volume, case / "readers.nii.gz")
    write_mask(readers, volume, case / "labels.nii.gz")
    lesions = pd.DataFrame(columns=list(LESION_COLUMNS))
    lesions.to_csv(case / "lesions.csv", index=False)
    made = Case("case-1", "p", "site-a", "train", volume, readers, readers, lesions)
    files = {name: sha256_of(case / name) for name in FILES}
    note = {"voxels": asdict(Receipt.of(made)), "files": files}
    (case / "receipt.json").write_text(json.dumps(note))
    row = {"case_id": "case-1", "patient_id": "p", "site": "site-a", "split": "train"}
    pd.DataFrame([row]).to_csv(folder / "cohort.csv", index=False)
    return Cohort("tiny-seed0", folder, pd.DataFrame([row]))


def test_a_phantom(manifests, cohort):
    (manifests / "collections.toml").write_text(
        '[phantom]\ntitle = "P"\nlicence = "CC BY"\nmanifest = "phantom.json"\n'
    )
    write_manifest("another", {}, {"seed": 0}, manifests / "phantom.json")
    write_sums(manifests, ["collections.toml", "phantom.json"])
    assert "does not name this cohort" in list(verify("phantom"))[1]
    write_manifest(cohort.name, receipts(cohort), {"seed": 0}, manifests / "phantom.json")
    write_sums(manifests, ["collections.toml", "phantom.json"])
    assert "as the manifest says" in list(verify("phantom"))[1]
    [first, *_] = sorted(cohort.folder.rglob("*.dcm"))
    content = bytearray(first.read_bytes())
    content[-20] ^= 1
    first.write_bytes(content)
    with pytest.raises(DataError, match="have changed since"):
        list(verify("phantom"))
