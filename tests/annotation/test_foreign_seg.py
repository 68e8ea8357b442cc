"""SEG files as other programs write them: read by geometry, or refused with the reason."""

from __future__ import annotations

import copy
import sqlite3
import tarfile
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from annotated import SHAPE, disc, voxels
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from medlib import cli
from medlib.annotation.drawings import Author, GridMismatchError, SeriesGrid
from medlib.annotation.formats import list_structures, read_annotation, write_annotation
from medlib.annotation.seg import read_seg
from medlib.errors import InputError
from medlib.images.dicom import read_series
from medlib.images.image_files import read_mask

TISSUE = CodedConcept("85756007", "SCT", "Tissue")
HEART = CodedConcept("80891009", "SCT", "Heart")
NODULE = CodedConcept("27925004", "SCT", "Nodule")
TYPES = hd.seg.SegmentationTypeValues


def foreign(series: Path, path: Path, segments, pixels, kind=TYPES.BINARY, **more) -> Path:
    """Write segments of these names and codes, by highdicom alone; pixels [z, y, x(, segment)]."""
    images = [pydicom.dcmread(file) for file in sorted(series.glob("*.dcm"))]
    descriptions = [
        hd.seg.SegmentDescription(number, label, TISSUE, code, "MANUAL")
        for number, (label, code) in enumerate(segments, 1)
    ]
    hd.seg.Segmentation(
        images,
        pixels,
        kind,
        descriptions,
        hd.UID(),
        1,
        hd.UID(),
        1,
        "M",
        "X",
        "1",
        "0",
        **more,
    ).save_as(path)
    return path


@pytest.fixture
def three(series, tmp_path):
    """A heart, a lesion and what may be anything."""
    pixels = np.stack(
        [disc((4, 10, 10), 6.0), disc((4, 20, 20), 5.0), disc((5, 30, 30), 4.0)], axis=-1
    )
    names = [("Heart", HEART), ("GTV-1", TISSUE), ("Segment_3", TISSUE)]
    return foreign(series, tmp_path / "three.dcm", names, pixels.astype(np.uint8))


def edited(path: Path, edit) -> Path:
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(path)
    return path


def test_only_what_is_a_lesion_is_taken(three, volume):
    read = read_annotation(three, volume)
    [mask] = read.masks
    assert (mask.lesion, mask.reader) == (2, 1)
    assert np.array_equal(np.argwhere(disc((4, 20, 20), 5.0)).min(axis=0), mask.start_zyx)
    assert mask.n_voxels == disc((4, 20, 20), 5.0).sum()
    assert read.names == {2: "GTV-1"}
    assert read.notes == ("left out: 1 'Heart', 3 'Segment_3'",)


def test_an_organ_that_was_asked_for_is_no_nodule(three, volume, series, tmp_path):
    out = tmp_path / "heart.dcm"
    done = CliRunner().invoke(
        cli.app,
        ["annotation", "convert", str(three), str(out), "--series", str(series)]
        + [f"--roi={roi}" for roi in ("heart", "2")],
    )
    assert done.exit_code == 0, done.stderr
    assert "left out: 3 'Segment_3'" in done.stderr
    heart, tumour = pydicom.dcmread(out).SegmentSequence
    assert heart.SegmentLabel == "Structure 1 (Heart), reader 1"
    assert heart.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Heart"
    assert "AnatomicRegionSequence" not in heart
    assert tumour.SegmentLabel == "Lesion 2 (GTV-1), reader 1"
    assert read_annotation(out, volume).names == {2: "GTV-1"}
    back = read_annotation(out, volume, ["Heart", "GTV-1"])
    assert back.names == {1: "Heart", 2: "GTV-1"}
    assert voxels(back) == voxels(read_annotation(three, volume, ["1", "2"]))
    listed = CliRunner().invoke(cli.app, ["annotation", "list", str(out)]).stdout.splitlines()
    assert listed[0].startswith("1  Structure 1 (Heart), reader 1  Heart (80891009 SCT)  reader  ")
    assert len(listed) == 2


def test_a_refusal_is_one_line_though_something_was_left_out(three, series, tmp_path):
    edited(three, lambda d: delattr(d.SegmentSequence[1], "SegmentAlgorithmType"))
    call = ["annotation", "convert", str(three), str(tmp_path / "a.csv"), "--series", str(series)]
    refused = CliRunner().invoke(cli.app, call)
    assert refused.exit_code == 2
    [line] = refused.stderr.splitlines()
    assert "--by" in line
    done = CliRunner().invoke(cli.app, [*call, "--by", "reader"])
    assert "left out: 1 'Heart', 3 'Segment_3'" in done.stderr
    assert done.exit_code == 0


