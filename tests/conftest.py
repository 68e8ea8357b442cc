"""A test that could run has to run: ``MEDLIB_MUST_RUN`` names what this machine has.

A skip whose reason names one of these words (``MEDLIB_REAL_CT``, ``dciodvfy``) is a failure, so
that a green run never means that the real images were not looked at.
"""

from __future__ import annotations

import os

import pytest

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
