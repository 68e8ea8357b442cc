from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from medlib import cli
from medlib.cohorts.detection_boxes import (
    Box,
    BoxedImage,
    boxes_of,
    write_coco,
    write_slices,
    write_yolo,
)
from medlib.images.dicom import write_series
from medlib.images.image_files import write_mask


def filled(box_xywh, shape):
    """The pixels of a box, drawn anew: the inverse of the convention."""
    x, y, width, height = box_xywh
    drawn = np.zeros(shape, bool)
    drawn[y : y + height, x : x + width] = True
    return drawn


def read_yolo(path, width, height):
    """Back to pixels, by what YOLO's numbers mean."""
    found = []
    for line in path.read_text().splitlines():
        category, *numbers = line.split()
        cx, cy, w, h = (float(number) for number in numbers)
        pixels = ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height)
        assert pixels == pytest.approx([round(p) for p in pixels], abs=1e-5)
        found.append((int(category), tuple(round(p) for p in pixels)))
    return found


def test_one_pixel_is_a_box_of_one_by_one():
    mask = np.zeros((4, 5), bool)
    mask[2, 3] = True
    assert boxes_of(mask) == (Box(x=3, y=2, width=1, height=1, pixels=1),)


def test_a_box_holds_first_and_last_pixel():
    mask = np.zeros((8, 10), bool)
    mask[0, 9] = mask[1, 8] = True  # touch at a corner: one lesion
    mask[4:8, 0:3] = True
    assert boxes_of(mask) == (
        Box(x=8, y=0, width=2, height=2, pixels=2),
        Box(x=0, y=4, width=3, height=4, pixels=12),
    )


def test_labels_keep_touching_lesions_apart():
    labels = np.zeros((6, 6), np.uint16)
    labels[1:3, 1:3] = 1
    labels[1:3, 3:6] = 7
    labels[5, 0] = 1  # the same lesion, seen twice in the slice: one box
    found = boxes_of(labels)
    assert found == (Box(0, 1, 3, 5, 5), Box(3, 1, 3, 2, 6))


def test_nothing_has_no_box():
    assert boxes_of(np.zeros((3, 3), bool)) == ()


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 700), columns=st.integers(1, 700), seed=st.integers(0, 2**32 - 1))
def test_both_formats_return_the_same_pixels(tmp_path_factory, rows, columns, seed):
    folder = tmp_path_factory.mktemp("boxes")
    rng = np.random.default_rng(seed)
    top, left = int(rng.integers(rows)), int(rng.integers(columns))
    labels = np.zeros((rows, columns), np.uint8)
    labels[top : rng.integers(top, rows) + 1, left : rng.integers(left, columns) + 1] = 1
    image = BoxedImage("a.png", columns, rows, boxes_of(labels))
    write_coco([image], folder / "boxes.json")
    write_yolo([image], folder)
    (annotation,) = json.loads((folder / "boxes.json").read_text())["annotations"]
    assert np.array_equal(filled(annotation["bbox"], labels.shape), labels == 1)
    assert annotation["area"] == labels.sum()
    ((category, box),) = read_yolo(folder / "a.txt", columns, rows)
    assert category == 0
    assert np.array_equal(filled(box, labels.shape), labels == 1)


def test_slices_of_a_volume(volume, tmp_path):
    labels = np.zeros(volume.hu.shape, np.uint8)
    labels[2:4, 3:7, 1:4] = 1
    labels[3, 9:12, 8:10] = 2
    images = write_slices(volume, labels, tmp_path / "images", "P-1")
    write_coco(images, tmp_path / "boxes.json")
    write_yolo(images, tmp_path / "labels")
    content = json.loads((tmp_path / "boxes.json").read_text())
    assert [len(image.boxes) for image in images] == [0, 0, 1, 2, 0, 0]
    assert len(content["images"]) == 6
    assert {image["patient_id"] for image in content["images"]} == {"P-1"}
    assert content["categories"] == [{"id": 1, "name": "lesion"}]
    assert [a["id"] for a in content["annotations"]] == [1, 2, 3]
    drawn = np.zeros(labels.shape, bool)
    for annotation in content["annotations"]:
        drawn[annotation["image_id"] - 1] |= filled(annotation["bbox"], labels.shape[1:])
        assert annotation["category_id"] == 1
    assert np.array_equal(drawn, labels > 0)
    for k, image in enumerate(images):
        with Image.open(tmp_path / "images" / image.file_name) as written:
            assert written.size == (image.width, image.height)
        found = read_yolo(tmp_path / "labels" / f"P-1_{k:04d}.txt", image.width, image.height)
        assert [box for _, box in found] == [
            (box.x, box.y, box.width, box.height) for box in image.boxes
        ]
    assert (tmp_path / "labels" / "classes.txt").read_text() == "lesion\n"


@pytest.mark.parametrize("whole_numbers", [True, False])
def test_on_the_command_line(volume, tmp_path, whole_numbers):
    """A CT in DICOM with a mask, as somebody who trains a detector has it."""
    labels = np.zeros(volume.hu.shape, np.uint8)
    labels[3, 2:4, 1:4] = 1
    labels[3, 9:12, 8:10] = 2 if whole_numbers else 1
    write_series(volume, tmp_path / "scan")
    write_mask(labels, volume, tmp_path / "mask.nii.gz")

    def convert(to, *arguments):
        given = [str(tmp_path / "scan"), "--to", to, "--out", str(tmp_path / to), *arguments]
        return CliRunner().invoke(cli.app, ["data", "convert", *given])

    for to in ("coco", "yolo"):
        done = convert(to, "--mask", str(tmp_path / "mask.nii.gz"))
        assert done.exit_code == 0, done.stderr
        assert "6 images, 2 boxes" in done.stdout
        assert len(list((tmp_path / to / "images").glob("scan_*.png"))) == 6
        done = convert(to, "--mask", str(tmp_path / "mask.nii.gz"))
        assert (done.exit_code, "exists" in done.stderr) == (2, True)
    found = json.loads((tmp_path / "coco" / "boxes.json").read_text())["annotations"]
    assert [(a["image_id"], a["bbox"]) for a in found] == [(4, [1, 2, 3, 2]), (4, [8, 9, 2, 3])]
    with Image.open(tmp_path / "yolo" / "images" / "scan_0003.png") as image:
        boxes = read_yolo(tmp_path / "yolo" / "labels" / "scan_0003.txt", *image.size)
    assert [box for _, box in boxes] == [tuple(a["bbox"]) for a in found]


def test_what_the_command_refuses(volume, tmp_path):
    write_series(volume, tmp_path / "scan")
    write_mask(np.full(volume.hu.shape, -1, np.int16), volume, tmp_path / "negative.nii.gz")
    for mask, message in (
        ([], "name it with --mask"),
        (["--mask", str(tmp_path / "negative.nii.gz")], "expected a label file"),
        (["--mask", str(tmp_path / "none.nii.gz")], "not a readable NIfTI file"),
    ):
        arguments = ["data", "convert", str(tmp_path / "scan"), "--to", "coco", *mask]
        done = CliRunner().invoke(cli.app, [*arguments, "--out", str(tmp_path / "out")])
        assert done.exit_code == 2
        [line] = done.stderr.splitlines()
        assert message in line
    assert not (tmp_path / "out").exists()
