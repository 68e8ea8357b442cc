"""A small volume, and one phantom patient shared by all tests of this room."""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # series_tools.py

import numpy as np
import pytest

from medlib.images.dicom import read_series
from medlib.images.phantom import SITES, Anatomy, Scanner, acquire, draw_anatomy, site_grid
from medlib.images.volume import SeriesIdentity, Volume

SPACING_MM = (2.5, 0.75, 0.7)


@pytest.fixture
def volume() -> Volume:
    """Six slices, every voxel another value."""
    hu = np.arange(6 * 12 * 10, dtype=np.float32).reshape(6, 12, 10) * 4 - 1024
    affine = np.diag([SPACING_MM[2], SPACING_MM[1], SPACING_MM[0], 1.0])
    affine[:3, 3] = (-170.3, -160.1, -212.5)
    return Volume(hu, affine, SeriesIdentity("P-1", "1.2.3", "1.2.3.4", "1.2.3.5", "M", "X", "K"))


@pytest.fixture(scope="session")
def anatomy() -> Anatomy:
    site = SITES["site-a"]
    scanner = Scanner(site, site.protocols[0], 0.65625)
    return draw_anatomy(4, scanner, site_grid(scanner))


@pytest.fixture(scope="session")
def scan(anatomy) -> Volume:
    return acquire(anatomy, 4, "P-4")


@pytest.fixture(scope="session")
def real_ct() -> Path:
    if not (folder := os.environ.get("MEDLIB_REAL_CT")):
        pytest.skip("MEDLIB_REAL_CT names no folder with real CT")
    return Path(folder)


@pytest.fixture(scope="session")
def real_series(real_ct, tmp_path_factory) -> list[Volume]:
    """The smallest real series: 30 slices."""
    folder = tmp_path_factory.mktemp("real")
    archive = real_ct / "full_ct" / "Lung_Dx-A0002" / "Lung_Dx-A0002_ct_dicom.tar.xz"
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return read_series(folder)
