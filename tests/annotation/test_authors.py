"""A model is not a reader: who drew it travels with every mask."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

import nibabel
import numpy as np
import pydicom
import pytest
from annotated import disc, voxels
from typer.testing import CliRunner

from medlib import cli
from medlib.annotation.drawings import READER, UNKNOWN, Annotation, Author, LesionMask, SeriesGrid
from medlib.annotation.formats import drawn_by, read_annotation, write_annotation
from medlib.errors import InputError
from medlib.images.image_files import write_mask

SHA = "0123456789abcdef" * 4
NET = Author("algorithm", "lung-net, run a", "2.1", SHA)


def medlib(*arguments):
    return CliRunner().invoke(cli.app, ["annotation", *map(str, arguments)])


@pytest.fixture
def both(annotation):
    """Reader 1, in a role, and an algorithm as reader 2."""
    return replace(annotation, authors={1: Author("reader", "reviewer"), 2: NET})


@pytest.mark.parametrize(
    ("text", "author"),
    [
        ("reader", READER),
        ("reader:reviewer", Author("reader", "reviewer")),
        ("algorithm:net", Author("algorithm", "net")),
        ("algorithm:net:2", Author("algorithm", "net", "2")),
        (f"algorithm:net::{SHA}", Author("algorithm", "net", "", SHA)),
        *(
            (text, UNKNOWN)
            for text in ("", "algorithm", "algorithm:", "Jane", "reader:a:b", "5.0.1")
        ),
    ],
)
def test_an_author_as_text(text, author):
    assert Author.parse(text) == author
    if author != UNKNOWN:
        assert str(author) == text


def test_a_brief_text_fits_and_keeps_what_tells_the_weights():
    long = replace(NET, name="ä" * 60)
    assert len(long.brief(80).encode()) in (79, 80)
    assert Author.parse(long.brief(80)).weights_sha256 == SHA[:12]
    assert Author.parse(NET.brief(80)) == replace(NET, weights_sha256=SHA[:12])


def test_an_algorithm_in_a_seg(both, volume, series, tmp_path):
    write_annotation(both, tmp_path / "a.dcm", volume, series)
    segments = pydicom.dcmread(tmp_path / "a.dcm").SegmentSequence
    assert [s.SegmentLabel for s in segments][:2] == [
        "Lesion 1, reader 1 (reviewer)",
        "Lesion 1, algorithm 2",
    ]
    assert [s.SegmentAlgorithmType for s in segments] == ["MANUAL", "AUTOMATIC"] * 2
    assert "SegmentAlgorithmName" not in segments[0]
    assert segments[1].SegmentAlgorithmName == "lung-net, run a"
    [algorithm] = segments[1].SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("lung-net, run a", "2.1")
    assert algorithm.AlgorithmParameters == f"weights_sha256={SHA}"
    back = read_annotation(tmp_path / "a.dcm", volume)
    assert back.authors == both.authors
    assert voxels(back) == voxels(both)


@pytest.mark.dciodvfy
def test_dciodvfy_finds_no_error_in_what_an_algorithm_drew(both, volume, series, tmp_path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy of dicom3tools is not installed")
    write_annotation(both, tmp_path / "a.dcm", volume, series)
    done = subprocess.run(
        ["dciodvfy", tmp_path / "a.dcm"], capture_output=True, text=True, check=False
    )
    assert "Error" not in done.stdout + done.stderr


def test_semiautomatic_stays_so(both, volume, series, tmp_path):
    steered = replace(both, authors={1: READER, 2: replace(NET, steered=True)})
    write_annotation(steered, tmp_path / "a.dcm", volume, series)
    segments = pydicom.dcmread(tmp_path / "a.dcm").SegmentSequence
    assert segments[1].SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert read_annotation(tmp_path / "a.dcm", volume).authors == steered.authors


@pytest.fixture
def result(volume, tmp_path):
    """What `medlib assist` leaves of a model's mask."""
    folder = tmp_path / "result"
    folder.mkdir()
    write_mask(disc((4, 20, 20), 5.0).astype(np.uint16), volume, folder / "mask.nii.gz")
    model = {"name": "lung-net, run a", "sha256": SHA}
    (folder / "report.json").write_text(json.dumps({"model": model}))
    return folder


