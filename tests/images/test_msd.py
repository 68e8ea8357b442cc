from __future__ import annotations

import json

import nibabel
import numpy as np
import pandas as pd
import pytest

from medlib.errors import DataError, OverlapError
from medlib.images.datasets.msd import read_msd
from medlib.images.datasets.table import COLUMNS
from medlib.images.image_files import read_image
from medlib.images.nifti import read_mask

AFFINE = np.diag([0.7, 0.7, 2.5, 1.0])


def save(path, values, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


@pytest.fixture
def task(tmp_path):
    """Two training images, one of them without cancer, and a test image."""
    folder = tmp_path / "Task06_Lung"
    rng = np.random.default_rng(0)
    for k in (1, 3):
        save(
            folder / f"imagesTr/lung_{k:03d}.nii.gz", rng.normal(size=(6, 5, 4)).astype(np.float32)
        )
        mask = np.zeros((6, 5, 4), np.uint8)
        mask[1:3, 2, 1] = k == 3
        save(folder / f"labelsTr/lung_{k:03d}.nii.gz", mask)
    save(folder / "imagesTs/lung_002.nii.gz", np.zeros((6, 5, 4), np.float32))
    content = {
        "name": "Lung",
        "labels": {"0": "background", "1": "cancer"},
        "training": [
            {"image": f"./imagesTr/lung_{k:03d}.nii.gz", "label": f"./labelsTr/lung_{k:03d}.nii.gz"}
            for k in (1, 3)
        ],
        "test": ["./imagesTs/lung_002.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def change(task, **changes):
    path = task / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_table(task):
    table = read_msd(task, site="MSKCC")
    assert tuple(table.columns) == COLUMNS
    assert table["image_id"].tolist() == ["lung_001", "lung_003", "lung_002"]
    assert table["label"].tolist() == pytest.approx([0, 1, np.nan], nan_ok=True)
    assert table["label_weight"].tolist() == [1, 1, 0]
    assert table["split"].tolist() == ["train", "train", "test"]
    assert set(table["finding"]) == {"cancer"}
    assert set(table["site"]) == {"MSKCC"}
    assert pd.isna(table["mask_path"][2])
    assert read_msd(task)["site"].isna().all()


def test_paths_of_the_table_read_as_volume_and_mask(task):
    row = read_msd(task).iloc[1]
    volume = read_image(task / "imagesTr" / "lung_003.nii.gz")
    assert row["image_path"] == str(task / "imagesTr" / "lung_003.nii.gz")
    mask = read_mask(task / "labelsTr" / "lung_003.nii.gz", volume)
    assert row["mask_path"].endswith("labelsTr/lung_003.nii.gz")
    assert np.argwhere(mask).tolist() == [[1, 2, 1], [1, 2, 2]]
    assert volume.spacing_mm == pytest.approx((2.5, 0.7, 0.7))


def test_a_row_a_class_and_channels(task):
    change(task, labels={"0": "background", "1": "cancer", "2": "cyst"})
    save(task / "imagesTr/lung_001.nii.gz", np.zeros((6, 5, 4, 2), np.float32))
    table = read_msd(task)
    assert table["finding"].tolist() == ["cancer", "cyst"] * 3
    assert table["label"].tolist()[:4] == [0, 0, 1, 0]


def test_patients_by_pattern(task):
    with pytest.raises(OverlapError, match="lung"):
        read_msd(task, patients=r"^(lung)_")  # one patient in train and test
    with pytest.raises(DataError, match="finds no patient"):
        read_msd(task, patients=r"liver_(\d+)")
    assert read_msd(task, patients=r"_(\d+)$")["patient_id"].tolist() == ["001", "003", "002"]


def damage_shape(task):
    save(task / "labelsTr/lung_003.nii.gz", np.zeros((6, 5, 3), np.uint8))


def damage_place(task):
    moved = AFFINE.copy()
    moved[0, 3] = 4
    save(task / "labelsTr/lung_003.nii.gz", np.zeros((6, 5, 4), np.uint8), moved)


def damage_values(task):
    save(task / "labelsTr/lung_003.nii.gz", np.full((6, 5, 4), 7, np.uint8))


def damage_fractions(task):
    save(task / "labelsTr/lung_003.nii.gz", np.full((6, 5, 4), 0.5, np.float32))


def damage_missing(task):
    (task / "imagesTs/lung_002.nii.gz").unlink()


def damage_file(task):
    (task / "imagesTr/lung_001.nii.gz").write_bytes(b"no nifti")


def damage_cut(task):
    path = task / "labelsTr/lung_001.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])


def damage_json(task):
    (task / "dataset.json").write_text("{")


def damage_list(task):
    (task / "dataset.json").write_text("[]")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_shape, r"\(6, 5, 3\) voxels, its image \(6, 5, 4\)"),
        (damage_place, r"lies 4\.0 mm from its image"),
        (damage_values, "has the value 7"),
        (damage_fractions, "holds fractions"),
        (damage_missing, "lung_002.nii.gz: no such file"),
        (damage_file, "not a readable NIfTI file"),
        (damage_cut, "lung_001.nii.gz: (cut off|not a readable)"),
        (damage_json, "not readable as JSON"),
        (damage_list, "holds no JSON object"),
        (lambda task: (task / "dataset.json").unlink(), "no such file"),
        (lambda task: change(task, labels={"0": "background"}), "no class other than background"),
        (lambda task: change(task, labels=["background"]), "'labels' is"),
        (lambda task: change(task, training=[]) or change(task, test=[]), "no image found"),
        (lambda task: change(task, training=["a.nii.gz"]), "expected an 'image' and a 'label'"),
        (lambda task: change(task, training=3), "are no lists"),
        (lambda task: change(task, test=["../../secret.nii.gz"]), "inside the folder"),
    ],
)
def test_what_cannot_be_read(task, damage, message):
    damage(task)
    with pytest.raises(DataError, match=message) as caught:
        read_msd(task)
    assert "\n" not in str(caught.value)
