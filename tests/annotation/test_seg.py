from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from annotated import TURNS, make_series, two_readers, voxels

from medlib.annotation.drawings import Annotation, GridMismatchError, LesionMask, SeriesGrid
from medlib.annotation.formats import read_annotation, write_annotation
from medlib.annotation.seg import read_seg, write_seg
from medlib.errors import InputError


@pytest.fixture(scope="module")
def seg_file(annotation, series, tmp_path_factory):
    path = tmp_path_factory.mktemp("seg") / "a.dcm"
    write_seg(annotation, path, series)
    return path


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("descending", [False, True])
def test_round_trip_is_voxel_exact(tmp_path, turn, descending):
    volume = make_series(tmp_path / "ct", turn, descending)
    annotation = two_readers(volume)
    write_annotation(annotation, tmp_path / "a.dcm", volume, tmp_path / "ct")
    assert voxels(read_annotation(tmp_path / "a.dcm", volume)) == voxels(annotation)


def test_what_the_file_says(seg_file, volume, annotation):
    dataset = pydicom.dcmread(seg_file)
    assert dataset.file_meta.TransferSyntaxUID.name == "Explicit VR Little Endian"
    assert dataset.SegmentationType == "BINARY"
    assert dataset.FrameOfReferenceUID == volume.identity.frame_of_reference_uid
    assert dataset.PatientID == volume.identity.patient_id
    for segment, mask in zip(dataset.SegmentSequence, annotation.masks, strict=True):
        assert segment.SegmentLabel == f"Lesion {mask.lesion}, reader {mask.reader}"
        assert segment.SegmentAlgorithmType == "MANUAL"
        codes = [
            segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue,
            segment.SegmentedPropertyTypeCodeSequence[0].CodeValue,
            segment.AnatomicRegionSequence[0].CodeValue,
        ]
        assert codes == ["49755003", "27925004", "39607008"]
    tracked = [segment.TrackingUID for segment in dataset.SegmentSequence]
    assert tracked[0] == tracked[1] != tracked[2] == tracked[3]  # one lesion, one UID
    grid = SeriesGrid.of(volume)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        z_mm = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        assert source.ReferencedSOPInstanceUID == grid.sop_instance_uids[grid.slice_at(z_mm)]


def test_frames_in_any_order_come_back_in_place(seg_file, annotation, tmp_path):
    """Other software writes frames from the head down; order must not matter."""
    dataset = pydicom.dcmread(seg_file)
    frames = dataset.pixel_array
    order = np.random.default_rng(1).permutation(len(frames))
    groups = [dataset.PerFrameFunctionalGroupsSequence[int(i)] for i in order]
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.PixelData = np.packbits(frames[order].ravel(), bitorder="little").tobytes()
    dataset.save_as(tmp_path / "shuffled.dcm")
    assert voxels(read_seg(tmp_path / "shuffled.dcm", annotation.grid)) == voxels(annotation)


def test_one_voxel_on_one_slice(volume, series, tmp_path):
    grid = SeriesGrid.of(volume)
    mask = np.zeros(grid.shape_zyx, dtype=bool)
    mask[8, 39, 43] = True
    annotation = Annotation.gather(grid, [LesionMask.cut(3, 2, mask)])
    write_seg(annotation, tmp_path / "a.dcm", series)
    assert voxels(read_seg(tmp_path / "a.dcm", grid)) == voxels(annotation)


def test_a_flipped_file_is_refused(seg_file, annotation, tmp_path):
    """Frames whose position and source image are two slices: highdicom issue 330."""
    dataset = pydicom.dcmread(seg_file)
    frames = dataset.PerFrameFunctionalGroupsSequence
    positions = [list(f.PlanePositionSequence[0].ImagePositionPatient) for f in frames]
    for frame, position in zip(frames, reversed(positions), strict=True):
        frame.PlanePositionSequence[0].ImagePositionPatient = position
    dataset.save_as(tmp_path / "flipped.dcm")
    with pytest.raises(GridMismatchError, match="flipped or misplaced"):
        read_seg(tmp_path / "flipped.dcm", annotation.grid)


def test_another_series_and_another_grid_are_refused(seg_file, annotation):
    grid = annotation.grid
    with pytest.raises(GridMismatchError, match="was drawn on series"):
        read_seg(seg_file, replace(grid, series_instance_uid="1.2.9"))
    shifted = grid.affine.copy()
    shifted[0, 3] += 0.3
    with pytest.raises(GridMismatchError, match="voxels of the series"):
        read_seg(seg_file, replace(grid, affine=shifted, sop_instance_uids=()))
    _, y, x = grid.shape_zyx
    with pytest.raises(GridMismatchError, match="outside the series"):
        read_seg(seg_file, replace(grid, shape_zyx=(4, y, x), sop_instance_uids=()))


def test_what_cannot_be_a_seg_is_refused(annotation, series, tmp_path):
    empty = Annotation.gather(annotation.grid, [], (), (1,))
    with pytest.raises(InputError, match="contour table"):
        write_seg(empty, tmp_path / "a.dcm", series)
    with pytest.raises(InputError, match="not here"):
        write_seg(annotation, tmp_path / "a.dcm", tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "cut.dcm").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a readable DICOM SEG"):
        read_seg(tmp_path / "cut.dcm", annotation.grid)


@pytest.mark.dciodvfy
@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
def test_dciodvfy_finds_no_error(annotation, volume, series, tmp_path, kind):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy of dicom3tools is not installed")
    write_annotation(annotation, tmp_path / "a.dcm", volume, series, kind)
    done = subprocess.run(
        ["dciodvfy", tmp_path / "a.dcm"], capture_output=True, text=True, check=False
    )
    assert "Error" not in done.stdout + done.stderr
    assert ("Segmentation" if kind == "seg" else "RTStructureSet") in done.stdout + done.stderr