@pytest.mark.parametrize("to", ["seg", "rtstruct"])
def test_a_models_mask_is_no_readers(result, series, volume, tmp_path, to):
    out = tmp_path / "a.dcm"
    done = medlib("convert", result / "mask.nii.gz", out, "--series", series, "--to", to)
    assert done.exit_code == 0, done.stderr
    dataset = pydicom.dcmread(out)
    if to == "seg":
        [segment] = dataset.SegmentSequence
        assert segment.SegmentLabel == "Lesion 1, algorithm"
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert segment.SegmentAlgorithmName == "lung-net, run a"
        expected = Author("algorithm", "lung-net, run a", "", SHA)
    else:
        [region] = dataset.StructureSetROISequence
        assert region.ROIName == "Lesion 1, algorithm"
        assert region.ROIGenerationAlgorithm == "AUTOMATIC"
        assert region.ROIGenerationDescription == f"lung-net, run a::{SHA[:12]}"
        expected = Author("algorithm", "lung-net, run a", "", SHA[:12])
    assert read_annotation(out, volume).authors == {1: expected}
    line = medlib(
        "convert", result / "mask.nii.gz", out, "--series", series, "--by", "reader"
    ).stderr
    assert "the file itself says algorithm:lung-net, run a" in line


def test_the_header_of_a_label_file_names_its_author(volume, series, tmp_path):
    one = Annotation.gather(SeriesGrid.of(volume), [LesionMask.cut(1, 1, disc((4, 20, 20), 5.0))])
    for author, stated in [
        (NET, f"algorithm:lung-net, run a:2.1:{SHA[:12]}"),
        (READER, "reader"),
        (UNKNOWN, "unknown"),
    ]:
        path = tmp_path / "a.nii.gz"
        write_annotation(replace(one, authors={1: author}), path, volume, series)
        assert bytes(nibabel.load(path).header["descrip"].item()).decode() == stated
        assert read_annotation(path, volume).authors == {1: Author.parse(stated)}


@pytest.mark.parametrize("out", ["a.dcm", "a.rtstruct.dcm", "a.csv", "pair"])
def test_who_drew_is_asked_where_nothing_says_it(volume, series, tmp_path, out):
    write_mask(disc((4, 20, 20), 5.0), volume, tmp_path / "m.nii.gz")
    call = ["convert", tmp_path / "m.nii.gz", tmp_path / out, "--series", series]
    call += ["--to", "rtstruct"] if "rtstruct" in out else []
    asked = medlib(*call)
    assert (asked.exit_code, asked.stdout) == (2, "")
    [line] = asked.stderr.splitlines()
    assert "--by" in line
    assert not (tmp_path / out).exists()
    assert medlib(*call, "--by", "Jane Doe").exit_code == 2
    said = medlib(*call, "--by", "reader:reviewer")
    assert said.exit_code == 0, said.stderr
    read = read_annotation(tmp_path / out, volume)
    assert read.author(1).kind == "reader"


def test_a_foreign_seg_that_names_no_author_is_asked_about(annotation, volume, series, tmp_path):
    write_annotation(annotation, tmp_path / "a.dcm", volume, series)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    for segment in dataset.SegmentSequence:
        del segment.SegmentAlgorithmType
    dataset.save_as(tmp_path / "b.dcm")
    dataset.SegmentSequence[0].SegmentAlgorithmType = "MANUAL"
    dataset.save_as(tmp_path / "half.dcm")
    half = drawn_by(read_annotation(tmp_path / "half.dcm", volume), "algorithm:x")
    assert Author("algorithm", "x") in half.authors.values()
    call = ["convert", tmp_path / "b.dcm", tmp_path / "c.dcm", "--series", series]
    assert "--by" in medlib(*call).stderr
    assert medlib(*call, "--by", "algorithm:other:3").exit_code == 0
    segments = pydicom.dcmread(tmp_path / "c.dcm").SegmentSequence
    assert {s.SegmentAlgorithmName for s in segments} == {"other"}
    back = read_annotation(tmp_path / "c.dcm", volume)
    assert back.authors == dict.fromkeys((1, 2), Author("algorithm", "other", "3"))
    assert voxels(back) == voxels(annotation)


