"""What the built book has to hold; each check returns its complaints, one line each."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag
from pydicom.tag import Tag as DicomTag

from book.evidence import Record, as_rows, records_in
from book.identifying import NEVER_CARRIED
from book.pages import Book
from medlib.errors import BookError

MOST_SHOWN = 30
CSS_ADDRESS = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")
DICOM_NAME = re.compile(r"\b[A-Za-z][\w-]*\^[A-Za-z][\w^-]*")
ELSEWHERE = re.compile(r"\s*(https?:)?//")
PICTURE_FILE = re.compile(r"\.(png|jpe?g|svg|gif|webp)$", re.IGNORECASE)
_TAGS = {str(DicomTag(keyword)).strip("()").upper(): keyword for keyword in NEVER_CARRIED}
_KEYWORDS = "|".join(NEVER_CARRIED)
_IN_JSON = "|".join(tag.replace(",", "") for tag in _TAGS)
_IN_DUMP = "|".join(tag.replace(",", r",\s*") for tag in _TAGS)
ATTRIBUTE_VALUE = re.compile(
    # PatientName='x', "PatientName": "x", 'PatientName': ['x']
    rf"""(?P<keyword>\b(?:{_KEYWORDS})\b)["']?\s*[:=]\s*\[?["'][^"'\s]"""
    # "00100010": {"vr": "PN", "Value": ["x"]}
    rf"""|"(?P<json>{_IN_JSON})"\s*:\s*\{{[^}}]*"Value\""""
    # (0010,0010) Patient's Name    PN: 'x'
    rf"""|\((?P<dump>{_IN_DUMP})\)[^\n]{{0,60}}\b[A-Z]{{2}}:\s*\[?["'][^"'\s]""",
    re.IGNORECASE,
)
DICOM_TAG = re.compile(r"\([0-9A-Fa-f]{4},\s*[0-9A-Fa-f]{4}\)")
# What the browser fetches as soon as it reads the page.
FETCHED = {"[src]": "src", "object[data]": "data", "link[href]": "href"}
TEXT_FILES = (".html", ".json", ".js", ".txt", ".csv")


@dataclass(frozen=True)
class Built:
    """A built book: the folder, and each of its pages parsed once."""

    html: Path
    book: Book

    @cached_property
    def files(self) -> dict[str, Path]:
        """Path in the folder -> file, without what the theme brings."""
        paths = {path.relative_to(self.html): path for path in sorted(self.html.rglob("*"))}
        return {
            name.as_posix(): path
            for name, path in paths.items()
            if path.is_file() and "_static" not in name.parts
        }

    @cached_property
    def pages(self) -> dict[str, BeautifulSoup]:
        """Path of each page in the folder -> its content."""
        return {
            name: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
            for name, path in self.files.items()
            if path.suffix == ".html"
        }

    @cached_property
    def records(self) -> list[Record]:
        """What the cells of the executed chapters computed."""
        return records_in(self.book.executed)


def check_html(book: Book, html: Path) -> None:
    """Run every check on a folder of built pages.

    Raises
    ------
    BookError
        If there is any complaint; lists them.
    """
    built = Built(html, book)
    if complaints := [complaint for check in CHECKS for complaint in check(built)]:
        listed = complaints[:MOST_SHOWN]
        if more := complaints[MOST_SHOWN:]:
            listed.append(f"and {len(more)} more")
        raise BookError(f"{len(complaints)} faults in the built book:\n  " + "\n  ".join(listed))


def pages_exist(built: Built) -> Iterator[str]:
    """Every page of ``_toc.yml`` is there; a green build without pages has happened to others."""
    for page in built.book.pages:
        if f"{page.docname}.html" not in built.pages:
            yield f"{page.docname}.html is missing"


def no_traceback(built: Built) -> Iterator[str]:
    """No page shows an error of its own code."""
    for name, page in built.pages.items():
        if page.select(".output.traceback") or "Traceback (most recent call last)" in page.text:
            yield f"{name} shows a traceback"


def pictures_have_words(built: Built) -> Iterator[str]:
    """Every picture says what it shows; a file name says nothing."""
    for name, page in built.pages.items():
        for image in page.find_all("img"):
            alt, source = _attribute(image, "alt").strip(), _attribute(image, "src")
            if not alt or alt == source or (PICTURE_FILE.search(alt) and " " not in alt):
                yield f"{name}: picture {source[:60]!r} has no alt text"
        for drawing in page.select("figure svg, svg[role=img]"):
            label = _attribute(drawing, "aria-label")
            if not label.strip():
                yield f"{name}: an inline drawing has no aria-label"
            elif _attribute(drawing, "role") != "img":
                yield f"{name}: drawing {label[:40]!r} lacks role=img"


def links_resolve(built: Built) -> Iterator[str]:
    """Every link into the book finds its page and its anchor."""
    anchors = {
        name: {_attribute(element, "id") for element in page.select("[id]")}
        | {_attribute(element, "name") for element in page.select("a[name]")}
        for name, page in built.pages.items()
    }
    for name, page in built.pages.items():
        for _, address in _addresses(page, {**FETCHED, "a[href]": "href"}):
            parts = urlsplit(address)
            if not address or parts.scheme or parts.netloc:
                continue
            here = built.html / name
            path = (here.parent / unquote(parts.path) if parts.path else here).resolve()
            if path.is_dir():
                path /= "index.html"
            if not path.is_file():
                yield f"{name}: link {address!r} finds no file"
                continue
            found = path.relative_to(built.html.resolve()).as_posix()
            anchor = unquote(parts.fragment)
            if anchor and found in anchors and anchor not in anchors[found]:
                yield f"{name}: link {address!r} finds no such anchor"


