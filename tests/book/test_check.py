"""Each check passes a sound book and bites on the one fault it is for."""

from __future__ import annotations

import json

import nbformat
import pytest

from book import check
from book.check import Built, check_html
from book.pages import Book
from medlib.errors import BookError

PAGE = """<html><head><link rel="stylesheet" href="_static/book.css"></head><body>
<h1 id="top">Title</h1><a href="other.html#there">on</a> <a href="https://doi.org/10">away</a>
<a href="#top">up</a><img src="data:image/png;base64,AA" alt="a nodule">
<figure><svg role="img" aria-label="a curve"></svg></figure>
<span class="pasted-text">0.82</span> Phantom^A001 <span class="math">a^b</span>
</body></html>"""


@pytest.fixture
def built(tmp_path):
    (tmp_path / "_toc.yml").write_text("root: index\nchapters: [{file: other}]\n")
    (tmp_path / "index.md").write_text("---\nkernelspec: {name: python3}\n---\n# Title\n")
    (tmp_path / "other.md").write_text("# Other\n")
    html = tmp_path / "_build" / "html"
    (html / "_static").mkdir(parents=True)
    (html / "_static" / "book.css").write_text("a { background: url('fonts/a.woff') }")
    (html / "index.html").write_text(PAGE)
    (html / "other.html").write_text('<p id="there">There</p>')
    row = {"name": "sens", "value": 0.82, "low": None, "high": None, "n": None, "unit": ""}
    row |= {"method": "m", "chapter": "index"}
    (html / "evidence.json").write_text(json.dumps([row]))
    output = nbformat.v4.new_output(
        "display_data", {"application/vnd.medlib.evidence+json": {**row, "digits": 2}}
    )
    executed = tmp_path / "_build" / "executed"
    executed.mkdir()
    cell = nbformat.v4.new_code_cell("record()", outputs=[output])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), executed / "index.ipynb")
    return Built(html, Book(tmp_path))


def change(built, old, new, page="index.html"):
    path = built.html / page
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_sound_book_passes(built):
    check_html(built.book, built.html)


def test_missing_page(built):
    (built.html / "other.html").unlink()
    assert "other.html is missing" in list(check.pages_exist(built))
    with pytest.raises(BookError, match=r"2 faults(?s:.*)other.html is missing"):
        check_html(built.book, built.html)


@pytest.mark.parametrize(
    ("one_check", "old", "new"),
    [
        (check.no_traceback, "There", "Traceback (most recent call last):"),
        (check.no_traceback, "<p ", '<div class="output traceback">x</div><p '),
    ],
)
def test_traceback(built, one_check, old, new):
    assert not list(one_check(built))
    change(built, old, new, "other.html")
    assert list(one_check(Built(built.html, built.book)))


@pytest.mark.parametrize(
    ("one_check", "old", "new"),
    [
        (check.pictures_have_words, 'alt="a nodule"', 'alt=""'),
        (check.pictures_have_words, 'alt="a nodule"', ""),
        (check.pictures_have_words, 'alt="a nodule"', 'alt="_images/3f2a.png"'),
        (check.pictures_have_words, ' aria-label="a curve"', ""),
        (check.pictures_have_words, ' role="img"', ""),
        (check.links_resolve, "#there", "#nowhere"),
        (check.links_resolve, "other.html", "another.html"),
        (check.links_resolve, 'href="#top"', 'href="#bottom"'),
        (check.links_resolve, "_static/book.css", "_static/absent.css"),
        (check.nothing_is_fetched, "data:image/png;base64,AA", "https://example.org/a.png"),
        (check.nothing_is_fetched, "_static/book.css", "//cdn.example.org/book.css"),
        (check.nothing_is_fetched, "</body>", '<script src="https://x.org/a.js"></script>'),
        (check.nothing_is_fetched, "</body>", '<p style="background:url(http://x.org/a)">'),
        (check.nothing_is_fetched, "</body>", '<style>@import "https://x.org/a.css";</style>'),
        (check.nothing_is_fetched, '<img src="', '<img srcset="https://x.org/a.png 2x" src="'),
        (check.no_patient_names, "Phantom^A001", "Doe^Jane"),
        (check.prose_is_evidence, ">0.82<", ">0.83<"),
    ],
)
def test_a_fault_on_a_page_is_found(built, one_check, old, new):
    assert not list(one_check(built))
    change(built, old, new)
    assert list(one_check(Built(built.html, built.book)))