def test_a_reader_may_be_given_a_role_and_no_other_author(annotation, both):
    told = drawn_by(annotation, "reader:resident")
    assert set(told.authors.values()) == {Author("reader", "resident")}
    for who in ("reader", "reader:resident", "algorithm:lung-net"):
        with pytest.raises(InputError, match="the file itself says reader:reviewer, algorithm"):
            drawn_by(both, who)


def test_a_pair_holds_readers_by_definition(both, annotation, volume, series, tmp_path):
    with pytest.raises(InputError, match="drawn by an algorithm"):
        write_annotation(both, tmp_path / "pair", volume, series)
    write_annotation(annotation, tmp_path / "pair", volume, series)
    read = read_annotation(tmp_path / "pair", volume)
    assert {read.author(reader) for reader in read.readers} == {READER}


def test_a_contour_table_names_authors_and_structures(both, annotation, volume, series, tmp_path):
    write_annotation(annotation, tmp_path / "plain.csv", volume, series)
    write_annotation(replace(both, names={2: "GTV-1"}), tmp_path / "a.csv", volume, series)
    header, *rows = (tmp_path / "a.csv").read_text().splitlines()
    plain = (tmp_path / "plain.csv").read_text().splitlines()
    assert header == f"{plain[0]},author,name"
    assert rows[0].startswith(plain[1])
    assert rows[0].endswith(",reader:reviewer,")
    assert rows[-1].endswith(f'algorithm:lung-net, run a:2.1:{SHA}",GTV-1')
    back = read_annotation(tmp_path / "a.csv", volume)
    assert (back.authors, back.names) == (both.authors, {2: "GTV-1"})
    assert voxels(back) == voxels(both)


def test_a_history_keeps_its_authors_and_the_reviewer_is_a_reader(
    both, result, series, volume, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "medlib.annotation.validate.lung_field", lambda hu, spacing_mm: np.ones(hu.shape, bool)
    )
    ball = disc((4, 20, 20), 5.0)
    masks = [LesionMask.cut(1, reader, ball) for reader in (1, 2)]
    agreed = replace(Annotation.gather(both.grid, masks), authors=both.authors)
    write_annotation(agreed, tmp_path / "a.csv", volume, series)
    rest = ["--series", series, "--date", "2026-03-01"]
    begun = ["--annotation", tmp_path / "a.csv", "--role", "reader", "--reason", "first"]
    assert medlib("revise", tmp_path / "case", *begun, *rest).exit_code == 0
    write_mask(disc((4, 20, 20), 4.0), volume, tmp_path / "corrected.nii.gz")
    answer = {"series_instance_uid": "1.2.3.4", "role": "reviewer", "reason": "too wide"}
    (result / "decisions.jsonl").write_text(
        json.dumps({**answer, "lesion_id": 1, "answer": "correct"})
    )
    review = ["--review", result, "--corrected", tmp_path / "corrected.nii.gz"]
    done = medlib("revise", tmp_path / "case", *review, *rest)
    assert done.exit_code == 0, done.stderr
    done = medlib("convert", tmp_path / "case", tmp_path / "a.dcm", "--series", series)
    assert done.exit_code == 0, done.stderr
    authors = read_annotation(tmp_path / "a.dcm", volume).authors
    assert authors == {**both.authors, 3: Author("reader", "reviewer")}
