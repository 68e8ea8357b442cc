from __future__ import annotations

import subprocess
import sys

import pytest

from medlib import paths
from medlib.scope import DISCLAIMER, GATES, PROJECT, MedicalProject, binary_screening

PRINTED = (
    "MedicalProject(task='Lung lesion region segmentation', input_type='CT slice', "
    "labels=['background', 'lesion'], "
    "metrics=['dice', 'iou', 'sensitivity', 'false_negative_rate'], "
    "clinical_constraints=['High-risk samples must be reviewed by humans', "
    "'Results are for assistance only and do not directly replace clinical judgment'], "
    "risks=['annotation inconsistency', 'extreme class imbalance', "
    "'high cost of false negatives'])"
)


def test_project_prints_as_the_document_shows(capsys):
    print(PROJECT)
    assert capsys.readouterr().out == PRINTED + "\n"


def test_risks_may_be_left_out_and_are_not_shared():
    first = MedicalProject("t", "i", [], [], [])
    first.risks.append("x")
    assert MedicalProject("t", "i", [], [], []).risks == []


def test_binary_screening_is_a_new_project():
    screening = binary_screening(PROJECT)
    constraints = " ".join(screening.clinical_constraints)
    assert "screening aid only" in constraints
    assert "Sensitivity is prioritized" in constraints
    assert "reviewed by a human" in constraints
    assert "dice" not in screening.metrics
    assert "false_negative_rate" in screening.metrics
    assert set(PROJECT.risks) < set(screening.risks)
    assert repr(PROJECT) == PRINTED


@pytest.mark.parametrize(
    ("metric", "value", "passes"),
    [
        ("false_negative_rate", 0.1, True),
        ("false_negative_rate", 0.1000001, False),
        ("false_negative_rate", float("nan"), False),
        ("sensitivity", 0.9, True),
        ("sensitivity", 0.8999999, False),
        ("sensitivity", float("nan"), False),
    ],
)
def test_gates(metric, value, passes):
    assert GATES[metric].metric == metric
    assert GATES[metric].passes(value) is passes


def test_disclaimer_is_one_sentence():
    assert DISCLAIMER.endswith(".")
    assert DISCLAIMER.count(".") == 1
    assert "research" in DISCLAIMER


@pytest.mark.parametrize("page", ["index.md", "chapters/01-scope.md"])
def test_pages_state_the_disclaimer_as_it_is(page):
    assert DISCLAIMER in " ".join((paths.ROOT / page).read_text().split())


def test_importing_medlib_is_light():
    program = (
        "import sys, medlib, medlib.cli\n"
        "heavy = {'torch', 'pandas', 'numpy', 'lightning', 'pydicom'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print(medlib.MedicalProject.__name__, medlib.__version__)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("MedicalProject ")


def test_version_is_the_one_of_the_distribution():
    from importlib.metadata import version

    import medlib

    assert medlib.__version__ == version("medlib")


def test_names_at_the_door():
    import medlib

    assert set(medlib.__all__) <= set(dir(medlib))
    for name in medlib.__all__:
        assert callable(getattr(medlib, name))
    with pytest.raises(AttributeError, match="attribute nothing"):
        medlib.nothing  # noqa: B018
