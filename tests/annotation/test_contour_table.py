from __future__ import annotations

import io
import itertools

import numpy as np
import pandas as pd
import pydicom
import pytest
from annotated import TURNS, make_series, two_readers, voxels
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from medlib.annotation import lidc
from medlib.annotation.contour_table import COLUMNS, parse_table, table_text
from medlib.annotation.drawings import Annotation, GridMismatchError, LesionMask, SeriesGrid
from medlib.annotation.formats import read_annotation, write_annotation
from medlib.annotation.line_faults import crosses_itself
from medlib.annotation.mask_outlines import border_walks, edge_polygon, is_hole, reader_lines
from medlib.annotation.outlines import block_around, outline_mask
from medlib.errors import InputError

planes = stn.arrays(bool, st.tuples(st.integers(1, 11), st.integers(1, 11)))


@settings(max_examples=60, deadline=None)
@given(planes)
def test_lines_of_any_mask_give_it_back(plane):
    contours = [lidc.Contour(kind, 0, line + 1) for kind, line in reader_lines(plane)]
    rows, columns = plane.shape
    back = outline_mask(contours, (slice(0, 1), slice(0, rows + 2), slice(0, columns + 2)))
    np.testing.assert_array_equal(back[0, 1:-1, 1:-1], plane)
    assert not back[0].sum() - plane.sum()


@settings(max_examples=40, deadline=None)
@given(planes)
def test_edge_polygons_have_the_area_of_the_mask_and_no_crossing(plane):
    area = 0.0
    for walk in border_walks(plane):
        corners = edge_polygon(walk)
        assert (corners % 1 == 0.5).all()
        assert not crosses_itself(corners)
        y, x = corners.T
        shoelace = abs(y @ np.roll(x, -1) - x @ np.roll(y, -1)) / 2
        area += -shoelace if is_hole(walk, plane) else shoelace
    assert area == pytest.approx(plane.sum())


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("descending", [False, True])
def test_round_trip_is_voxel_exact(tmp_path, turn, descending):
    volume = make_series(tmp_path / "ct", turn, descending)
    annotation = two_readers(volume)
    write_annotation(annotation, tmp_path / "a.csv", volume, tmp_path / "ct")
    back = read_annotation(tmp_path / "a.csv", volume)
    assert voxels(back) == voxels(annotation)
    assert table_text(back) == (tmp_path / "a.csv").read_text()


def test_masks_at_the_edge_of_the_image_and_full_slices(volume):
    grid = SeriesGrid.of(volume)
    mask = np.zeros(grid.shape_zyx, dtype=bool)
    mask[0], mask[8, :, -1], mask[3, 0, 0] = True, True, True
    annotation = Annotation.gather(grid, [LesionMask.cut(1, 1, mask)])
    assert voxels(parse_table(table_text(annotation), grid, "t")) == voxels(annotation)


def test_any_mask_comes_back_from_its_table(volume):
    """Holes of one voxel, and islands in holes, too."""
    grid, rng = SeriesGrid.of(volume), np.random.default_rng(3)
    mask = rng.random(grid.shape_zyx) < np.linspace(0.3, 0.95, len(volume.hu))[:, None, None]
    mask[4] = True
    mask[4, 3, 3], mask[4, 10:13, 10:13], mask[4, 11, 11] = False, False, True
    annotation = Annotation.gather(grid, [LesionMask.cut(1, 1, mask)])
    assert voxels(parse_table(table_text(annotation), grid, "t")) == voxels(annotation)


def test_a_real_readers_outline_goes_through_the_table(volume):
    """Contours of the database give the same mask through our columns as through outline_mask."""
    contours = lidc.contours(int(lidc.reader_annotations().index[7]))
    block = block_around(contours)
    z0, y0, x0 = (side.start for side in block)
    shape = tuple(side.stop - side.start for side in block)
    grid = SeriesGrid("1.2", shape, np.diag([0.7, 0.7, 2.5, 1.0]))
    rows = [
        f"1,1,{int(c.inclusion)},{(c.slice_index - z0) * 2.5},,"
        + '"'
        + " ".join(f"{x - x0},{y - y0}" for y, x in c.points_yx)
        + '"'
        for c in contours
    ]
    text = "\n".join([",".join(COLUMNS), *rows])
    [mask] = parse_table(text, grid, "t").masks
    expected = LesionMask.cut(1, 1, outline_mask(contours, block))
    assert mask.start_zyx == expected.start_zyx
    np.testing.assert_array_equal(mask.mask, expected.mask)


