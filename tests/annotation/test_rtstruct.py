from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from annotated import TURNS, make_series, two_readers, voxels
from pydicom.uid import ExplicitVRLittleEndian

from medlib.annotation.drawings import Annotation, GridMismatchError, LesionMask, SeriesGrid
from medlib.annotation.formats import read_annotation, write_annotation
from medlib.annotation.rtstruct import read_rtstruct, write_rtstruct
from medlib.annotation.validate import validate_annotation
from medlib.errors import InputError
from medlib.images.dicom import read_series, write_series

LEANING = [float(np.cos(0.008)), 0.0, float(np.sin(0.008)), 0.0, 1.0, 0.0]


@pytest.fixture
def structures(annotation, series, tmp_path):
    path = tmp_path / "a.dcm"
    write_rtstruct(annotation, path, series)
    return path


def edited(path, edit):
    dataset = pydicom.dcmread(path)
    edit(dataset)
    dataset.save_as(path)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("descending", [False, True])
def test_our_own_lines_come_back_voxel_exact(tmp_path, turn, descending):
    volume = make_series(tmp_path / "ct", turn, descending)
    annotation = two_readers(volume)
    write_annotation(annotation, tmp_path / "a.dcm", volume, tmp_path / "ct", "rtstruct")
    assert voxels(read_annotation(tmp_path / "a.dcm", volume)) == voxels(annotation)


def test_any_mask_comes_back(volume, series, grid, tmp_path):
    """Hundreds of holes, islands in holes, and pieces that touch at a corner."""
    rng = np.random.default_rng(3)
    mask = rng.random(grid.shape_zyx) < np.linspace(0.3, 0.95, len(volume.hu))[:, None, None]
    mask[4] = True
    mask[4, 3, 3], mask[4, 10:13, 10:13], mask[4, 11, 11] = False, False, True
    annotation = Annotation.gather(grid, [LesionMask.cut(1, 1, mask)])
    write_rtstruct(annotation, tmp_path / "a.dcm", series)
    back = read_rtstruct(tmp_path / "a.dcm", grid)
    assert voxels(back) == voxels(annotation)
    assert not back.notes


@pytest.mark.filterwarnings("ignore:The value for the data element")
def test_a_line_of_more_than_64_kb(tmp_path):
    """Explicit files of other programs hold it as UN."""
    volume = make_series(tmp_path / "ct")
    large = replace(volume, hu=np.tile(volume.hu, (1, 8, 7)))
    write_series(large, tmp_path / "large")
    [volume] = read_series(tmp_path / "large")
    mask = np.zeros(volume.hu.shape, dtype=bool)
    mask[4, 10:290:10, 10:290] = mask[4, 10:290, 10] = True
    for row in range(10, 290, 10):
        mask[4, row : row + 7, 10:290:2] = True
    annotation = Annotation.gather(SeriesGrid.of(volume), [LesionMask.cut(1, 1, mask)])
    path = tmp_path / "a.dcm"
    write_rtstruct(annotation, path, tmp_path / "large")
    dataset = pydicom.dcmread(path)
    [line] = dataset.ROIContourSequence[0].ContourSequence
    assert line["ContourData"].VR == "DS"
    assert sum(len(str(value)) + 1 for value in line.ContourData) > 2**16
    assert voxels(read_annotation(path, volume)) == voxels(annotation)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path)
    assert path.read_bytes().count(b"\x06\x30\x50\x00UN") == 1
    assert voxels(read_annotation(path, volume)) == voxels(annotation)


def test_a_slice_that_leans_by_less_than_half_a_degree_is_one_height(tmp_path):
    make_series(tmp_path / "ct")
    for file in (tmp_path / "ct").iterdir():
        edited(file, lambda dataset: setattr(dataset, "ImageOrientationPatient", LEANING))
    [volume] = read_series(tmp_path / "ct")
    annotation = two_readers(volume)
    write_annotation(annotation, tmp_path / "a.dcm", volume, tmp_path / "ct", "rtstruct")
    assert voxels(read_annotation(tmp_path / "a.dcm", volume)) == voxels(annotation)


