"""`python -m tools ...`: what is made anew before a release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medlib import paths
from medlib.command_line import command_app

app = command_app("tools", "What a release is made of: manifests, descriptions, model cards.")


@app.command()
def rebuild(
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where; data_manifests by default.")
    ] = None,
) -> None:
    """Make the manifests again from their sources, to the byte."""
    from tools import idc
    from tools.rebuild import rebuild as make

    if idc.index_path() is None:
        typer.echo(f"the table of scans is kept as it is; to make it again: {idc.INSTALL}")
    for path in make(out or paths.MANIFESTS):
        typer.echo(path)


@app.command()
def phantom_manifest(
    profile: Annotated[str, typer.Option(help="Size of the phantom.")] = "quick",
    seed: Annotated[int, typer.Option(help="Seed of the phantom.")] = 0,
) -> None:
    """Write what a phantom is expected to be, made anew where need be."""
    from tools.phantom_manifest import rewrite

    typer.echo(rewrite(profile, seed))


@app.command()
def real_manifest() -> None:
    """List the real CT that MEDLIB_REAL_CT names, with checksums: data_manifests/real_ct.csv."""
    from medlib.baseline.real_manifest import FILE, checksum, manifest
    from medlib.cohorts.cohort import REAL, open_cohort
    from medlib.files import write_file

    table = manifest(open_cohort(REAL))
    write_file(FILE, table.to_csv(index=False, lineterminator="\n"))
    typer.echo(f"{FILE}: {len(table)} files, checksum {checksum(table)}")


@app.command()
def model_card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a reference run.")],
) -> None:
    """Write the model card of a run from its evidence."""
    from tools.model_card import write_model_card

    typer.echo(write_model_card(run))


if __name__ == "__main__":
    app(prog_name="tools")
