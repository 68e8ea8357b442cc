"""The pages of the book: which there are, which are executed, and what each needs first."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import yaml
from nbformat import NotebookNode

from medlib import paths
from medlib.errors import BookError

ALL = "all"


@dataclass(frozen=True)
class Page:
    """One page of ``_toc.yml``.

    A page with a kernel in its front matter is a chapter and is executed; any other is only text.
    A chapter that cites figures of others says so in its front matter: ``medlib: {needs:
    [05-risk]}``, or ``needs: all`` for a page that rests on every other chapter.

    Attributes
    ----------
    docname : str
        Path in the book without its ending: ``"chapters/05-risk"``.
    source : Path
        The text.
    """

    docname: str
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
        needs: str | list[str] = self.front_matter.get("medlib", {}).get("needs", [])
        return needs

    def notebook(self) -> NotebookNode:
        """Return the chapter as a notebook, made from its text."""
        import jupytext

        notebook: NotebookNode = jupytext.reads(self.text, fmt="md:myst")
        return notebook


@dataclass(frozen=True)
class Book:
    """The book of one working tree.

    Attributes
    ----------
    root : Path
        Folder that holds ``_toc.yml`` and ``_config.yml``.
    """

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
        chapters = {page.name: page for page in self.pages if page.is_chapter}
        sorter: TopologicalSorter[str] = TopologicalSorter()
        for name in chapters:
            sorter.add(name, *self.needs_of(name))
        try:
            sorter.prepare()
        except CycleError as error:
            raise BookError(f"chapters need each other: {' -> '.join(error.args[1])}") from None
        order: list[str] = []
        ready: set[str] = set()
        while sorter.is_active():
            ready.update(sorter.get_ready())
            first = min(ready, key=list(chapters).index)
            ready.remove(first)
            order.append(first)
            sorter.done(first)
        return [chapters[name] for name in order]

    def needs_of(self, name: str) -> list[str]:
        """Return the names of the chapters that chapter `name` says it needs."""
        chapters = {page.name: page for page in self.pages if page.is_chapter}
        needs = chapters[name].needs
        if needs == ALL:
            return [
                other for other, page in chapters.items() if other != name and page.needs != ALL
            ]
        if unknown := sorted(set(needs) - set(chapters)):
            known = ", ".join(chapters)
            raise BookError(f"chapter {name} needs {', '.join(unknown)}; there are {known}")
        return list(needs)

    def all_needs_of(self, name: str) -> set[str]:
        """Return what `name` needs, and what those need."""
        found: set[str] = set()
        todo = self.needs_of(name)
        while todo:
            need = todo.pop()
            if need not in found:
                found.add(need)
                todo += self.needs_of(need)
        return found

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


def parameters_of(notebook: NotebookNode) -> list[str]:
    """Return the names that the cell tagged ``parameters`` assigns."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", []):
            return [
                target.id
                for statement in ast.parse(cell.source).body
                if isinstance(statement, ast.Assign)
                for target in statement.targets
                if isinstance(target, ast.Name)
            ]
    return []


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
