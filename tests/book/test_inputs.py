from __future__ import annotations

import nbformat

import book.inputs as keys
from book.inputs import changed, inputs_of, library_modules
from book.pages import Book


def notebook(*sources):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])


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


def test_only_what_rests_on_a_changed_module_changes(tmp_path, monkeypatch):
    (tmp_path / "_toc.yml").write_text("root: a\nchapters: [{file: b}]\n")
    (tmp_path / "data_manifests").mkdir()
    (tmp_path / "data_manifests" / "phantom.json").write_text("{}")
    for name, module in {"a": "medlib.risk", "b": "medlib.images"}.items():
        (tmp_path / f"{name}.md").write_text(
            "---\nkernelspec: {display_name: Python 3, name: python3}\n---\n"
            f"```{{code-cell}}\nimport {module}\n```\n"
        )
    book = Book(tmp_path)
    before = [inputs_of(page, book, {}) for page in book.pages]
    touched = tmp_path / "touched" / "__init__.py"
    touched.parent.mkdir()
    touched.write_text("# touched")
    file_of = keys.file_of
    monkeypatch.setattr(
        keys, "file_of", lambda name: touched if name == "medlib.risk" else file_of(name)
    )
    after = [inputs_of(page, book, {}) for page in book.pages]
    assert "medlib.risk" in changed(before[0], after[0])
    assert changed(before[1], after[1]) == []

    (tmp_path / "data_manifests" / "phantom.json").write_text('{"a": 1}')
    assert changed(after[1], inputs_of(book.pages[1], book, {})) == ["data_manifests/phantom.json"]
    assert changed(before[1], inputs_of(book.pages[1], book, {"seed": 1}))[0] == "parameters"


def test_another_run_in_the_same_folder_is_another_input(tmp_path):
    (tmp_path / "_toc.yml").write_text("root: a\n")
    (tmp_path / "a.md").write_text("---\nkernelspec: {display_name: P, name: python3}\n---\n")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "card.json").write_text("{}")
    book = Book(tmp_path)
    before = inputs_of(book.pages[0], book, {"run_dir": str(run_dir)})
    (run_dir / "card.json").write_text('{"epochs": 2}')
    after = inputs_of(book.pages[0], book, {"run_dir": str(run_dir)})
    assert changed(before, after) == ["run_dir/card.json"]


def test_a_chapter_rests_on_the_reference_runs_if_it_reads_them(tmp_path):
    (tmp_path / "_toc.yml").write_text("root: a\nchapters: [{file: b}]\n")
    for name, module in {"a": "medlib.risk.real", "b": "medlib.cohorts.splits"}.items():
        (tmp_path / f"{name}.md").write_text(
            "---\nkernelspec: {display_name: Python 3, name: python3}\n---\n"
            f"```{{code-cell}}\nimport {module}\n```\n"
        )
    run = tmp_path / "reference_runs" / "one"
    (run / "evaluation").mkdir(parents=True)
    (run / "evaluation" / "real-vois.json").write_text("{}")
    book = Book(tmp_path)
    before = [inputs_of(page, book, {}) for page in book.pages]
    (run / "evaluation" / "real-vois.json").write_text('{"dice": 1}')
    after = [inputs_of(page, book, {}) for page in book.pages]
    changes = [changed(*pair) for pair in zip(before, after, strict=True)]
    assert changes == [["reference_runs/one/evaluation/real-vois.json"], []]
