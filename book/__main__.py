"""`python -m book ...`: build and check the book."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from book.pages import Book
from medlib import parameters
from medlib.command_line import command_app

app = command_app("book", "The book: execute, build, check.")

Profile = Annotated[str | None, typer.Option(help="Size of the run: quick, standard or gpu.")]
Dataset = Annotated[str | None, typer.Option(help="'phantom', or a folder with the same layout.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything drawn at random.")]
RunDir = Annotated[Path | None, typer.Option(metavar="DIR", help="Run folder to use.")]


@app.command()
def build(
    profile: Profile = None, dataset: Dataset = None, seed: Seed = None, run_dir: RunDir = None
) -> None:
    """Execute what has changed, build _build/html, check it."""
    from book.build import build_book

    build_book(parameters=_given(profile, dataset, seed, run_dir))


@app.command()
def chapter(
    number: Annotated[str, typer.Argument(help="Number or name: 04, 04-baseline, index.")],
    profile: Profile = None,
    dataset: Dataset = None,
    seed: Seed = None,
    run_dir: RunDir = None,
    force: Annotated[bool, typer.Option(help="Even if nothing has changed.")] = False,
) -> None:
    """Execute one chapter, and those it needs."""
    from book.execute import execute_chapters

    book = Book()
    parameters = _given(profile, dataset, seed, run_dir)
    execute_chapters(book, parameters, only=number, force=force)
    typer.echo(book.executed_path(book.chapter(number)).relative_to(book.root))


@app.command()
def check() -> None:
    """Check the built book: pages, links, alt texts, requests, evidence."""
    from book.build import check_book

    check_book()
    typer.echo("the book holds its rules")


@app.command()
def expected() -> None:
    """Store what the chapters' check cells show now, for nbval to compare with."""
    from book.nbval import write_expected

    for path in write_expected():
        typer.echo(path.relative_to(Book().root))


@app.command()
def nbval() -> None:
    """Write the notebooks that nbval runs into _build/nbval."""
    from book.nbval import write_notebooks

    typer.echo(f"{len(write_notebooks())} notebooks in _build/nbval")


@parameters.checked
def _given(
    profile: str | None, dataset: str | None, seed: parameters.Seed | None, run_dir: Path | None
) -> dict[str, Any]:
    """Return the parameters that were given; chapters keep their own values for the others."""
    folder = str(run_dir.resolve()) if run_dir else None
    options = {"profile": profile, "dataset": dataset, "seed": seed, "run_dir": folder}
    return {name: value for name, value in options.items() if value is not None}


if __name__ == "__main__":
    app(prog_name="book")
