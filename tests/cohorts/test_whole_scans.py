from __future__ import annotations

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK

from medlib.cohorts.whole_scans import open_table, read_case
from medlib.errors import DataError, InputError


@pytest.fixture
def folder(tmp_path):
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    (tmp_path / "boxed").mkdir()
    hu = np.full((8, 7, 5), -800, np.int16)
    hu[::2] = 40
    nibabel.save(nibabel.Nifti1Image(hu, affine), tmp_path / "boxed" / "ct.nii.gz")
    box = {"slice_index_ascending_z": [2], "xmin": [1], "xmax": [3], "ymin": [4], "ymax": [5]}
    pd.DataFrame(box).to_csv(tmp_path / "boxed" / "boxes.csv")
    row = {"case": "boxed", "licence": "CC BY 4.0", "image_file": "ct.nii.gz"}
    pd.DataFrame([{**row, "mask_file": "boxes.csv"}]).to_csv(tmp_path / "cases.csv")
    return tmp_path


def test_boxes_become_a_mask(folder):
    scan = read_case(folder, open_table(folder).iloc[0])
    assert (scan.label_kind, scan.split, scan.patient_id) == ("boxes", "test", "boxed")
    assert scan.reference.shape == (5, 7, 8)
    assert scan.reference.sum() == 2 * 3
    assert scan.reference[2, 4:6, 1:4].all()
    assert scan.lesions["diameter_mm"].isna().all()  # a box holds the lesion and more


def test_a_box_beyond_the_scan_is_told(folder):
    boxes = pd.read_csv(folder / "boxed" / "boxes.csv")
    for change in (
        {"slice_index_ascending_z": 5},
        *({"xmin": -1}, {"xmin": 4}, {"xmax": 8}, {"ymax": 7}, {"ymin": -1e30}, {"ymax": np.inf}),
    ):
        boxes.assign(**change).to_csv(folder / "boxed" / "boxes.csv")
        with pytest.raises(DataError, match="1 of 1 boxes do not lie on the 5 slices of 7 rows"):
            read_case(folder, open_table(folder).iloc[0])


@pytest.mark.parametrize("values", [0.3, -1, np.nan], ids=["probabilities", "negative", "NaN"])
def test_a_mask_that_is_no_label_file_is_told(folder, values):
    ct = nibabel.load(folder / "boxed" / "ct.nii.gz")
    mask = np.zeros(ct.shape, np.float32)
    table = open_table(folder).assign(label_file="mask.nii", label_kind="outline")
    for marked in (1, values):
        mask[2:4, 2, 2] = marked
        nibabel.save(nibabel.Nifti1Image(mask, ct.affine), folder / "boxed" / "mask.nii")
        if marked == 1:
            assert read_case(folder, table.iloc[0]).reference.sum() == 2
    with pytest.raises(InputError, match="no whole numbers from 0"):
        read_case(folder, table.iloc[0])


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
        read_case(folder, open_table(folder).iloc[0])
    table.drop(columns="ymin").to_csv(folder / "boxed" / "boxes.csv")
    with pytest.raises(DataError, match="boxes.csv lacks the columns ymin"):
        read_case(folder, open_table(folder).iloc[0])


def test_two_boxes_may_lie_on_one_slice(folder):
    boxes = pd.read_csv(folder / "boxed" / "boxes.csv")
    both = pd.concat([boxes, boxes.assign(xmin=6, xmax=7)])
    both.to_csv(folder / "boxed" / "boxes.csv")
    assert read_case(folder, open_table(folder).iloc[0]).reference.sum() == 2 * 3 + 2 * 2


def test_a_mask_that_lies_elsewhere_is_told(folder):
    ct = SimpleITK.ReadImage(folder / "boxed" / "ct.nii.gz")
    mask = SimpleITK.Cast(ct > -900, SimpleITK.sitkUInt8)
    SimpleITK.WriteImage(mask, folder / "boxed" / "mask.nrrd")
    table = open_table(folder).assign(label_file="mask.nrrd", label_kind="outline")
    assert read_case(folder, table.iloc[0]).reference.all()
    mask.SetOrigin((0.0, 5.0, 0.0))
    SimpleITK.WriteImage(mask, folder / "boxed" / "mask.nrrd")
    with pytest.raises(InputError, match=r"mask.nrrd: the mask lies 0 x 5 x 0 voxels from"):
        read_case(folder, table.iloc[0])


