"""Structure sets of other programs: which structures are taken, and what damage says."""

from __future__ import annotations

import tarfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from structure_sets import INNER, SQUARE, contour, structures
from typer.testing import CliRunner

from medlib import cli
from medlib.annotation.formats import read_annotation
from medlib.errors import InputError
from medlib.images.dicom import read_series


def test_the_command_line_prints_what_was_found(grid, series, tmp_path):
    path = structures(tmp_path / "a.dcm", *[contour(grid, SQUARE, 4)] * 2)
    for command in (["check"], ["convert", tmp_path / "a.nii.gz"]):
        command.insert(1, path)
        arguments = ["annotation", *map(str, command), "--series", str(series)]
        result = CliRunner().invoke(cli.app, arguments)
        assert "1 of 2 lines are listed twice: taken once" in result.stderr
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "a.nii.gz").dataobj).T.sum(), 64)


def odd(dataset, what):
    [first, *_] = dataset.ROIContourSequence[0].ContourSequence
    if what == "not a number":
        first.ContourData = ["nan", *first.ContourData[1:]]
    elif what == "endless":
        first.ContourData = ["1e999", *first.ContourData[1:]]
    elif what == "two numbers a point":
        first.ContourData = first.ContourData[:-1]
    elif what == "huge":
        first.ContourData = [f"{value * 1e30:.6g}" for value in first.ContourData]
    elif what == "no names":
        del dataset.StructureSetROISequence[0].ROIName
    elif what == "no contours":
        del dataset.ROIContourSequence
    elif what == "no number":
        del dataset.ROIContourSequence[0].ReferencedROINumber
    elif what == "no list":
        del dataset.StructureSetROISequence
    elif what == "text":
        dataset.StructureSetROISequence[0].ROINumber = None


@pytest.mark.parametrize(
    "what",
    [
        *("not a number", "endless", "two numbers a point", "huge", "no names", "no contours"),
        *("no number", "no list", "text"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_read_is_one_line(grid, series, tmp_path, what):
    path = structures(tmp_path / "a.dcm", contour(grid, SQUARE, 4))
    dataset = pydicom.dcmread(path)
    odd(dataset, what)
    dataset.save_as(path)
    for out in ("a.nii.gz", "a.csv", "b.dcm"):
        arguments = ["annotation", "convert", path, tmp_path / out, "--series", series]
        result = CliRunner().invoke(cli.app, list(map(str, arguments)))
        assert result.exit_code == 2, result.output
        assert "medlib: " in result.stderr.splitlines()[-1]
        assert not (tmp_path / out).exists()


def test_what_is_no_lesion_or_has_no_line_is_named_and_left_out(volume, grid, tmp_path):
    line = contour(grid, SQUARE, 4)
    point = contour(grid, [(12, 12)], 4, "POINT")
    more = [
        (2, "Tumor marker", "MARKER", [line]),
        (3, "Isocenter tumor", "ISOCENTER", [point]),
        (4, "BODY", "EXTERNAL", [line]),
        (5, "GTV node", "", None),
        (6, "GTV point", "", [point]),
        (7, "GTV", "", [contour(grid, SQUARE + 12, 5)]),  # a second of this name
    ]
    path = structures(tmp_path / "a.dcm", line, more=more)
    annotation = read_annotation(path, volume)
    assert [(mask.lesion, mask.n_voxels) for mask in annotation.masks] == [(1, 64), (7, 64)]
    assert annotation.names[1] == annotation.names[7] == "GTV"
    left, empty = annotation.notes
    assert left == "left out: 2 'Tumor marker', 3 'Isocenter tumor', 4 'BODY'"
    assert empty == "no closed contour in 5 'GTV node', 6 'GTV point'"
    [chosen] = read_annotation(path, volume, ["body"]).masks
    assert chosen.n_voxels == 64
    with pytest.raises(InputError, match="no closed contour in 5 'GTV node'; expected some"):
        read_annotation(path, volume, ["5"])


@pytest.mark.parametrize(
    ("number", "name"), [(1, "Heart"), (2, "Lesion 1, reader 1")], ids=["number", "name"]
)
def test_structures_that_cannot_be_told_apart_are_refused(volume, grid, tmp_path, number, name):
    lines = [contour(grid, INNER, 4)]
    path = structures(
        tmp_path / "a.dcm",
        contour(grid, SQUARE, 4),
        name="Lesion 1, reader 1",
        more=[(number, name, "ORGAN", lines)],
    )
    with pytest.raises(InputError, match="cannot be told apart: 1 'Lesion 1, reader 1'"):
        read_annotation(path, volume)


# Files of other programs


def unpacked(archive: Path, folder: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


@pytest.mark.real_ct
@pytest.mark.parametrize("case", ["LUNG1-001", "LUNG1-002", "NSCLC-R01-001"])
def test_structures_of_other_programs_are_their_masks_voxel_for_voxel(real_ct, tmp_path, case):
    """Varian ARIA, CMS XiO and rt-utils; the masks beside them were made by others."""
    if case.startswith("LUNG1"):
        folder = real_ct / "full_ct" / case
        [drawn] = unpacked(
            folder / f"{case}_rtstruct_dicom.tar.xz", tmp_path / "rtstruct"
        ).iterdir()
        series = unpacked(folder / f"{case}_ct_dicom.tar.xz", tmp_path / "ct")
        mask, rois, left_out = "mask_GTV-1", (), "Lung"
    else:
        folder = real_ct / "whole_ct" / case
        drawn = folder / f"{case}_rtstruct.dcm"
        series = unpacked(folder / f"{case}_ct_dicom.tar", tmp_path / "ct")
        mask, rois, left_out = "mask", ("ROI-1",), "no line on 1 of its 20 slices"
    [volume] = read_series(series)
    annotation = read_annotation(drawn, volume, rois)
    [found] = annotation.masks
    beside = np.asanyarray(nib.load(folder / f"{case}_{mask}.nii.gz").dataobj).T > 0
    ours = np.zeros(volume.hu.shape, dtype=bool)
    ours[found.block] = found.mask
    assert int((ours != beside).sum()) == 0
    assert beside.sum() in (54639, 125204, 2719)
    assert left_out in " ".join(annotation.notes)
