from __future__ import annotations

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK

from medlib.cohorts.whole_scans import read_scan, read_scan_table
from medlib.errors import DataError


@pytest.fixture
def folder(tmp_path):
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    (tmp_path / "boxed").mkdir()
    hu = np.full((8, 7, 5), -800, np.int16)
    nibabel.save(nibabel.Nifti1Image(hu, affine), tmp_path / "boxed" / "ct.nii.gz")
    box = {"slice_index_ascending_z": [2], "xmin": [1], "xmax": [3], "ymin": [4], "ymax": [5]}
    pd.DataFrame(box).to_csv(tmp_path / "boxed" / "boxes.csv")
    row = {"case": "boxed", "licence": "CC BY 4.0", "image_file": "ct.nii.gz"}
    pd.DataFrame([{**row, "mask_file": "boxes.csv"}]).to_csv(tmp_path / "cases.csv")
    return tmp_path


def test_boxes_become_a_mask(folder):
    scan = read_scan(folder, read_scan_table(folder).iloc[0])
    assert not scan.outlined
    assert scan.licence == "CC BY 4.0"
    assert scan.tumour.shape == (5, 7, 8)
    assert scan.tumour.sum() == 2 * 3
    assert scan.tumour[2, 4:6, 1:4].all()


def test_a_box_beyond_the_scan_is_told(folder):
    boxes = pd.read_csv(folder / "boxed" / "boxes.csv").assign(slice_index_ascending_z=5)
    boxes.to_csv(folder / "boxed" / "boxes.csv")
    with pytest.raises(DataError, match="slice 5 of 5"):
        read_scan(folder, read_scan_table(folder).iloc[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ymax": None}, "the column ymax has empty cells"),
        ({"xmin": "left"}, "the column xmin holds more than numbers"),
    ],
)
def test_a_table_of_boxes_that_is_none_is_told(folder, change, said):
    table = pd.read_csv(folder / "boxed" / "boxes.csv")
    table.assign(**change).to_csv(folder / "boxed" / "boxes.csv")
    with pytest.raises(DataError, match=f"boxes.csv.*{said}"):
        read_scan(folder, read_scan_table(folder).iloc[0])
    table.drop(columns="ymin").to_csv(folder / "boxed" / "boxes.csv")
    with pytest.raises(DataError, match="boxes.csv lacks the columns ymin"):
        read_scan(folder, read_scan_table(folder).iloc[0])


def test_two_boxes_may_lie_on_one_slice(folder):
    boxes = pd.read_csv(folder / "boxed" / "boxes.csv")
    both = pd.concat([boxes, boxes.assign(xmin=6, xmax=7)])
    both.to_csv(folder / "boxed" / "boxes.csv")
    assert read_scan(folder, read_scan_table(folder).iloc[0]).tumour.sum() == 2 * 3 + 2 * 2


def test_a_mask_that_lies_elsewhere_is_told(folder):
    ct = SimpleITK.ReadImage(folder / "boxed" / "ct.nii.gz")
    mask = SimpleITK.Cast(ct > -900, SimpleITK.sitkUInt8)
    SimpleITK.WriteImage(mask, folder / "boxed" / "mask.nrrd")
    table = read_scan_table(folder).assign(mask_file="mask.nrrd")
    assert read_scan(folder, table.iloc[0]).tumour.all()
    mask.SetOrigin((0.0, 5.0, 0.0))
    SimpleITK.WriteImage(mask, folder / "boxed" / "mask.nrrd")
    with pytest.raises(DataError, match=r"mask.nrrd: lies elsewhere than its CT"):
        read_scan(folder, table.iloc[0])


def test_an_archive_cut_short_is_told(folder):
    (folder / "boxed" / "ct.tar.xz").write_bytes(b"\xfd7zXZ\x00cut")
    table = read_scan_table(folder).assign(image_file="ct.tar.xz")
    with pytest.raises(DataError, match="not a readable archive"):
        read_scan(folder, table.iloc[0])
