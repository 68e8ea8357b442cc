"""A small annotated series, shared by the tests of formats, checks and revisions."""

from __future__ import annotations

from pathlib import Path

import pytest
from annotated import make_series, two_readers

from medlib.annotation.drawings import SeriesGrid


@pytest.fixture(scope="session")
def series(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("annotated") / "ct"
    make_series(folder)
    return folder


@pytest.fixture(scope="session")
def volume(series):
    from medlib.images.dicom import read_series

    [volume] = read_series(series)
    return volume


@pytest.fixture(scope="session")
def annotation(volume):
    return two_readers(volume)


@pytest.fixture
def grid(volume) -> SeriesGrid:
    return SeriesGrid.of(volume)
