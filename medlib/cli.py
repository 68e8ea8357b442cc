"""`medlib ...`: what a user does without a notebook."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from medlib.book.cli import book_app
from medlib.errors import BookError, MedlibError
from medlib.scope import DISCLAIMER


class _OneLineErrors(TyperGroup):
    """Errors for people end in one line on standard error, everything else keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MedlibError as error:
            typer.echo(f"medlib: {error}", err=True)
            raise typer.Exit(1 if isinstance(error, BookError) else 2) from None


app = typer.Typer(
    cls=_OneLineErrors,
    help=f"Second Reader: a lung lesion segmentation assistant for research.\n\n{DISCLAIMER}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# OpenMP's waiting threads spin by default: beside another busy process that slows torch many
# times over. Read once, when torch is imported, so it has to stand before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

data_app = typer.Typer(help="Cohorts: make or verify.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(book_app, name="book")

Profile = Annotated[str, typer.Option(help="Size of the run: quick, standard or gpu.")]
Dataset = Annotated[str, typer.Option(help="'phantom', or a folder with the same layout.")]
Seed = Annotated[int, typer.Option(help="Seed of everything drawn at random.")]


@app.command()
def assist(
    input_path: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A folder (or file) with CT series in DICOM.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A folder a series is written here.")],
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Run folder; the newest by default.")
    ] = None,
) -> None:
    """Mark lung lesions in a CT series, for a human to review."""
    # Rooms are imported where they are used: torch alone takes seconds, `--help` must not.
    from medlib.review.report import assist as assist_series
    from medlib.review.schema import read_report

    for folder in assist_series(input_path, out, run):
        report = read_report(folder)
        typer.echo(
            f"{folder}: marks {len(report.lesions)}, review priority {report.review_priority}, "
            f"warnings {len(report.warnings)}"
        )
    typer.echo(DISCLAIMER)


@app.command()
def train(
    profile: Profile = "quick",
    dataset: Dataset = "phantom",
    seed: Seed = 0,
    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run folder, made if need be.")
    ] = None,
) -> None:
    """Find or make a run, and evaluate it on held-out patients."""
    from medlib.risk.evaluation import evaluated_run

    typer.echo(evaluated_run(profile, dataset, seed, run_dir).run.folder)


@data_app.command()
def phantom(profile: Profile = "quick", seed: Seed = 0) -> None:
    """Make the phantom cohort, or verify the one that stands."""
    from medlib.annotation.cohort import open_cohort

    cohort = open_cohort("phantom", profile, seed, check_volumes=True)
    typer.echo(f"{cohort.folder}: {len(cohort.table)} patients, every checksum as it should be")


def main() -> None:
    """Entry point of the console script."""
    app()
