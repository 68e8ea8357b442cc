from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from annotated import SHAPE, disc, voxels
from typer.testing import CliRunner

from medlib import cli
from medlib.annotation.drawings import Annotation, LesionMask
from medlib.annotation.formats import read_annotation, write_annotation
from medlib.errors import InputError
from medlib.images.image_files import write_mask


def medlib(*arguments):
    return CliRunner().invoke(cli.app, ["annotation", *map(str, arguments)])


@pytest.fixture(autouse=True)
def all_lung(monkeypatch):
    """The small series is all lung; what finds lungs is tested elsewhere."""
    monkeypatch.setattr(
        "medlib.annotation.validate.lung_field", lambda hu, spacing_mm: np.ones(hu.shape, bool)
    )


@pytest.fixture
def good(annotation, volume, series, tmp_path):
    """Two readers who agree."""
    ball = disc((4, 20, 20), 5.0)
    path = tmp_path / "good.csv"
    masks = [LesionMask.cut(1, reader, ball) for reader in (1, 2)]
    write_annotation(Annotation.gather(annotation.grid, masks), path, volume, series)
    return path


def one_line_error(result):
    assert result.exit_code == 2
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("medlib: ")
    return line


def test_the_guide_is_printed():
    result = medlib("protocol")
    assert result.exit_code == 0
    assert "## When to escalate" in result.stdout


def test_check_exits_with_0_1_and_2(good, series, tmp_path):
    result = medlib("check", good, "--series", series)
    assert (result.exit_code, result.stdout) == (0, f"{good}: 1 lesions, 2 readers, 0 findings\n")
    lines = good.read_text().splitlines()
    (tmp_path / "alone.csv").write_text("\n".join(line for line in lines if ",2,1," not in line))
    result = medlib("check", tmp_path / "alone.csv", "--series", series)
    assert result.exit_code == 1
    assert "escalate: reader-missing: the case" in result.stdout
    (tmp_path / "text.csv").write_text("not a table\n")
    assert "lacks the columns" in one_line_error(
        medlib("check", tmp_path / "text.csv", "--series", series)
    )
    one_line_error(medlib("check", tmp_path / "none.csv", "--series", series))
    one_line_error(medlib("check", good, "--series", tmp_path / "none"))
    one_line_error(medlib("check", tmp_path, "--series", series))
    one_line_error(medlib("check", next(series.glob("*.dcm")), "--series", series))


def test_a_grid_mismatch_is_a_finding(volume, series, tmp_path):
    shifted = volume.affine.copy()
    shifted[0, 3] += 40
    path = tmp_path / "a.nii.gz"
    write_mask(disc((4, 20, 20), 5.0), replace(volume, affine=shifted), path)
    result = medlib("check", path, "--series", series)
    assert result.exit_code == 1
    assert result.stdout.startswith("mend: grid-mismatch: ")
    (tmp_path / "b.nii.gz").write_bytes(b"nothing")
    one_line_error(medlib("check", tmp_path / "b.nii.gz", "--series", series))


@pytest.mark.parametrize("out", ["a.csv", "a.dcm", "pair", "a.rtstruct.dcm"])
def test_convert_there_and_back(annotation, volume, series, tmp_path, out):
    whole = Annotation.gather(annotation.grid, annotation.masks)
    write_annotation(whole, tmp_path / "in.csv", volume, series)
    to = ["--to", "rtstruct"] if "rtstruct" in out else []
    result = medlib("convert", tmp_path / "in.csv", tmp_path / out, "--series", series, *to)
    assert result.exit_code == 0, result.stderr
    assert "2 lesions, 4 masks" in result.stdout
    assert voxels(read_annotation(tmp_path / out, volume)) == voxels(whole)
    back = medlib("convert", tmp_path / out, tmp_path / "back.csv", "--series", series)
    assert back.exit_code == 0
    assert (tmp_path / "back.csv").read_text() == (tmp_path / "in.csv").read_text()


def test_convert_says_what_a_format_cannot_hold(good, series, tmp_path):
    one_line_error(medlib("convert", good, tmp_path / "a.xyz", "--series", series))
    one_line_error(medlib("convert", good, tmp_path / "a.csv", "--series", series, "--to", "x"))
    line = one_line_error(medlib("convert", good, tmp_path / "a.nii.gz", "--series", series))
    assert "holds one reader" in line


def test_label_files_hold_one_reader(annotation, volume, series, tmp_path):
    masks = [LesionMask.cut(300, 1, disc((4, 20, 20), 5.0))]
    one = Annotation.gather(annotation.grid, masks)
    write_annotation(one, tmp_path / "a.nii.gz", volume, series)
    assert voxels(read_annotation(tmp_path / "a.nii.gz", volume)) == voxels(one)
    overlap = [*masks, LesionMask.cut(301, 1, disc((4, 20, 23), 5.0))]
    with pytest.raises(InputError, match="share .* voxels"):
        write_annotation(
            Annotation.gather(annotation.grid, overlap), tmp_path / "b.nii.gz", volume, series
        )
    assert not (tmp_path / "b.nii.gz").exists()


