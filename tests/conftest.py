"""A test that could run has to run: ``MEDLIB_MUST_RUN`` names what this machine has.

A skip whose reason names one of these words (``MEDLIB_REAL_CT``, ``dciodvfy``) is a failure, so
that a green run never means that the real images were not looked at.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from medlib.images.dicom import read_series
from medlib.images.volume import SeriesIdentity, Volume
from medlib.phantom import SITES, Anatomy, acquire, draw_anatomy, site_grid
from medlib.phantom.sites import Scanner

MUST_RUN = "MEDLIB_MUST_RUN"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    yield from _refuse_skip()


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report():
    yield from _refuse_skip()


def _refuse_skip():
    outcome = yield
    report = outcome.get_result()
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    for word in os.environ.get(MUST_RUN, "").split():
        if word.lower() in reason.lower():
            report.outcome = "failed"
            report.longrepr = f"skipped, though this machine has {word}: {reason}"


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


@pytest.fixture
def volume() -> Volume:
    """Six slices, every voxel another value; some rooms have their own."""
    hu = np.arange(6 * 12 * 10, dtype=np.float32).reshape(6, 12, 10) * 2 - 1024
    affine = np.diag([0.7, 0.75, 2.5, 1.0])
    affine[:3, 3] = (-170.3, -160.1, -212.5)
    return Volume(
        hu, affine, SeriesIdentity("P-1", "1.2.3", "1.2.3.4", "1.2.3.5", "M", "X", "K", "CHEST")
    )
