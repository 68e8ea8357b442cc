from __future__ import annotations

import nibabel
import numpy as np
import pandas as pd
import pytest

from medlib.cohorts.nodule_volumes import MERGED, open_table, read_case
from medlib.cohorts.project_split import split_of
from medlib.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """One volume, flipped in plane as a prone scan is."""
    affine = np.diag([0.7, 0.7, 1.25, 1.0])
    hu = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) - 900
    readers = np.zeros(hu.shape, np.uint8)
    readers[1:3, 2, 3] = 0b101
    readers[1, 2, 3] |= 0b010
    nibabel.save(nibabel.Nifti1Image(hu, affine), tmp_path / "a_ct.nii.gz")
    nibabel.save(nibabel.Nifti1Image(readers, affine), tmp_path / "a_readers.nii.gz")
    row = {
        "voi_id": "a",
        "patient_id": "LIDC-IDRI-0001",
        "ct_file": "a_ct.nii.gz",
        "readers_file": "a_readers.nii.gz",
        "n_readers": 3,
    }
    pd.DataFrame([row]).to_csv(tmp_path / "lidc_voi.csv", index=False)
    return tmp_path


def test_a_volume_is_read_upright(folder):
    found = read_case(folder, open_table(folder).iloc[0])
    assert found.volume.hu.shape == (6, 5, 4)  # z, y, x
    assert found.volume.hu[3, 5 - 1 - 2, 4 - 1 - 1] == 1 * 30 + 2 * 6 + 3 - 900
    assert found.volume.spacing_mm == pytest.approx((1.25, 0.7, 0.7))
    assert found.volume.affine[0, 0] == pytest.approx(0.7)
    assert found.drawn_masks().sum(axis=(1, 2, 3)).tolist() == [2, 1, 2]
    assert found.drawn_masks()[:, 3, 2, 2].all()
    assert found.reference.sum() == 2  # at least two
    lesion = found.lesions.iloc[0]
    assert (lesion["origin"].split("/")[0], lesion["n_readers"]) == ("LIDC-IDRI-0001", 3)
    assert lesion["diameter_mm"] == pytest.approx((6 / np.pi * 2 * 1.25 * 0.7**2) ** (1 / 3))
    assert np.isnan(lesion["malignancy"])  # the table does not say
    assert (found.is_window, found.doubtful) == (True, None)


@pytest.mark.parametrize(
    ("said", "doubtful"), [({"other_annotations_in_voi": 1}, 118), ({"flag": MERGED}, 120)]
)
def test_what_else_was_drawn_makes_a_volume_doubtful(folder, said, doubtful):
    row = open_table(folder).assign(**said).iloc[0]
    assert read_case(folder, row).doubtful.sum() == doubtful


def test_a_reader_without_a_mask_is_told(folder):
    table = open_table(folder).assign(n_readers=4)
    with pytest.raises(DataError, match="4 readers are stated and one of them marked nothing"):
        read_case(folder, table.iloc[0])


def test_missing_files_and_columns_are_told(folder):
    (folder / "a_ct.nii.gz").unlink()
    with pytest.raises(DataError, match=r"column ct_file, the first is a_ct\.nii\.gz"):
        open_table(folder)
    pd.DataFrame({"voi_id": ["a"]}).to_csv(folder / "lidc_voi.csv")
    with pytest.raises(DataError, match="lacks the columns patient_id"):
        open_table(folder)


def test_patients_are_looked_up_in_the_projects_split():
    scans = pd.Series(["one", "Lung_Dx-A0002", "two"])
    found = split_of(pd.Series(["LIDC-IDRI-0001", "not stated", "somebody"]), scans)
    assert found.tolist() == ["train", "tune", "test"]
