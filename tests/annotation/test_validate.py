from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from annotated import SHAPE, SPACING_MM, disc

from medlib.annotation.contour_table import COLUMNS, from_lines, parse_table, table_text
from medlib.annotation.drawings import Annotation, GridMismatchError, LesionMask, Line, SeriesGrid
from medlib.annotation.line_faults import closing_gap_mm, crosses_itself
from medlib.annotation.protocol import default_protocol
from medlib.annotation.validate import (
    SEVERITIES,
    axial_diameter_mm,
    findings_table,
    validate_annotation,
)
from studies.drawing_faults import faulty_drawings

LUNG = np.ones(SHAPE, dtype=bool)
BALL = disc((4, 20, 20), 5.0)


def codes(annotation, volume, lung=LUNG):
    found = validate_annotation(annotation, volume, lung=lung)
    assert all(finding.severity in SEVERITIES for finding in found)
    assert all(finding.to_do and finding.found and finding.where for finding in found)
    return [finding.code for finding in found]


def of_masks(volume, *masks, readers=(1, 2), ratings=None):
    """Both readers draw the same, unless a mask says who drew it."""
    items = []
    for lesion, mask in enumerate(masks, start=1):
        mask, *who = mask if isinstance(mask, tuple) else (mask, 1, 2)
        items += [LesionMask.cut(lesion, reader, mask) for reader in who]
    return Annotation.gather(SeriesGrid.of(volume), items, (), readers, ratings)


def test_a_good_annotation_has_no_finding(volume):
    assert codes(of_masks(volume, BALL), volume) == []
    assert codes(of_masks(volume), volume) == []  # two readers, no lesion


def single_voxel():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[4, 20, 20] = True
    return mask


def small_block():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[4, 20:22, 20:22] = True
    return mask


def without_slice(mask, k):
    cut = mask.copy()
    cut[k] = False
    return cut


def only_slice(mask, k):
    cut = np.zeros_like(mask)
    cut[k] = mask[k]
    return cut


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (np.zeros(SHAPE, dtype=bool), {"empty-mask"}),
        (single_voxel(), {"tiny-mask", "below-size"}),
        (small_block(), {"below-size"}),
        (without_slice(BALL, 4), {"in-pieces"}),
        (BALL | disc((4, 5, 36), 3.0), {"in-pieces"}),
        (only_slice(BALL, 4), {"one-slice"}),
    ],
)
def test_masks(volume, mask, expected):
    assert set(codes(of_masks(volume, mask), volume)) == expected


def test_skipped_slice_is_named(volume):
    [first, _] = validate_annotation(of_masks(volume, without_slice(BALL, 4)), volume, lung=LUNG)
    assert "nothing on slice 4" in first.found


def test_outside_the_lung(volume):
    lung = LUNG.copy()
    lung[:, :, 20:] = False
    wall = disc((4, 20, 26), 4.0)
    assert codes(of_masks(volume, wall), volume, lung) == ["outside-lung"] * 2
    half_in = disc((4, 20, 18), 4.0)
    assert codes(of_masks(volume, half_in), volume, lung) == []


def test_overlap_is_of_one_reader(volume):
    other = disc((4, 20, 24), 5.0)
    assert codes(of_masks(volume, (BALL, 1, 2), (other, 1, 2)), volume) == ["overlap"] * 2
    assert "overlap" not in codes(of_masks(volume, (BALL, 1), (other, 2)), volume)


def test_readers(volume):
    assert codes(of_masks(volume, (BALL, 1), readers=(1,)), volume) == ["reader-missing"]
    assert codes(of_masks(volume, (BALL, 2)), volume) == ["one-reader"]


def test_agreement_below_the_gate_is_escalated_and_at_the_gate_it_passes(volume):
    shifted = np.roll(BALL, 7, axis=2)
    pair = Annotation.gather(
        SeriesGrid.of(volume), [LesionMask.cut(1, 1, BALL), LesionMask.cut(1, 2, shifted)]
    )
    [low] = validate_annotation(pair, volume, lung=LUNG)
    assert (low.code, low.severity) == ("low-agreement", "escalate")
    overlap = 2 * (BALL & shifted).sum() / (BALL.sum() + shifted.sum())
    assert f"{overlap:.2f}" in low.found
    rules = default_protocol()
    exact = rules.model_copy(
        update={"gates": tuple(g.model_copy(update={"min_dice": overlap}) for g in rules.gates)}
    )
    assert validate_annotation(pair, volume, exact, LUNG) == []


