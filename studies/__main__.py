"""`python -m studies ...`: the studies that run long, made anew; the book reads what they found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from medlib.command_line import command_app

app = command_app("studies", "What proves a figure of the book, made anew.")


@app.command()
def ablation(
    steps: Annotated[int, typer.Option(help="Budget of each training.")] = 200,
    seed: Annotated[
        list[int] | None, typer.Option(help="One of the seeds; 0 and 1 by default.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where; in reference_runs by default.")
    ] = None,
) -> None:
    """Change one choice of the outlines at a time, on real CT; goes on where it was cut off."""
    from studies.ablation import FOLDER, study, summary

    typer.echo(summary(study(steps, seed or [0, 1], out or FOLDER)).to_string(index=False))


@app.command()
def label_policies(
    profile: Annotated[str, typer.Option(help="Size of the phantom.")] = "quick",
    seed: Annotated[int, typer.Option(help="Seed of the phantom.")] = 0,
) -> None:
    """Train on each label policy, judge by each; the table goes to reference_runs."""
    from medlib.cohorts.cohort import open_cohort
    from studies.label_policies import write_results

    typer.echo(write_results(open_cohort("phantom", profile, seed)))


@app.command()
def realism(
    phantom: Annotated[
        list[str],
        typer.Option(
            metavar="NAME:SOURCE=FOLDER",
            help="Made by benchmarks/phantom_vois.py, for instance v2:HEAD=FOLDER.",
        ),
    ],
    real: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder lidc_voi; by default of MEDLIB_REAL_CT."),
    ] = None,
) -> None:
    """Hold volumes of interest of phantoms against real ones; writes to data_manifests."""
    from studies.realism import write_evidence

    folder = real or Path(os.environ.get("MEDLIB_REAL_CT", ".")) / "lidc_voi"
    phantoms = dict(option.partition("=")[::2] for option in phantom)
    for name, classifier in write_evidence(folder, phantoms).items():
        typer.echo(f"{name}: AUC {classifier['auc']}")


if __name__ == "__main__":
    app(prog_name="studies")
