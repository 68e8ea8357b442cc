"""Lay out what sphinx reads: executed notebooks in place of their texts, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from book.pages import Book, Page

LINK_TO_TEXT = re.compile(r"(\]\((?:\./|\.\./)*[\w/-]+)\.md(#[\w.-]+)?\)")
COPIED = ("_config.yml", "_toc.yml", "assets", "chapters/references.bib")


def stage(book: Book) -> Path:
    """Bring ``_build/book`` up to date and return it; files that do not change keep their time."""
    wanted = {}
    for page in book.pages:
        if page.is_chapter:
            wanted[Path(f"{page.docname}.ipynb")] = _notebook(book, page).encode()
        else:
            wanted[Path(f"{page.docname}.md")] = _links(book, page, page.text).encode()
    for name in COPIED:
        source = book.root / name
        for path in [source, *source.rglob("*")]:
            if path.is_file():
                wanted[path.relative_to(book.root)] = path.read_bytes()
    folder = book.build / "book"
    _write(folder, wanted)
    return folder


def _notebook(book: Book, page: Page) -> str:
    """Return the executed chapter as the book shows it: one parameters cell, links to notebooks."""
    notebook = json.loads(book.executed_path(page).read_text(encoding="utf-8"))
    notebook["metadata"].pop("medlib", None)  # times; the status page shows them
    injected = [cell for cell in notebook["cells"] if "injected-parameters" in _tags(cell)]
    for cell in injected:
        _tags(cell).append("hide-cell")
    if injected:
        notebook["cells"] = [c for c in notebook["cells"] if "parameters" not in _tags(c)]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = _links(book, page, "".join(cell["source"]))
    return json.dumps(notebook, indent=1, ensure_ascii=False)


def _tags(cell: dict[str, Any]) -> list[str]:
    tags: list[str] = cell["metadata"].get("tags", [])
    return tags


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