def nothing_is_fetched(built: Built) -> Iterator[str]:
    """No page asks another host for anything: the book reads without a network."""
    for name, page in built.pages.items():
        for element, address in _addresses(page, {**FETCHED, "[srcset]": "srcset"}):
            canonical = "canonical" in element.get_attribute_list("rel")
            if ELSEWHERE.match(address) and not canonical:
                yield f"{name}: <{element.name}> fetches {address}"
        styles = [style.text for style in page.find_all("style")]
        styles += [address for _, address in _addresses(page, {"[style]": "style"})]
        for address in _fetched_by_css("\n".join(styles)):
            yield f"{name}: a style fetches {address}"
    for path in sorted(built.html.rglob("*.css")):
        for address in _fetched_by_css(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(built.html)} fetches {address}"


def no_build_paths(built: Built) -> Iterator[str]:
    """No page tells where on which machine it was built."""
    machine = {str(built.book.root.resolve()), str(Path.home()), sys.prefix, sys.base_prefix}
    machine -= {"/", "/usr", "/usr/local"}
    for name, path in built.files.items():
        text = path.read_text(encoding="utf-8") if path.suffix in TEXT_FILES else ""
        for place in sorted(machine):
            if re.search(rf"{re.escape(place)}\b", text):
                yield f"{name} holds a path of this machine: {place}"


def no_patient_names(built: Built) -> Iterator[str]:
    """No DICOM person name (``Family^Given``) but the phantom's own."""
    for name, page in built.pages.items():
        strings = page.find_all(string=True)
        text = " ".join(string for string in strings if not string.find_parent(class_="math"))
        for found in sorted(set(DICOM_NAME.findall(text))):
            if "phantom" not in found.lower():
                yield f"{name} shows what looks like a patient's name"


def no_identifying_attributes(built: Built) -> Iterator[str]:
    """No value of a DICOM attribute that identifies: in a dump, a table, data, or a DICOM file.

    A page may name such an attribute; it may not show one with a value beside it.
    """
    for name, path in built.files.items():
        content = path.read_bytes()
        if content[128:132] == b"DICM":
            yield f"{name} is a DICOM file; a page shows pictures, not files with a header"
        elif path.suffix in TEXT_FILES:
            text = content.decode("utf-8", errors="replace")
            text = built.pages[name].get_text() if name in built.pages else text
            for keyword in sorted({_keyword(found) for found in ATTRIBUTE_VALUE.finditer(text)}):
                yield f"{name} shows a value of {keyword}"
    for name, page in built.pages.items():
        for row in page.select("tr"):
            cells = [cell.get_text().strip() for cell in row.find_all(["td", "th"])]
            cells = [cell for cell in cells if not DICOM_TAG.fullmatch(cell)]
            for cell, after in itertools.pairwise(cells):
                if cell in NEVER_CARRIED and after not in ("", "(empty)"):
                    yield f"{name} has a table with a value of {cell}"


def evidence_is_whole(built: Built) -> Iterator[str]:
    """Each record of the cells is in the file for programs, and no other."""
    path = built.html / "evidence.json"
    if not path.exists():
        yield "evidence.json is missing"
    elif json.loads(path.read_text(encoding="utf-8")) != as_rows(built.records):
        yield "evidence.json is not what the executed chapters computed; build the book again"


def prose_is_evidence(built: Built) -> Iterator[str]:
    """Every number that prose shows through glue is the text of a record."""
    texts = {text for record in built.records for text in record.texts().values()}
    for name, page in built.pages.items():
        for shown in page.select(".pasted-text"):
            if re.search(r"\d", shown.text) and shown.text not in texts:
                yield f"{name} quotes {shown.text!r}, which is no evidence record"


CHECKS: tuple[Callable[[Built], Iterator[str]], ...] = (
    pages_exist,
    no_traceback,
    pictures_have_words,
    links_resolve,
    nothing_is_fetched,
    no_build_paths,
    no_patient_names,
    no_identifying_attributes,
    evidence_is_whole,
    prose_is_evidence,
)


def _addresses(page: BeautifulSoup, where: dict[str, str]) -> Iterator[tuple[Tag, str]]:
    """Yield the elements that match a selector, each with the value of its attribute."""
    for selector, attribute in where.items():
        for element in page.select(selector):
            yield element, _attribute(element, attribute)


def _attribute(element: Tag, name: str) -> str:
    return str(element.get(name, ""))


def _keyword(found: re.Match[str]) -> str:
    if keyword := found["keyword"]:
        return keyword
    digits = re.sub(r"\W", "", found["json"] or found["dump"]).upper()
    return _TAGS[f"{digits[:4]},{digits[4:]}"]


def _fetched_by_css(css: str) -> Iterator[str]:
    addresses = (found[0] or found[1] for found in CSS_ADDRESS.findall(css))
    return filter(ELSEWHERE.match, addresses)