def test_revise_from_a_file_then_from_a_review(good, volume, series, tmp_path):
    history = tmp_path / "case"
    role = ["--role", "reader", "--date", "2026-03-01", "--series", series]
    result = medlib("revise", history, "--annotation", good, "--reason", "first", *role)
    assert result.exit_code == 0, result.stderr
    review = tmp_path / "review"
    review.mkdir()
    marked = np.zeros(SHAPE, dtype=np.uint16)
    marked[disc((4, 20, 20), 6.0)] = 1
    write_mask(marked, volume, review / "mask.nii.gz")
    corrected = np.zeros(SHAPE, dtype=np.uint16)
    corrected[disc((4, 20, 20), 4.8)] = 1
    corrected[disc((6, 8, 34), 4.0)] = 2
    write_mask(corrected, volume, tmp_path / "corrected.nii.gz")
    answer = {"series_instance_uid": "1.2.3.4", "role": "reviewer", "reason": "too wide"}
    (review / "decisions.jsonl").write_text(
        json.dumps({**answer, "lesion_id": 1, "answer": "correct"})
        + "\n"
        + json.dumps({**answer, "lesion_id": None, "answer": "correct", "reason": "missed"})
    )
    result = medlib(
        *("revise", history, "--review", review, "--corrected", tmp_path / "corrected.nii.gz"),
        *("--date", "2026-03-02", "--series", series),
    )
    assert result.exit_code == 0, result.stderr
    for words in ("version 2, 2 lesions", "readers added: 3", "lesions added: 2"):
        assert words in result.stdout
    listed = medlib("history", history).stdout.splitlines()
    assert len(listed) == 2
    assert "reviewer" in listed[1]
    assert "correct 2: too wide; missed" in listed[1]
    changed = medlib("diff", f"{history}@1", history)
    assert changed.exit_code == 0
    assert changed.stdout == result.stdout.split("\n", 1)[1]
    assert medlib("diff", good, f"{history}@1", "--series", series).stdout == "no difference\n"
    one_line_error(medlib("diff", good, history))
    one_line_error(medlib("diff", f"{history}@3", history))


def test_revise_refuses_what_has_to_be_mended(good, series, tmp_path):
    header, *lines = good.read_text().splitlines()
    broken = tmp_path / "broken.csv"
    broken.write_text("\n".join([header, *lines, '1,1,1,-900.0,,"3,3 9,3 9,9"']))
    arguments = ["--role", "reader", "--reason", "x", "--date", "2026-03-01", "--series", series]
    result = medlib("revise", tmp_path / "case", "--annotation", broken, *arguments)
    assert result.exit_code == 1
    assert "mend: slice-not-in-series" in result.stdout
    assert not (tmp_path / "case").exists()
    broken.write_text("\n".join([header, *lines, '2,1,1,-900.0,,"3,3 9,3 9,9"']))
    line = one_line_error(medlib("revise", tmp_path / "case", "--annotation", broken, *arguments))
    assert "lesion 2, reader 1: 1 of 1 lines lie on no slice" in line
    one_line_error(medlib("revise", tmp_path / "case", *arguments))
    arguments[1] = "Jane Doe"
    line = one_line_error(medlib("revise", tmp_path / "case", "--annotation", good, *arguments))
    assert "never a name" in line


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.nii"])
def test_label_files_of_other_tools_and_one_label_of_them(volume, series, tmp_path, name):
    labels = np.zeros(SHAPE, np.uint8)
    labels[disc((4, 20, 20), 5.0)], labels[disc((5, 8, 34), 4.0)] = 3, 51
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetOrigin(volume.affine[:3, 3])
    sitk.WriteImage(image, tmp_path / name)
    whole, one = (read_annotation(tmp_path / name, volume, rois) for rois in ([], ["51"]))
    assert [mask.n_voxels for mask in whole.masks] == [(labels == k).sum() for k in (3, 51)]
    assert voxels(one) == voxels(whole)[1:]
    to = ["--series", series, "--by", "reader"]
    result = medlib("convert", tmp_path / name, tmp_path / "a.csv", *to, "--roi", "51")
    assert "1 lesions, 1 masks" in result.stdout
    line = one_line_error(medlib("convert", tmp_path / name, tmp_path / "b.csv", *to, "--roi", "4"))
    assert "no structure '4'" in line
    assert not (tmp_path / "b.csv").exists()


def test_list_names_what_it_expects(series, good, tmp_path):
    for file in (good, tmp_path, tmp_path / "none.dcm", next(series.glob("*.dcm"))):
        assert "SEG or" in one_line_error(medlib("list", file))
    for name, said in (("a.nii.gz", "no DICOM file here"), ("a.txt", "no DICOM; expected")):
        (tmp_path / name).write_bytes(b"text")
        assert said in one_line_error(medlib("list", tmp_path / name))