def test_a_reader_who_found_nothing_is_a_reader(volume):
    grid = SeriesGrid.of(volume)
    empty = Annotation.gather(grid, [], (), (1, 2))
    back = parse_table(table_text(empty), grid, "t")
    assert back.readers == (1, 2)
    assert back.masks == ()


HEADER = ",".join(COLUMNS)
SQUARE = '"3,3 6,3 6,6 3,6"'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no table"),
        ("lesion,reader\n1,1", "lacks the columns inclusion"),
        (f"{HEADER}\n1,x,1,-212.5,,{SQUARE}", "row 2 cannot be read"),
        (f"{HEADER}\n1,1,1,low,,{SQUARE}", "row 2 cannot be read"),
        (f"{HEADER}\n1,1,maybe,-212.5,,{SQUARE}", "row 2 cannot be read"),
        (f'{HEADER}\n1,1,1,-212.5,,"3,3 6.5,3"', "row 2 cannot be read"),
        (f"{HEADER}\n0,1,1,-212.5,,{SQUARE}", "row 2 cannot be read"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(volume, text, words):
    with pytest.raises(InputError, match=words) as error:
        parse_table(text, SeriesGrid.of(volume), "a.csv")
    assert "\n" not in str(error.value)


def test_an_image_that_lies_elsewhere_is_another_grid(volume):
    grid = SeriesGrid.of(volume)
    row = f"1,1,1,{grid.slice_z_mm(4)},{grid.sop_instance_uids[3]},{SQUARE}"
    with pytest.raises(GridMismatchError, match="row 2"):
        parse_table(f"{HEADER}\n{row}", grid, "a.csv")


def test_two_masks_of_one_reader_and_lesion_are_refused(annotation):
    with pytest.raises(InputError, match="two masks by reader 1"):
        Annotation.gather(annotation.grid, [*annotation.masks, annotation.masks[0]])


def test_slice_lookup(volume):
    grid = SeriesGrid.of(volume)
    dz = grid.spacing_mm[0]
    heights = [grid.slice_z_mm(k) for k in range(grid.shape_zyx[0])]
    assert [grid.slice_at(z) for z in heights] == list(range(len(heights)))
    assert grid.slice_at(heights[2] + 0.2 * dz) == 2
    for z in (heights[0] - dz, heights[-1] + dz, heights[2] + 0.4 * dz, float("nan")):
        assert grid.slice_at(z) is None
    assert all(b > a for a, b in itertools.pairwise(heights))


@pytest.mark.parametrize("turn", TURNS)
def test_coordinates_are_pixels_of_the_image_as_stored(tmp_path, turn):
    volume = make_series(tmp_path / "ct", turn)
    mask = np.zeros(volume.hu.shape, dtype=bool)
    mask[2, 5:8, 3:7] = True  # of 9 slices, 40 rows, 44 columns
    grid = SeriesGrid.of(volume)
    text = table_text(Annotation.gather(grid, [LesionMask.cut(1, 1, mask)]))
    row = pd.read_csv(io.StringIO(text)).iloc[0]
    assert row["image_sop_uid"] == pydicom.dcmread(tmp_path / "ct" / "0003.dcm").SOPInstanceUID
    columns, rows = np.array([pair.split(",") for pair in row["coords"].split()], dtype=int).T
    across, down = TURNS[turn]
    first_outside = (2, 7) if across == 1 else (44 - 1 - 7, 44 - 1 - 2)
    assert (columns.min(), columns.max()) == first_outside
    assert (rows.min(), rows.max()) == ((4, 8) if down == 1 else (40 - 1 - 8, 40 - 1 - 4))
    assert (parse_table(text, grid, "table").masks[0].mask == mask[2:3, 5:8, 3:7]).all()
