"""`MEDLIB_MUST_RUN` turns the skips of what this machine has into failures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from medlib import paths

TESTS = """
import pytest

@pytest.mark.skip(reason="needs dciodvfy of dicom3tools")
def test_a(): ...

@pytest.mark.skip(reason="set MEDLIB_REAL_CT to a folder with real CT")
def test_b(): ...

def test_c(): ...
"""


@pytest.mark.parametrize(
    ("must_run", "counts"),
    [
        ("", "1 passed, 2 skipped"),
        ("dciodvfy", "1 passed, 1 skipped, 1 error"),
        ("MEDLIB_REAL_CT dciodvfy", "1 passed, 2 errors"),
    ],
)
def test_a_skip_that_need_not_be_is_a_failure(tmp_path, must_run, counts):
    shutil.copyfile(paths.ROOT / "tests" / "conftest.py", tmp_path / "conftest.py")
    (tmp_path / "test_skips.py").write_text(TESTS)
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "MEDLIB_MUST_RUN": must_run},
        capture_output=True,
        text=True,
        check=False,
    )
    assert counts in outcome.stdout