def test_without_a_lesion_nothing_is_taken(three, volume, series, tmp_path):
    edited(three, lambda d: setattr(d.SegmentSequence[1], "SegmentLabel", "Liver"))
    with pytest.raises(InputError, match=r"1 'Heart', 2 'Liver', 3 'Segment_3'; choose with --roi"):
        read_annotation(three, volume)


@pytest.mark.parametrize("kind", ["PROBABILITY", "OCCUPANCY"])
def test_fractional_is_read_at_half(series, volume, tmp_path, kind):
    distance = np.linalg.norm(np.indices(SHAPE).transpose(1, 2, 3, 0) - (4, 20, 20), axis=-1)
    share = np.clip(1.5 - distance / 8, 0, 1)
    path = foreign(
        *(series, tmp_path / "a.dcm", [("Nodule", NODULE)], share, TYPES.FRACTIONAL),
        fractional_type=kind,
        max_fractional_value=200,
    )
    read = read_annotation(path, volume)
    inside = np.zeros(SHAPE, bool)
    [mask] = read.masks
    inside[mask.block] = mask.mask
    assert np.array_equal(inside, np.around(share * 200) >= 100)
    assert read.notes == (
        f"FRACTIONAL ({kind.lower()}): inside is what has 0.5 of the highest value or more",
    )


