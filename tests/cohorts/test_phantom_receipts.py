from __future__ import annotations

import json
from dataclasses import replace

import pytest

from medlib.cohorts import phantom_receipts as manifest
from medlib.cohorts.phantom_receipts import Receipt
from medlib.errors import DataError
from tools.phantom_manifest import write_manifest

MADE = {
    "case-001": Receipt("aa", "bb", -512.25, 410.5, [400, 380, 0, 0]),
    "case-002": Receipt("cc", "dd", -530.0, 402.0, [0, 0, 0, 0]),
}


def changed(**values) -> dict[str, Receipt]:
    return MADE | {"case-001": replace(MADE["case-001"], **values)}


def test_equal_checksums_pass():
    assert manifest.verify(MADE, dict(MADE), "tiny") == []


def test_another_rounding_passes_and_is_named():
    assert manifest.verify(changed(hu_sha256="zz", hu_mean=-512.251), MADE, "tiny") == ["case-001"]


@pytest.mark.parametrize(
    "difference",
    [
        {"hu_sha256": "zz", "hu_mean": -512.0},
        {"hu_sha256": "zz", "hu_sd": 411.0},
        {"readers_sha256": "zz", "lesion_voxels": [420, 380, 0, 0]},
        {"readers_sha256": "zz", "lesion_voxels": [400, 380, 0, 3]},
    ],
)
def test_another_phantom_is_refused(difference):
    with pytest.raises(DataError, match="case-001.*phantom-manifest"):
        manifest.verify(changed(**difference), MADE, "tiny")


def test_a_missing_case_is_refused():
    with pytest.raises(DataError, match="case-002"):
        manifest.verify({"case-001": MADE["case-001"]}, MADE, "tiny")


def test_what_is_written_is_read_back_and_other_cohorts_stay(tmp_path):
    path = tmp_path / "phantom.json"
    write_manifest("tiny-seed0", MADE, {"seed": 0}, path)
    write_manifest("tiny-seed1", changed(hu_mean=1.0), {"seed": 1}, path)
    assert manifest.expected_receipts("tiny-seed0", path) == MADE
    assert manifest.expected_receipts("tiny-seed1", path)["case-001"].hu_mean == 1.0
    assert manifest.expected_receipts("tiny-seed2", path) == {}
    assert "CC BY 3.0" in json.loads(path.read_text())["source_of_outlines"]["licence"]


def test_a_broken_manifest_is_named(tmp_path):
    path = tmp_path / "phantom.json"
    with pytest.raises(DataError, match=r"phantom\.json"):
        manifest.expected_receipts("quick-seed0", path)
    path.write_text("{}")
    with pytest.raises(DataError, match=r"phantom\.json"):
        manifest.expected_receipts("quick-seed0", path)


def test_the_projects_own_manifest_names_the_quick_cohort():
    expected = manifest.expected_receipts("quick-seed0")
    assert len(expected) == 36
    assert all(len(receipt.hu_sha256) == 64 for receipt in expected.values())