def test_ratings_off_their_scale(volume):
    ratings = {(1, 1): {"texture": 6, "calcification": 6, "colour": 1}}
    assert codes(of_masks(volume, BALL, ratings=ratings), volume) == ["rating-off-scale"] * 2


def test_another_grid_is_the_only_finding(volume):
    annotation = of_masks(volume, single_voxel())
    shifted = annotation.grid.affine.copy()
    shifted[1, 3] += 2.0
    moved = replace(annotation, grid=replace(annotation.grid, affine=shifted))
    assert codes(moved, volume) == ["grid-mismatch"]


SQUARE = [(10.0, 10.0), (10.0, 20.0), (20.0, 20.0), (20.0, 10.0)]


@pytest.mark.parametrize(
    ("points", "z_shift", "expected"),
    [
        (SQUARE, 0.0, set()),
        (SQUARE[:2], 0.0, {"few-points", "empty-mask"}),
        ([(10.0, 10.0)] * 5, 0.0, {"few-points"}),
        ([SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3]], 0.0, {"self-crossing"}),
        (SQUARE, 1.0, {"slice-not-in-series", "empty-mask"}),
        ([(y + 30, x) for y, x in SQUARE], 0.0, {"off-image", "empty-mask"}),
        ([(10 + k, 10 + abs(k - 5)) for k in range(11)], 0.0, {"open-line"}),
    ],
)
def test_lines(volume, points, z_shift, expected):
    grid = SeriesGrid.of(volume)
    line = Line(1, 1, True, grid.slice_z_mm(4) + z_shift, np.array(points))
    found = set(codes(from_lines(grid, [line], (1, 2)), volume))
    assert expected <= found
    line_codes = {"few-points", "self-crossing", "slice-not-in-series", "off-image", "open-line"}
    assert found & line_codes == expected & line_codes


def test_an_image_of_another_series_in_a_table(volume):
    text = f'{",".join(COLUMNS)}\n1,1,1,-212.5,1.2.99,"3,3 9,3 9,9 3,9"'
    with pytest.raises(GridMismatchError, match="1 of 1 lines lie on no slice"):
        parse_table(text, SeriesGrid.of(volume), "t")
    sound = table_text(of_masks(volume, (BALL, 1)))
    annotation = parse_table("\n".join([sound, *text.splitlines()[1:]]), SeriesGrid.of(volume), "t")
    assert "slice-not-in-series" in codes(annotation, volume)


def test_crossing_and_touching():
    notch = [(0, 0), (0, 4), (4, 4), (4, 2), (1, 2), (4, 2), (4, 0)]  # in and back the same way
    twice = SQUARE + SQUARE
    assert crosses_itself(np.array(twice))
    assert not crosses_itself(np.array(notch, dtype=float))
    assert crosses_itself(np.array([(0, 0), (4, 4), (0, 4), (4, 0)], dtype=float))
    eight = [(0, 0), (4, 4), (8, 8), (8, 0), (4, 4), (0, 8)]  # through a voxel it visits twice
    assert crosses_itself(np.array(eight, dtype=float))
    assert closing_gap_mm(np.array(SQUARE), (0.7, 0.7)) == 0


@pytest.mark.parametrize("diameter_px", [1, 5, 12])
def test_axial_diameter_runs_from_edge_to_edge(diameter_px):
    mask = np.zeros((3, 20, 20), dtype=bool)
    mask[1, 10, 2 : 2 + diameter_px] = True
    assert axial_diameter_mm(mask, SPACING_MM) == pytest.approx(diameter_px * SPACING_MM[2])
    assert axial_diameter_mm(np.zeros_like(mask), SPACING_MM) == 0


def test_the_table_of_findings_has_a_row_each(volume):
    found = validate_annotation(of_masks(volume, single_voxel()), volume, lung=LUNG)
    table = findings_table(found)
    assert list(table.columns) == ["code", "severity", "where", "found", "to_do"]
    assert len(table) == len(found) == 4
    assert findings_table([]).empty


def test_every_slip_is_found(volume):
    sound = of_masks(volume, disc((4, 20, 20), 6.0))
    sound = parse_table(table_text(sound), sound.grid, "t")
    lung = LUNG.copy()
    lung[:, :12, :12] = False
    assert codes(sound, volume, lung) == []
    spoilt = faulty_drawings(sound)
    assert len({code for code, _ in spoilt.values()}) == len(spoilt) == 12
    for what, (code, annotation) in spoilt.items():
        assert code in codes(annotation, volume, lung), what
