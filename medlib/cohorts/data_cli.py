"""`medlib data ...`: the commands that need the readers' outlines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medlib.cohorts.cli import data_app

__all__ = ["data_app"]


@data_app.command()
def phantom(
    profile: Annotated[str, typer.Option(help="Size: quick, standard or gpu.")] = "quick",
    seed: Annotated[int, typer.Option(help="Seed of everything drawn at random.")] = 0,
) -> None:
    """Make the phantom cohort, or verify the one that stands."""
    from medlib.cohorts.cohort import open_cohort

    cohort = open_cohort("phantom", profile, seed, check_volumes=True)
    typer.echo(f"{cohort.folder}: {len(cohort.table)} patients, every checksum as it should be")


@data_app.command()
def verify(
    name: Annotated[
        str | None, typer.Argument(help="A collection; all of them by default.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Where it was fetched to, if elsewhere."),
    ] = None,
) -> None:
    """Recompute the checksums of the manifests, and of the data on this disk."""
    from medlib.cohorts.verify import verify as run_checks

    for line in run_checks(name, folder):
        typer.echo(line)
