from __future__ import annotations

import pytest

import medlib
from medlib.risk.summary import UNDEFINED, risk_summary

USABLE = (
    "The metrics are preliminarily usable, but human review and clinical validation are "
    "still required."
)
MISSED = (
    "False negatives are currently too high, so it is not suitable as a high-risk assistance "
    "system yet."
)
RECALL = "Recall is still too low; continue improving lesion detection first."


def test_expected_output_of_the_project_document():
    metrics = {"dice": 0.81, "iou": 0.69, "sensitivity": 0.92, "false_negative_rate": 0.08}
    assert risk_summary(metrics) == USABLE
    assert medlib.risk_summary(metrics) == USABLE


@pytest.mark.parametrize(
    ("false_negative_rate", "sensitivity", "sentence"),
    [
        (0.1, 0.9, USABLE),  # the limits themselves pass
        (0.1 + 1e-9, 0.95, MISSED),
        (0.1, 0.9 - 1e-9, RECALL),
        (0.5, 0.5, MISSED),  # missed lesions are judged first
        (0.0, 1.0, USABLE),
        (float("nan"), 1.0, UNDEFINED),
        (0.0, float("nan"), UNDEFINED),
        (None, None, UNDEFINED),
    ],
)
def test_gates(false_negative_rate, sensitivity, sentence):
    metrics = {"false_negative_rate": false_negative_rate, "sensitivity": sensitivity}
    assert risk_summary(metrics) == sentence