def test_an_archive_cut_short_is_told(folder):
    (folder / "boxed" / "ct.tar.xz").write_bytes(b"\xfd7zXZ\x00cut")
    table = open_table(folder).assign(image_file="ct.tar.xz")
    with pytest.raises(DataError, match="not a readable archive"):
        read_case(folder, table.iloc[0])


def labelled(folder, **row) -> pd.DataFrame:
    """Write a table that says what its labels are."""
    known = {"case": "boxed", "licence": "CC BY 3.0", "image_file": "ct.nii.gz"}
    pd.DataFrame([known | row]).to_csv(folder / "cases.csv", index=False)
    return open_table(folder)


def save(folder, name: str, values: np.ndarray) -> None:
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(values, affine), folder / "boxed" / name)


def test_the_nodules_of_readers_are_told_apart(folder):
    bits = np.zeros((8, 7, 5), np.uint8)  # x, y, z
    bits[1:3, 1, 1:3], bits[1, 1, 1] = 0b011, 0b111
    bits[6, 5, 3], bits[6, 5, 1] = 0b001, 0b010  # one nodule of two readers in two pieces
    save(folder, "readers.nii.gz", bits)
    boxes = {
        "nodule_id": ["p/1", "p/2"],
        "column_min": [6, 1], "column_max": [6, 2], "row_min": [5, 1], "row_max": [5, 1],
        "slice_min": [1, 1], "slice_max": [3, 2], "malignancy_median": [2.0, 5.0],
    }  # fmt: skip
    pd.DataFrame(boxes).to_csv(folder / "boxed" / "a_nodules.csv", index=False)
    row = {"label_kind": "readers", "label_file": "readers.nii.gz"}
    found = read_case(folder, labelled(folder, **row, other_files="a.dcm;a_nodules.csv").iloc[0])
    assert found.lesions["n_readers"].tolist() == [2, 3]
    assert found.lesions["origin"].tolist() == ["p/1", "p/2"]
    assert found.lesions["malignancy"].tolist() == [2, 5]
    assert [int((found.lesion_labels == k).sum()) for k in (1, 2)] == [2, 4]
    assert found.reference.sum() == 4  # at least two readers
    alone = read_case(folder, labelled(folder, **row).iloc[0])
    assert sorted(alone.lesions["n_readers"]) == [1, 1, 3]  # what hangs together
    pd.DataFrame(boxes)[:1].to_csv(folder / "boxed" / "a_nodules.csv", index=False)
    with pytest.raises(DataError, match="an outline lies in no nodule's box"):
        read_case(folder, labelled(folder, **row, other_files="a_nodules.csv").iloc[0])


def test_doubtful_boxes_leave_out_what_is_labelled(folder):
    mask = np.zeros((8, 7, 5), np.uint8)
    mask[1:3, 4, 2] = 1
    save(folder, "mask.nii.gz", mask)
    row = {"doubtful_file": "boxes.csv"}
    table = labelled(folder, **row, label_kind="algorithms", label_file="mask.nii.gz")
    found = read_case(folder, table.iloc[0])
    assert (found.reference.sum(), found.doubtful.sum()) == (2, 2 * 3 - 2)
    nothing = read_case(folder, labelled(folder, **row, label_kind="none", label_file="").iloc[0])
    assert nothing.lesions.empty
    assert not nothing.readers.any()
    assert nothing.doubtful.sum() == 2 * 3


def test_a_label_that_is_none_is_told(folder):
    with pytest.raises(DataError, match="kind 'guess'; expected readers, outline, algorithms"):
        labelled(folder, label_kind="guess", label_file="boxes.csv")
    with pytest.raises(DataError, match="boxed has the label kind 'outline' and no label_file"):
        labelled(folder, label_kind="outline")