def test_lines_enclose_the_volume_of_the_masks(structures, annotation):
    """The polygons' area in mm^2 times the slice distance, without any rasteriser."""
    dz, dy, dx = annotation.grid.spacing_mm
    for roi, mask in zip(
        pydicom.dcmread(structures).ROIContourSequence, annotation.masks, strict=True
    ):
        area = 0.0
        for contour in roi.ContourSequence:  # borders of holes run the other way round
            x, y, _ = np.array(contour.ContourData, dtype=float).reshape(-1, 3).T
            area += (x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
        assert abs(area) * dz == pytest.approx(mask.n_voxels * dz * dy * dx, rel=1e-3)


def test_the_same_masks_give_the_same_bytes(structures, annotation, series, tmp_path):
    write_rtstruct(annotation, tmp_path / "b.dcm", series)
    assert (tmp_path / "b.dcm").read_bytes() == structures.read_bytes()


def test_plain_pydicom_finds_the_structures_on_their_slices(structures, annotation):
    dataset, grid = pydicom.dcmread(structures), annotation.grid
    names = [roi.ROIName for roi in dataset.StructureSetROISequence]
    assert names == [f"Lesion {mask.lesion}, reader {mask.reader}" for mask in annotation.masks]
    for roi, mask in zip(dataset.ROIContourSequence, annotation.masks, strict=True):
        slices = set()
        for contour in roi.ContourSequence:
            k = grid.sop_instance_uids.index(
                contour.ContourImageSequence[0].ReferencedSOPInstanceUID
            )
            np.testing.assert_allclose(contour.ContourData[2::3], grid.slice_z_mm(k), atol=0.01)
            slices.add(k - mask.start_zyx[0])
        assert sorted(slices) == np.flatnonzero(mask.mask.any(axis=(1, 2))).tolist()


def test_a_smooth_circle_of_another_program(volume, structures):
    """A voxel belongs to a line where its centre lies inside: the area of a circle, within 3 %."""
    grid = read_rtstruct(structures, two_readers(volume).grid).grid
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    x, y, z = grid.affine[:3, :3] @ (20, 20, 4) + grid.affine[:3, 3]
    points = np.c_[x + 8 * np.cos(angle), y + 8 * np.sin(angle), np.full(90, z)]

    def circle(dataset):
        del dataset.ROIContourSequence[1:], dataset.StructureSetROISequence[1:]
        dataset.StructureSetROISequence[0].ROIName = "GTV"
        [first, *_] = dataset.ROIContourSequence[0].ContourSequence
        dataset.ROIContourSequence[0].ContourSequence = [first]
        first.ContourData = [f"{value:.3f}" for value in points.flat]

    edited(structures, circle)
    [mask] = read_rtstruct(structures, grid).masks
    assert (mask.lesion, mask.reader) == (1, 1)
    _, dy, dx = grid.spacing_mm
    assert mask.n_voxels * dy * dx == pytest.approx(np.pi * 64, rel=0.03)


def test_lines_that_cannot_be_drawn_are_found_not_lost(structures, annotation, volume):
    def spoil(dataset):
        contours = dataset.ROIContourSequence[0].ContourSequence
        contours[0].ContourGeometricType = "OPEN_PLANAR"
        high = np.array(contours[1].ContourData, dtype=float).reshape(-1, 3)
        high[:, 2] += 500
        contours[1].ContourData = [f"{value:.3f}" for value in high.flat]

    edited(structures, spoil)
    back = read_rtstruct(structures, annotation.grid)
    codes = {finding.code for finding in validate_annotation(back, volume)}
    assert {"open-line", "slice-not-in-series"} <= codes


def test_what_is_no_structure_set_is_refused(structures, annotation, series, tmp_path):
    with pytest.raises(InputError, match="not a readable RTSTRUCT"):
        read_rtstruct(next(series.glob("*.dcm")), annotation.grid)
    with pytest.raises(GridMismatchError, match="was drawn on series"):
        read_rtstruct(structures, replace(annotation.grid, series_instance_uid="1.2.9"))
    edited(structures, lambda dataset: delattr(dataset, "StructureSetROISequence"))
    with pytest.raises(InputError, match="not a readable RTSTRUCT"):
        read_rtstruct(structures, annotation.grid)
    with pytest.raises(InputError, match="contour table"):
        write_rtstruct(Annotation.gather(annotation.grid, [], (), (1,)), tmp_path / "b.dcm", series)
