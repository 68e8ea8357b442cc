from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest

from book import evidence
from medlib import paths
from medlib.errors import BookError, MedlibError


@pytest.fixture
def published(monkeypatch):
    outputs = []
    monkeypatch.setattr(
        evidence,
        "publish_display_data",
        lambda data, metadata: outputs.append(SimpleNamespace(data=data, metadata=metadata)),
    )
    return outputs


def glued(published):
    """What {glue:text} would show, read as myst-nb reads it."""
    from myst_nb.core.variables import format_plain_text
    from myst_nb.ext.glue import extract_glue_data_cell

    cell = nbformat.v4.new_code_cell(
        outputs=[
            nbformat.v4.new_output("display_data", dict(o.data), metadata=dict(o.metadata))
            for o in published
        ]
    )
    return {
        key: format_plain_text(output["data"]["text/plain"], "s")
        for key, output in extract_glue_data_cell(cell)
    }


def test_a_record_is_one_text_a_key_and_one_stored_record(published):
    evidence.record("sens", 0.8234, 0.701, 0.9149, n=1018, method="bootstrap")
    assert glued(published) == {
        "sens": "0.82",
        "sens.full": "0.82 (0.70 to 0.91)",
        "sens.interval": "0.70 to 0.91",
        "sens.n": "1,018",
    }
    stored = [o.data[evidence.EVIDENCE_MIME] for o in published if evidence.EVIDENCE_MIME in o.data]
    assert len(stored) == 1
    assert {k: stored[0][k] for k in evidence.FIELDS} == {
        "name": "sens",
        "value": 0.8234,
        "low": 0.701,
        "high": 0.9149,
        "n": 1018,
        "unit": "",
        "method": "bootstrap",
        "chapter": "",
    }


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        ({"value": 22.5, "unit": "%", "digits": 1}, {"x": "22.5\u00a0%", "x.full": "22.5\u00a0%"}),
        (
            {"value": 4.0, "low": 3.0, "high": 5.0, "unit": "mm", "digits": 0},
            {"x": "4\u00a0mm", "x.full": "4\u00a0mm (3 to 5)", "x.interval": "3 to 5\u00a0mm"},
        ),
        ({"value": 6859}, {"x": "6,859", "x.full": "6,859"}),
        ({"value": np.int64(7)}, {"x": "7", "x.full": "7"}),
        ({"value": -0.001}, {"x": "0.00", "x.full": "0.00"}),
        ({"value": -0.25}, {"x": "\u22120.25", "x.full": "\u22120.25"}),
        ({"value": np.nan, "unit": "mm"}, {"x": "undefined", "x.full": "undefined"}),
        (
            {"value": 1.0, "low": np.nan, "high": np.nan},
            {"x": "1.00", "x.full": "1.00 (interval undefined)", "x.interval": "undefined"},
        ),
    ],
)
def test_texts(published, arguments, texts):
    evidence.record("x", **arguments)
    assert glued(published) == texts


def test_undefined_is_stored_as_null(published):
    evidence.record("x", np.nan, np.nan, np.nan)
    stored = json.loads(json.dumps(published[0].data[evidence.EVIDENCE_MIME], allow_nan=False))
    assert stored["value"] is None
    assert stored["low"] is None


def test_an_estimate_brings_its_own_interval(published):
    @dataclass
    class Estimate:
        value: float
        low: float
        high: float
        n: int
        unit: str
        method: str

    evidence.record("dice", Estimate(0.5, 0.4, 0.6, 8, "", "bootstrap"))
    assert glued(published)["dice.full"] == "0.50 (0.40 to 0.60)"
    assert published[0].data[evidence.EVIDENCE_MIME]["method"] == "bootstrap"
    assert published[0].data[evidence.EVIDENCE_MIME]["n"] == 8


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a::b", "x.full", "x.n", "`"])
def test_a_name_that_glue_cannot_find_is_refused(published, name):
    with pytest.raises(BookError, match="cannot be a key"):
        evidence.record(name, 1.0)


def executed_chapter(folder, stem, outputs):
    cell = nbformat.v4.new_code_cell(
        outputs=[
            nbformat.v4.new_output("display_data", o.data, metadata=o.metadata) for o in outputs
        ]
    )
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / f"{stem}.ipynb")


def test_cite_shows_the_same_text_and_stores_nothing_twice(published, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    evidence.record("fnr", 0.08, 0.02, 0.15, n=8)
    executed_chapter(tmp_path / "executed", "05-risk", published)
    recorded = glued(published)
    published.clear()

    evidence.cite("fnr")

    assert glued(published) == recorded
    assert all(evidence.EVIDENCE_MIME not in o.data for o in published)
    assert published[0].metadata["medlib"] == {"cites": "05-risk"}


def test_cite_reads_a_stored_evidence_file(published, tmp_path, monkeypatch):
    file = tmp_path / "evidence.json"
    file.write_text(
        '[{"name": "fnr", "value": 0.08, "low": null, "high": null, "n": null,'
        ' "unit": "", "method": "", "chapter": "05-risk"}]'
    )
    monkeypatch.setenv("MEDLIB_EVIDENCE", str(file))
    evidence.cite("fnr")
    assert glued(published) == {"fnr": "0.08", "fnr.full": "0.08"}


def test_cite_says_what_to_run(published, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    with pytest.raises(MedlibError, match="run the chapter that records it"):
        evidence.cite("missing")
