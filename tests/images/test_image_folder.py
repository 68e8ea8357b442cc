from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from medlib.errors import DataError
from medlib.images.datasets.image_folder import read_image_folder, read_picture_mask
from medlib.images.datasets.table import COLUMNS
from medlib.images.splits import split_patients


def picture(folder, number, shape=(6, 9)):
    rng = np.random.default_rng(number)
    path = folder / f"ISIC_{number:07d}.jpg"
    Image.fromarray(rng.integers(0, 255, (*shape, 3), dtype=np.uint8)).save(path)


def outline(folder, number, inside=True, shape=(6, 9), value=255):
    values = np.zeros(shape, np.uint8)
    values[2:4, 3:7] = value * inside
    Image.fromarray(values).save(folder / f"ISIC_{number:07d}_segmentation.png")
    return values > 0


@pytest.fixture
def isic(tmp_path):
    for number in (0, 1, 13):
        picture(tmp_path, number)
        outline(tmp_path, number, inside=number != 1)
    (tmp_path / "ATTRIBUTION.txt").write_text("as ISIC has it")
    return tmp_path


def test_the_table(isic):
    table = read_image_folder(isic, isic, patients=None, split="train")
    assert tuple(table.columns) == COLUMNS
    assert table["image_id"].tolist() == ["ISIC_0000000", "ISIC_0000001", "ISIC_0000013"]
    assert table["patient_id"].tolist() == table["image_id"].tolist()
    assert table["label"].tolist() == [1, 0, 1]
    assert table["mask_path"][2] == str(isic / "ISIC_0000013_segmentation.png")
    assert set(table["split"]) == {"train"}
    assert table["site"].isna().all()


def test_patients_of_a_metadata_table_keep_together(isic):
    patients = {"ISIC_0000000": "IP_1", "ISIC_0000001": "IP_2", "ISIC_0000013": "IP_1"}
    table = read_image_folder(isic, isic, patients=patients)
    parts = split_patients(table, {"train": 0.5, "test": 0.5}, seed=0)
    assert parts[0] == parts[2] != parts[1]
    with pytest.raises(DataError, match=r"no patient for 1 \(ISIC_0000013\)"):
        read_image_folder(isic, isic, patients={"ISIC_0000000": "a", "ISIC_0000001": "b"})
    with pytest.raises(TypeError):
        read_image_folder(isic, isic)  # whose images they are is never implied


def test_two_folders_and_none(isic, tmp_path_factory):
    masks = tmp_path_factory.mktemp("GroundTruth")
    for path in isic.glob("*_segmentation.png"):
        path.rename(masks / path.name)
    assert read_image_folder(isic, masks, patients=None)["label"].tolist() == [1, 0, 1]
    bare = read_image_folder(isic, None, patients=None, split="test")
    assert bare["mask_path"].isna().all()
    assert bare["label"].isna().all()
    assert (bare["label_weight"] == 0).all()


def test_unmatched_ones_are_named(isic):
    picture(isic, 20)
    outline(isic, 30)
    with pytest.raises(DataError) as caught:
        read_image_folder(isic, isic, patients=None)
    assert "1 (ISIC_0000020) without a mask" in str(caught.value)
    assert "masks of 1 (ISIC_0000030) without an image" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sizes_must_agree(isic):
    outline(isic, 13, shape=(9, 6))
    with pytest.raises(DataError, match="_segmentation.png has 9 x 6 pixels, .*jpg 6 x 9"):
        read_image_folder(isic, isic, patients=None)


def test_masks_of_two_values_only(isic, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("masks")
    for value in (1, 128, 255):
        expected = outline(tmp_path, 50, value=value)
        assert np.array_equal(
            read_picture_mask(tmp_path / "ISIC_0000050_segmentation.png"), expected
        )
    Image.fromarray(expected).save(tmp_path / "bits.png")
    assert np.array_equal(read_picture_mask(tmp_path / "bits.png"), expected)
    values = np.arange(54, dtype=np.uint8).reshape(6, 9)
    Image.fromarray(values).save(isic / "ISIC_0000013_segmentation.png")
    with pytest.raises(DataError, match="54 values from 0 to 53"):
        read_image_folder(isic, isic, patients=None)


@pytest.mark.parametrize("name", ["ISIC_0000013.jpg", "ISIC_0000013_segmentation.png"])
def test_damaged_files(isic, name):
    (isic / name).write_bytes(b"no picture")
    with pytest.raises(DataError, match=f"{name}: not a readable image"):
        read_image_folder(isic, isic, patients=None)


def test_a_cut_mask(isic):
    path = isic / "ISIC_0000013_segmentation.png"
    path.write_bytes(path.read_bytes()[:-25])
    with pytest.raises(DataError, match="not a readable image"):
        read_image_folder(isic, isic, patients=None)


def test_names_twice_and_nothing(isic, tmp_path):
    Image.fromarray(np.zeros((6, 9), np.uint8)).save(isic / "ISIC_0000013.png")
    with pytest.raises(DataError, match=r"ISIC_0000013\.jpg and ISIC_0000013\.png have one name"):
        read_image_folder(isic, isic, patients=None)
    with pytest.raises(DataError, match="no such folder"):
        read_image_folder(tmp_path / "none", None, patients=None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image found"):
        read_image_folder(tmp_path / "empty", None, patients=None)
