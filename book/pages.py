"""The pages of the book: which there are, which are executed, and what each needs first."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import yaml
from nbformat import NotebookNode

from medlib import paths
from medlib.errors import BookError


@dataclass(frozen=True)
class Page:
    """One page of ``_toc.yml``.

    A page with a kernel in its front matter is a chapter and is executed; any other is only text.
    A chapter that cites figures of others says so in its front matter: ``medlib: {needs:
    [05-risk]}``, or ``needs: all`` for a page that rests on every other chapter.
    """

    docname: str  # its path in the book without the ending: "chapters/05-risk"
    source: Path

    @property
    def name(self) -> str:
        """Short name, unique over the book: ``"05-risk"``."""
        return self.docname.rsplit("/", 1)[-1]

    @cached_property
    def text(self) -> str:
        """The source as it stands."""
        return self.source.read_text(encoding="utf-8")

    @cached_property
    def front_matter(self) -> dict[str, Any]:
        """The YAML block at the top."""
        if not self.text.startswith("---\n"):
            return {}
        block = self.text[4:].split("\n---", 1)[0]
        try:
            front_matter = yaml.safe_load(block)
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise BookError(f"{self.docname}.md: its front matter is not YAML ({reason})") from None
        return front_matter if isinstance(front_matter, dict) else {}

    @property
    def is_chapter(self) -> bool:
        """Whether the page has code to execute."""
        return "kernelspec" in self.front_matter

    @property
    def needs(self) -> str | list[str]:
        """Names of the chapters that are executed before this one, or ``"all"``."""
        needs = self.front_matter.get("medlib", {}).get("needs", [])
        return "all" if needs == "all" else list(needs)

    def notebook(self) -> NotebookNode:
        """Return the chapter as a notebook, made from its text."""
        import jupytext

        notebook: NotebookNode = jupytext.reads(self.text, fmt="md:myst")
        return notebook


@dataclass(frozen=True)
class Book:
    """The book of one working tree: the folder that holds ``_toc.yml`` and ``_config.yml``."""

    root: Path = paths.ROOT

    @property
    def build(self) -> Path:
        """Everything made, never committed."""
        return self.root / "_build"

    @property
    def executed(self) -> Path:
        """The executed chapters."""
        return self.build / "executed"

    @property
    def html(self) -> Path:
        """The finished book."""
        return self.build / "html"

    @cached_property
    def pages(self) -> list[Page]:
        """Every page of ``_toc.yml``, the root first."""
        toc = yaml.safe_load((self.root / "_toc.yml").read_text(encoding="utf-8"))
        docnames = [toc["root"], *_files(toc.get("parts", [])), *_files(toc.get("chapters", []))]
        pages = [Page(name, self.root / f"{name}.md") for name in docnames]
        if missing := [page.docname for page in pages if not page.source.exists()]:
            raise BookError(f"_toc.yml names pages that do not exist: {', '.join(missing)}")
        names = [page.name for page in pages]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise BookError(f"two pages are called {', '.join(twice)}; give each its own name")
        return pages

    @cached_property
    def chapters(self) -> list[Page]:
        """The pages with code, each after those it needs, otherwise in the order of the book."""
        waiting = {page.name: page for page in self.pages if page.is_chapter}
        needs = {name: self.needs_of(name) for name in waiting}
        try:
            TopologicalSorter(needs).prepare()
        except CycleError as error:
            raise BookError(f"chapters need each other: {' -> '.join(error.args[1])}") from None
        order = []
        while waiting:
            ready = next(name for name in waiting if not waiting.keys() & needs[name])
            order.append(waiting.pop(ready))
        return order

    def needs_of(self, name: str) -> list[str]:
        """Return the names of the chapters that chapter `name` says it needs."""
        chapters = {page.name: page for page in self.pages if page.is_chapter}
        needs = chapters[name].needs
        if isinstance(needs, str):
            return [other for other, page in chapters.items() if page.needs != needs]
        if unknown := ", ".join(sorted(set(needs) - set(chapters))):
            raise BookError(f"chapter {name} needs {unknown}; there are {', '.join(chapters)}")
        return needs

    def all_needs_of(self, name: str) -> set[str]:
        """Return what `name` needs, and what those need."""
        needs = self.needs_of(name)
        return {*needs}.union(*map(self.all_needs_of, needs))

    def chapter(self, number_or_name: str) -> Page:
        """Return a chapter by name or by the number its name starts with.

        Raises
        ------
        BookError
            If there is none.
        """
        for page in self.chapters:
            number = page.name.split("-", 1)[0]
            if number_or_name in (page.name, number, number.lstrip("0")):
                return page
        known = ", ".join(page.name for page in self.chapters)
        raise BookError(f"no chapter {number_or_name!r}; there are {known}")

    def executed_path(self, page: Page) -> Path:
        """Where the executed chapter stands."""
        return self.executed / f"{page.name}.ipynb"

    def execution_of(self, page: Page) -> dict[str, Any]:
        """Return what is noted of the chapter's execution; nothing where it was not executed."""
        path = self.executed_path(page)
        noted = json.loads(path.read_text(encoding="utf-8"))["metadata"] if path.exists() else {}
        return dict(noted.get("medlib", {}))


def code_cells(notebook: NotebookNode, tag: str = "") -> list[NotebookNode]:
    """Return the cells with code; those with a tag where one is named."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and (not tag or tag in cell.metadata.get("tags", []))
    ]


def parameters_of(notebook: NotebookNode) -> list[str]:
    """Return the names that the cell tagged ``parameters`` assigns."""
    return [
        target.id
        for cell in code_cells(notebook, "parameters")
        for statement in ast.parse(cell.source).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    ]


def first_line(source: str) -> str:
    """Return the first line of a cell that says something."""
    return next((line.strip() for line in source.splitlines() if line.strip()), "")


def _files(entries: list[dict[str, Any]]) -> list[str]:
    files = []
    for entry in entries:
        if "file" in entry:
            files.append(str(entry["file"]))
        files += _files(entry.get("chapters", []) + entry.get("sections", []))
    return files