@pytest.mark.parametrize(
    "shown",
    [
        "(0010,0030) Patient's Birth Date                DA: '19500101'",
        "(0010, 0010) Patient's Name                      PN: 'Doe'",
        "PatientName = 'Doe'",
        '{"AccessionNumber": "A77"}',
        "{'OtherPatientIDs': ['A77', 'B2']}",
        '"00080090": {"vr": "PN", "Value": [{"Alphabetic": "Doe"}]}',
    ],
)
@pytest.mark.parametrize("page", ["other.html", "data.json"])
def test_a_value_that_identifies_is_found(built, shown, page):
    (built.html / "data.json").write_text("There")
    assert not list(check.no_identifying_attributes(built))
    change(built, "There", shown, page)
    assert list(check.no_identifying_attributes(Built(built.html, built.book)))


@pytest.mark.parametrize("tag", ["", "<td>(0010,0030)</td>"])
def test_a_table_with_a_value_that_identifies_is_found(built, tag):
    row = f"<table><tr><td>PatientBirthDate</td>{tag}<td>1950</td></tr></table>"
    change(built, "There", row, "other.html")
    assert list(check.no_identifying_attributes(built)) == [
        "other.html has a table with a value of PatientBirthDate"
    ]


@pytest.mark.parametrize(
    "shown",
    [
        "<table><tr><td>InstitutionName</td><td>(0008,0080)</td></tr></table>",
        "PatientName, PatientBirthDate and AccessionNumber are never read",
        "(0010,0010) Patient's Name                      PN: ''",
        "<table><tr><td>PatientName</td><td>(empty)</td></tr></table>",
        "<table><tr><td>PatientSex</td><td>F</td></tr></table>",
        '{"PatientName": ""}',
    ],
)
def test_a_name_of_an_attribute_or_an_empty_one_is_none(built, shown):
    change(built, "There", shown, "other.html")
    assert not list(check.no_identifying_attributes(built))


def test_a_dicom_file_in_the_book_is_found(built):
    (built.html / "slice").write_bytes(bytes(128) + b"DICM" + bytes(50))
    assert list(check.no_identifying_attributes(built)) == [
        "slice is a DICOM file; a page shows pictures, not files with a header"
    ]


def test_a_font_from_elsewhere_is_found(built):
    change(built, "fonts/a.woff", "https://fonts.example.org/a.woff", "_static/book.css")
    assert list(check.nothing_is_fetched(built))


def test_a_path_of_the_machine_is_found(built):
    assert not list(check.no_build_paths(built))
    change(built, "There", f"warning in {built.book.root}/medlib/x.py", "other.html")
    assert list(check.no_build_paths(built))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows[0].pop("method"),
        lambda rows: rows[0].update(chapter=""),
        lambda rows: rows.append(dict(rows[0])),
        lambda rows: rows[0].update(value=0.9),
        lambda rows: rows.clear(),
    ],
)
def test_spoilt_evidence_is_found(built, spoil):
    assert not list(check.evidence_is_whole(built))
    path = built.html / "evidence.json"
    rows = json.loads(path.read_text())
    spoil(rows)
    path.write_text(json.dumps(rows))
    assert list(check.evidence_is_whole(built))


def test_missing_evidence_is_found(built):
    (built.html / "evidence.json").unlink()
    assert list(check.evidence_is_whole(built))
