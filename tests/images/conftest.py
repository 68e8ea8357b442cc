from __future__ import annotations

from pathlib import Path

import pytest

from medlib.images.dicom import write_series


@pytest.fixture
def folder(volume, tmp_path) -> Path:
    """A good series; what a test is about is done to it."""
    write_series(volume, tmp_path / "ct")
    return tmp_path / "ct"
