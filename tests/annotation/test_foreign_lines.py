"""Lines as other programs write them: none is lost without a word, and each means what it means."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from structure_sets import INNER, SQUARE, contour, item, structures

from medlib.annotation.contour_table import COLUMNS
from medlib.annotation.drawings import GridMismatchError
from medlib.annotation.formats import read_annotation
from medlib.annotation.line_faults import crosses_itself


@pytest.fixture
def read(grid, volume, tmp_path):
    """Read (points, slice) pairs as one structure; return its mask on the grid and the notes."""

    def read_lines(*lines, **options):
        contours = [
            one if isinstance(one, Dataset) else contour(grid, *one, **options) for one in lines
        ]
        annotation = read_annotation(structures(tmp_path / "a.dcm", *contours), volume)
        mask = np.zeros(grid.shape_zyx, dtype=bool)
        for one in annotation.masks:
            mask[one.block] |= one.mask
        return mask, annotation.notes

    return read_lines


def box(grid, *sides):
    mask = np.zeros(grid.shape_zyx, dtype=bool)
    for side in sides:
        mask[side] = True
    return mask


FULL = (4, slice(10, 18), slice(12, 20))


@pytest.mark.parametrize(
    "again",
    [
        SQUARE,
        SQUARE[::-1],
        np.roll(SQUARE, 2, axis=0),
        SQUARE + 0.05,
        np.r_[SQUARE, SQUARE[:1]],
        SQUARE[[0, 0, 1, 2, 3]],
        np.concatenate([np.linspace(SQUARE[k - 1], SQUARE[k], 7) for k in range(4)]),
    ],
    ids=["same", "reversed", "other start", "rounded", "closed", "point twice", "more points"],
)
@pytest.mark.parametrize("times", [2, 3])
def test_a_line_listed_again_counts_once(read, grid, again, times):
    mask, notes = read((SQUARE, 4), *[(again, 4)] * (times - 1))
    np.testing.assert_array_equal(mask, box(grid, FULL))
    assert f"{times - 1} of {times} lines are listed twice: taken once" in notes[0]


def test_what_overlaps_in_part_is_one_area_and_is_said(read, grid):
    mask, notes = read((SQUARE, 4), (SQUARE + 4, 4), (SQUARE + 8, 4))  # a chain of three
    np.testing.assert_array_equal(
        mask, box(grid, FULL, (4, slice(14, 22), slice(16, 24)), (4, slice(18, 26), slice(20, 28)))
    )
    assert notes == ("lesion 1, reader 1: 3 of 3 lines overlap others in part: taken together",)


def test_a_line_inside_another_is_a_hole_and_one_inside_that_an_island(read, grid):
    mask, notes = read((SQUARE, 4), (INNER, 4))
    expected = box(grid, FULL)
    expected[4, 12:15, 14:17] = False
    np.testing.assert_array_equal(mask, expected)
    assert not notes
    island = [(12.5, 14.5), (12.5, 15.5), (13.5, 15.5), (13.5, 14.5)]
    mask, _ = read((island, 4), (INNER, 4), (SQUARE, 4))
    expected[4, 13, 15] = True
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("way", [1, -1])
def test_a_keyhole_is_a_hole_with_a_bridge(read, grid, way):
    hole = INNER[::way]
    line = np.r_[SQUARE, SQUARE[:1], hole, hole[:1]]
    mask, notes = read((line, 4))
    expected = box(grid, FULL)
    expected[4, 12:15, 14:17] = False
    np.testing.assert_array_equal(mask, expected)
    assert not notes
    assert crosses_itself(line) == (way == 1)  # a hole runs the other way round


def test_a_line_traced_through_voxels_holds_them(read, grid):
    """rt-utils and OpenCV draw through the outermost voxels, a single one as a single point."""
    corners = [(10, 12), (10, 19), (17, 19), (17, 12)]
    for decimals in (6, 2):
        mask, _ = read((corners, 4), ([(30, 30)], 4), ([(5, 3), (5, 6)], 4), decimals=decimals)
        expected = box(grid, FULL, (4, 30, 30), (4, 5, slice(3, 7)))
        np.testing.assert_array_equal(mask, expected)
    hole = [(11, 13), (11, 17), (15, 17), (15, 13)]  # through the voxels around the hole
    mask, _ = read((corners, 4), (hole, 4))
    expected = box(grid, FULL)
    expected[4, 12:15, 14:17] = False
    np.testing.assert_array_equal(mask, expected)


FIVE = [(SQUARE, k) for k in range(1, 6)]


def test_lines_off_every_slice_are_counted(read, grid):
    mask, notes = read(*FIVE, (SQUARE, 6.5))
    np.testing.assert_array_equal(mask, box(grid, (slice(1, 6), *FULL[1:])))
    assert notes == ("lesion 1, reader 1: 1 of 6 lines lie half-way between slices: left out",)
    _, notes = read(*FIVE, (SQUARE, 30))
    assert notes == ("lesion 1, reader 1: 1 of 6 lines lie on no slice: left out",)


def test_lines_off_the_image_are_counted(read, grid):
    low, high = SQUARE - [13, 0], SQUARE + 50  # three rows of eight, and all of it
    mask, notes = read(*FIVE, *FIVE, (SQUARE, 7), (low, 6), (high, 6))
    np.testing.assert_array_equal(
        mask, box(grid, (slice(1, 6), *FULL[1:]), (7, *FULL[1:]), (6, slice(0, 5), FULL[2]))
    )
    assert "2 of 13 lines reach off the image: drawn as far as it goes" in " ".join(notes)


@pytest.mark.parametrize("shift", [0.5, 30])
def test_a_structure_that_would_be_lost_is_refused_with_its_count(read, shift):
    with pytest.raises(GridMismatchError, match="lesion 1, reader 1: 5 of 5 lines lie"):
        read(*[(SQUARE, k + shift) for _, k in FIVE])
    with pytest.raises(GridMismatchError, match="5 of 5 lines reach off the image"):
        read(*[(SQUARE + 60, k) for _, k in FIVE])
    with pytest.raises(GridMismatchError, match="2 of 7 lines lie"):
        read(*FIVE, *[(SQUARE, k + shift) for k in (1, 2)])


def test_lines_on_every_second_slice_are_told(read, grid):
    mask, notes = read(*[(SQUARE, k) for k in (1, 3, 5)])
    assert mask.any(axis=(1, 2)).tolist() == [k in (1, 3, 5) for k in range(9)]
    assert notes == ("lesion 1, reader 1: no line on 2 of its 5 slices; none was filled in",)


def test_rounded_heights_go_to_the_nearest_slice(read, grid):
    """Slices stand at -212.5, -210.0 ... mm; whole mm lie up to a fifth of the distance away."""
    mask, notes = read(*FIVE, decimals=0)
    assert mask.any(axis=(1, 2)).tolist() == [k in range(1, 6) for k in range(9)]
    assert not notes


def test_the_image_that_a_line_names_decides_between_two_slices(read, grid):
    uid = grid.sop_instance_uids
    mask, notes = read(contour(grid, SQUARE, 4.4, image=uid[4]))
    np.testing.assert_array_equal(mask, box(grid, FULL))
    assert not notes
    with pytest.raises(GridMismatchError, match="1 of 1 lines lie on no slice"):
        read(contour(grid, SQUARE, 4.4))
    mask, notes = read(contour(grid, SQUARE, 4, image=uid[6]))
    np.testing.assert_array_equal(mask, box(grid, FULL))
    assert notes == ("1 of 1 lines name the image of another slice: taken at their height",)
    _, notes = read(contour(grid, SQUARE, 4, image="1.2.99"))
    assert "1 of 1 lines name images that the series does not have" in notes[0]


def test_empty_lines_among_good_ones_are_passed_over(read, grid):
    bare = item(ContourGeometricType="CLOSED_PLANAR")
    mask, notes = read(
        (SQUARE, 4), bare, ([], 4), contour(grid, [(20.3, 20.3)], 5, "POINT"), ([(20.3, 20.3)], 4)
    )
    np.testing.assert_array_equal(mask, box(grid, FULL))
    assert notes == (
        "lesion 1, reader 1: 3 of 5 lines are open, points, or empty: passed over",
        "lesion 1, reader 1: 1 of 5 lines hold no voxel's centre",
    )


# Contour tables


def table(volume, *rows):
    path_rows = [f'1,1,{inclusion},{z},,"{line}"' for inclusion, z, line in rows]
    return "\n".join([",".join(COLUMNS), *path_rows])


def ring(x, y):
    """The voxels around 7 x 7 others."""
    steps = range(8)
    line = [(x + k, y) for k in steps] + [(x + 8, y + k) for k in steps]
    line += [(x + 8 - k, y + 8) for k in steps] + [(x, y + 8 - k) for k in steps]
    return " ".join(f"{x},{y}" for x, y in line)


RING = ring(12, 10)


@pytest.mark.parametrize(
    ("rows", "voxels", "words"),
    [
        ([(1, 4, RING), (1, 4, RING)], 49, "1 of 2 lines are listed twice: taken once"),
        ([(1, 4, RING), (1, 4, ring(16, 14))], 82, "2 of 2 lines overlap"),
        ([(1, 4, RING), (0, 4, "15,13")], 48, ""),
        ([(1, 4, RING), (1, 4, "30,30 31,30")], 49, "1 of 2 lines hold no voxel's centre"),
        ([(1, 4, RING)] + [(1, k, RING) for k in (1, 2, 3, 5.5)], 196, "1 of 5 lines lie half-way"),
        ([(1, 4, RING), (1, 6, RING)], 98, "no line on 1 of its 3 slices"),
        ([(1, 4, RING), (0, 5, RING)], 49, ""),
    ],
    ids=[
        *("twice", "overlap", "hole of one voxel", "nothing within", "between", "every second"),
        "a hole in nothing",
    ],
)
def test_lines_of_a_table(volume, grid, tmp_path, rows, voxels, words):
    path = tmp_path / "a.csv"
    dz, z0 = grid.spacing_mm[0], grid.slice_z_mm(0)
    path.write_text(table(volume, *[(i, z0 + k * dz, line) for i, k, line in rows]))
    annotation = read_annotation(path, volume)
    [mask] = annotation.masks
    assert mask.n_voxels == voxels
    assert words in " ".join(annotation.notes)
    assert bool(words) == bool(annotation.notes)


def test_a_table_off_the_series_is_refused(volume, grid, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(table(volume, (1, grid.slice_z_mm(0) - 90, RING)))
    with pytest.raises(GridMismatchError, match="1 of 1 lines lie on no slice"):
        read_annotation(path, volume)