def test_labelmap_is_read(series, volume, tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[disc((4, 20, 20), 5.0)] = 2
    labels[disc((4, 8, 8), 4.0)] = 1
    segments = [("Lesion A", NODULE), ("Lesion B", NODULE)]
    path = foreign(series, tmp_path / "a.dcm", segments, labels, TYPES.LABELMAP)
    read = read_annotation(path, volume)
    assert [mask.n_voxels for mask in read.masks] == [(labels == k).sum() for k in (1, 2)]
    assert read.names == {1: "Lesion A", 2: "Lesion B"}
    holding = [(labels == k).any(axis=(1, 2)).sum() for k in (1, 2)]
    assert [one.parts for one in list_structures(path)[-2:]] == holding


def test_images_named_twice_and_groups_shared_by_all_frames(three, volume):
    """As 3D Slicer wrote in 2014: highdicom refuses such a file."""
    expected = voxels(read_annotation(three, volume))

    def spoil(dataset):
        [listed] = dataset.ReferencedSeriesSequence
        study = Dataset()
        study.StudyInstanceUID = "1.2.9"
        study.ReferencedSeriesSequence = [copy.deepcopy(listed)]
        dataset.StudiesContainingOtherReferencedInstancesSequence = [study]
        twice = [*listed.ReferencedInstanceSequence, *listed.ReferencedInstanceSequence]
        listed.ReferencedInstanceSequence = [copy.deepcopy(item) for item in twice]
        own = dataset.PerFrameFunctionalGroupsSequence
        keep = [k for k, g in enumerate(own) if _segment(g) == 2]
        frames = dataset.pixel_array[keep]
        dataset.SharedFunctionalGroupsSequence[0].SegmentIdentificationSequence = own[
            keep[0]
        ].SegmentIdentificationSequence
        dataset.PerFrameFunctionalGroupsSequence = [own[k] for k in keep]
        for group in dataset.PerFrameFunctionalGroupsSequence:
            del group.SegmentIdentificationSequence
        dataset.NumberOfFrames = len(keep)
        dataset.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()

    def _segment(group):
        return group.SegmentIdentificationSequence[0].ReferencedSegmentNumber

    edited(three, spoil)
    with pytest.raises(sqlite3.IntegrityError):
        hd.seg.segread(three)
    assert voxels(read_annotation(three, volume)) == expected


def test_no_preamble_and_no_transfer_syntax(three, volume, tmp_path):
    expected, data = voxels(read_annotation(three, volume)), three.read_bytes()
    (tmp_path / "a.dcm").write_bytes(data[132:])
    dataset = pydicom.dcmread(three)
    del dataset.file_meta.TransferSyntaxUID
    dataset.save_as(tmp_path / "b.dcm", implicit_vr=False, little_endian=True)
    for name in ("a.dcm", "b.dcm"):
        assert voxels(read_annotation(tmp_path / name, volume)) == expected


def test_positions_rounded_to_a_tenth_of_a_millimetre(three, volume):
    expected = voxels(read_annotation(three, volume))

    def rounded(dataset):
        for group in dataset.PerFrameFunctionalGroupsSequence:
            plane = group.PlanePositionSequence[0]
            plane.ImagePositionPatient = [round(float(v), 1) for v in plane.ImagePositionPatient]

    assert voxels(read_annotation(edited(three, rounded), volume)) == expected


def test_a_seg_of_more_rows_and_slices_than_the_series(three, volume):
    """The series was cut out of what was drawn on: what coincides is read, or counted."""
    whole = read_annotation(three, volume)
    [mask] = whole.masks

    def cropped(z, y):
        affine = volume.affine.copy()
        affine[:3, 3] = volume.to_patient_mm(np.array([z.start, y.start, 0.0]))
        uid, uids = volume.identity.series_instance_uid, volume.sop_instance_uids[z]
        return SeriesGrid(uid, (z.stop - z.start, y.stop - y.start, SHAPE[2]), affine, uids)

    [again] = read_seg(three, cropped(slice(1, 8), slice(9, 38))).masks
    assert again.start_zyx == tuple(np.array(mask.start_zyx) - (1, 9, 0))
    assert np.array_equal(again.mask, mask.mask)
    inside = disc((4, 20, 20), 5.0)[:4].sum()
    with pytest.raises(GridMismatchError, match=f"{mask.n_voxels - inside} voxels .* outside"):
        read_seg(three, cropped(slice(0, 4), slice(0, 40)))


def test_what_lies_between_slices_or_on_other_pixels_is_refused(three, annotation):
    grid = annotation.grid
    between, wide = grid.affine.copy(), grid.affine.copy()
    between[2, 3] += 1.25
    wide[0, 0] *= 1.01
    for affine in (between, wide):
        with pytest.raises(GridMismatchError, match="frame .* does not lie on the voxels"):
            read_seg(three, replace(grid, affine=affine, sop_instance_uids=()))


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_file_ends_in_one_line(three, annotation, series, seed):
    """Bytes and bits changed anywhere, or the end cut off."""
    rng = np.random.default_rng(seed)
    whole = three.read_bytes()
    for _ in range(10):
        data = bytearray(whole)
        for at in rng.integers(132, len(data), rng.integers(1, 40)):
            data[at] = rng.integers(256)
        three.write_bytes(bytes(data[: rng.integers(200, len(data))] if seed % 2 else data))
        for call in (["check", "--series", str(series)], ["list"]):
            done = CliRunner().invoke(cli.app, ["annotation", call[0], str(three), *call[1:]])
            assert done.exit_code in (0, 1, 2), done.exception
            assert done.exception is None or isinstance(done.exception, SystemExit)
            if done.exit_code == 2:
                assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.real_ct
def test_nine_segs_of_another_program_are_the_votes_beside_them(real_ct, tmp_path):
    """They are of the whole series of 109 slices, the images here are cut out of it."""
    case = real_ct / "whole_ct" / "QIN-LSC-0014"
    for archive in ("ct_dicom.tar", "seg_dicom.tar.xz"):
        with tarfile.open(case / f"QIN-LSC-0014_{archive}") as packed:
            packed.extractall(tmp_path, filter="data")
    segs = sorted(tmp_path.rglob("*result*.dcm"))
    [volume] = read_series([file for file in tmp_path.rglob("*.dcm") if file not in segs])
    votes = np.zeros(volume.hu.shape, np.uint8)
    for file in segs:
        read = read_annotation(file, volume)
        [mask] = read.masks
        votes[mask.block] += mask.mask
        name = file.name.split("challenge_")[1].split("segmentation")[0]
        assert read.author(1) == Author("algorithm", name, steered=True)
    assert len(segs) == 9
    assert np.array_equal(votes, read_mask(case / "QIN-LSC-0014_votes.nii.gz", volume))
    write_annotation(read, tmp_path / "again.dcm", volume, tmp_path)
    again = read_annotation(tmp_path / "again.dcm", volume)
    assert voxels(again) == voxels(read)
    assert again.authors == read.authors
    [segment] = pydicom.dcmread(tmp_path / "again.dcm").SegmentSequence
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "M-03000"
