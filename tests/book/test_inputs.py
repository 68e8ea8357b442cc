from __future__ import annotations

import nbformat
import pytest

import book.inputs as keys
from book.inputs import OURS, changed, data_files, inputs_of, library_modules
from book.pages import Book
from medlib.keys import PACKAGES


def notebook(*sources):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])


def make_book(folder, **cells):
    first, *others = cells
    files = [f"{{file: {name}}}" for name in others]
    (folder / "_toc.yml").write_text(f"root: {first}\nchapters: [{', '.join(files)}]\n")
    for name, source in cells.items():
        (folder / f"{name}.md").write_text(
            "---\nkernelspec: {display_name: Python 3, name: python3}\n---\n"
            f"```{{code-cell}}\n{source}\n```\n"
        )
    return Book(folder)


def inputs(book):
    return {page.name: inputs_of(page, book, {}) for page in book.pages}


def differences(before, after):
    return {name: found for name in before if (found := changed(before[name], after[name]))}


def test_a_chapter_rests_on_what_it_imports_and_on_what_that_imports():
    modules = library_modules(notebook("%matplotlib inline\nfrom medlib.annotation import case"))
    assert {"medlib.annotation", "medlib.annotation.case"} <= modules
    assert "medlib.risk.voxel" not in modules
    assert "medlib.images.volume" in modules, "a case holds a volume"


def test_imports_inside_functions_count():
    source = "def f():\n    from book.evidence import record\n    return record"
    modules = library_modules(notebook(source))
    assert {"book.evidence", "medlib.paths"} <= modules
    # the command line imports the builder inside a function
    assert "book.build" in library_modules(notebook("import book.__main__"))


def test_a_name_at_the_door_leads_to_its_home():
    modules = library_modules(notebook("from medlib import risk_summary"))
    assert "medlib.risk.summary" in modules
    assert "medlib.review.priority" not in modules


def test_a_chapter_without_the_library_rests_on_none_of_it():
    assert library_modules(notebook("import math")) == set()


@pytest.mark.parametrize(
    ("touched", "chapters"),
    [
        ("studies.leakage", {"study"}),
        ("tools.datasheet", {"release"}),
        ("book.svg", {"curve"}),
        ("medlib.gallery.tiles", {"curve", "picture"}),  # a curve has the colours of the outlines
        ("medlib.images.windows", {"window", "curve", "picture"}),
    ],
)
def test_only_what_rests_on_a_changed_module_changes(tmp_path, monkeypatch, touched, chapters):
    book = make_book(
        tmp_path,
        study="from studies.leakage import inflation",
        release="import tools.datasheet",
        curve="from book import new_figure",
        picture="import medlib.gallery as gallery\ngallery.overlay",
        window="from medlib.images import windows",
    )
    before = inputs(book)
    other = tmp_path / "touched.py"
    other.write_text("# touched")
    file_of = keys.file_of
    monkeypatch.setattr(keys, "file_of", lambda name: other if name == touched else file_of(name))
    found = differences(before, inputs(book))
    assert {name for name in found if touched in found[name]} == chapters
    assert found.keys() == chapters


def test_manifests_parameters_and_files_beside_a_module_count(tmp_path, monkeypatch):
    book = make_book(tmp_path, plain="import medlib.scope", study="import studies.leakage")
    (tmp_path / "data_manifests").mkdir()
    manifest, table = tmp_path / "data_manifests" / "phantom.json", tmp_path / "leakage.json"
    manifest.write_text("{}")
    table.write_text("{}")
    monkeypatch.setattr(keys, "PACKAGES", tmp_path)
    monkeypatch.setattr(keys, "data_files", lambda: [table])
    source = tmp_path / "leakage.py"
    source.write_text('TABLE = Path(__file__).with_name("leakage.json")')
    file_of = keys.file_of
    monkeypatch.setattr(
        keys, "file_of", lambda name: source if name == "studies.leakage" else file_of(name)
    )
    before = inputs(book)
    table.write_text('{"a": 1}')
    assert differences(before, inputs(book)) == {"study": ["leakage.json"]}
    manifest.write_text('{"a": 1}')
    found = differences(before, inputs(book))
    assert found["plain"] == ["data_manifests/phantom.json"]
    seeded = inputs_of(book.pages[0], book, {"seed": 1})
    assert changed(before["plain"], seeded)[0] == "parameters"


def test_every_data_file_among_the_modules_is_named_by_one():
    """One whose name is put together would go unnoticed when it changes."""
    sources = [path.read_text() for name in OURS for path in (PACKAGES / name).rglob("*.py")]
    assert [
        file.name for file in data_files() if not any(file.name in text for text in sources)
    ] == []


def test_another_run_in_the_same_folder_is_another_input(tmp_path):
    book = make_book(tmp_path, a="")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "card.json").write_text("{}")
    before = inputs_of(book.pages[0], book, {"run_dir": str(run_dir)})
    (run_dir / "card.json").write_text('{"epochs": 2}')
    after = inputs_of(book.pages[0], book, {"run_dir": str(run_dir)})
    assert changed(before, after) == ["run_dir/card.json"]


def test_a_chapter_rests_on_the_reference_runs_if_it_reads_them(tmp_path):
    book = make_book(tmp_path, a="import medlib.risk.evaluation", b="import medlib.cohorts.splits")
    figures = tmp_path / "reference_runs" / "one" / "evaluation" / "real-vois.json"
    figures.parent.mkdir(parents=True)
    figures.write_text("{}")
    before = inputs(book)
    figures.write_text('{"dice": 1}')
    name = "reference_runs/one/evaluation/real-vois.json"
    assert differences(before, inputs(book)) == {"a": [name]}
