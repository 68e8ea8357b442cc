"""Lay out what sphinx reads: executed notebooks in place of their texts, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from book.pages import Book, Page

LINK_TO_TEXT = re.compile(r"(\]\((?:\./|\.\./)*[\w/-]+)\.md(#[\w.-]+)?\)")
COPIED = ("_config.yml", "_toc.yml", "assets", "chapters/references.bib")


def stage(book: Book) -> Path:
    """Bring the staged book up to date; files that do not change keep their time.

    Returns
    -------
    Path
        The folder, ``_build/book``.
    """
    folder = book.build / "book"
    wanted = {Path(path.name): path.read_bytes() for path in _top_level(book)}
    for page in book.pages:
        if page.is_chapter:
            wanted[Path(f"{page.docname}.ipynb")] = _notebook(book, page).encode()
        else:
            wanted[Path(f"{page.docname}.md")] = _links(book, page, page.text).encode()
    for name in COPIED:
        source = book.root / name
        for path in [source] if source.is_file() else sorted(source.rglob("*")):
            if path.is_file():
                wanted[path.relative_to(book.root)] = path.read_bytes()
    _write(folder, wanted)
    return folder


def _top_level(book: Book) -> list[Path]:
    return [path for path in (book.root / "_toc.yml", book.root / "_config.yml") if path.exists()]


def _notebook(book: Book, page: Page) -> str:
    """Return the executed chapter as the book shows it: one parameters cell, links to notebooks."""
    notebook = json.loads(book.executed_path(page).read_text(encoding="utf-8"))
    notebook["metadata"].pop("medlib", None)  # times; the status page shows them
    injected = any(_has_tag(cell, "injected-parameters") for cell in notebook["cells"])
    cells = []
    for cell in notebook["cells"]:
        if injected and _has_tag(cell, "parameters"):
            continue
        if _has_tag(cell, "injected-parameters"):
            cell["metadata"]["tags"].append("hide-cell")
        if cell["cell_type"] == "markdown":
            cell["source"] = _links(book, page, "".join(cell["source"]))
        cells.append(cell)
    notebook["cells"] = cells
    return json.dumps(notebook, indent=1, ensure_ascii=False)


def _has_tag(cell: dict[str, dict[str, list[str]]], tag: str) -> bool:
    return tag in cell["metadata"].get("tags", [])


def _links(book: Book, page: Page, text: str) -> str:
    """Point links at the file that is staged: ``(05-risk.md)`` becomes ``(05-risk.ipynb)``."""
    chapters = {chapter.source.resolve() for chapter in book.chapters}

    def replace(link: re.Match[str]) -> str:
        target = link[1].split("](", 1)[1]
        if (page.source.parent / f"{target}.md").resolve() in chapters:
            return f"{link[1]}.ipynb{link[2] or ''})"
        return link[0]

    return LINK_TO_TEXT.sub(replace, text)


def _write(folder: Path, wanted: dict[Path, bytes]) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(folder) not in wanted:
            path.unlink()
    for name, content in wanted.items():
        target = folder / name
        if target.is_dir():
            shutil.rmtree(target)
        if not target.exists() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
