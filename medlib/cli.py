"""`medlib ...`: what a user does without a notebook."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from medlib.annotation.cli import annotation_app
from medlib.cohorts.cli import data_app
from medlib.command_line import command_app
from medlib.scope import DISCLAIMER

app = command_app(
    "medlib", f"Second Reader: a lung lesion segmentation assistant for research.\n\n{DISCLAIMER}"
)
# OpenMP's waiting threads spin by default: beside another busy process that slows torch many
# times over. Read once, when torch is imported, so it has to stand before.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

app.add_typer(data_app, name="data")
app.add_typer(annotation_app, name="annotation")

RunFolder = Annotated[
    Path | None, typer.Option(metavar="RUN", help="Run folder; the shipped one by default.")
]


@app.command()
def assist(
    input_path: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A folder (or file) with CT series in DICOM.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A folder a series is written here.")],
    run: RunFolder = None,
) -> None:
    """Mark lung lesions in a CT series, for a human to review.

    Exit code 0: every series was looked at.

    Exit code 1: all are written, but one was not looked at (no lung was found in it).

    Exit code 2: an error; nothing was written.
    """
    # Rooms are imported where they are used: torch alone takes seconds, `--help` must not.
    from medlib.review.report import assist as assist_series
    from medlib.review.schema import read_report

    folders = assist_series(input_path, out, run)
    reports = [read_report(folder) for folder in folders]
    for folder, report in zip(folders, reports, strict=True):
        reason = f": {report.not_looked_at}" if report.not_looked_at else ""
        typer.echo(
            f"{folder}: marks {len(report.lesions)}, review priority {report.review_priority}"
            f"{reason}, warnings {len(report.warnings)}"
        )
    typer.echo(DISCLAIMER)
    if any(report.not_looked_at for report in reports):
        raise typer.Exit(1)


@app.command()
def train(
    profile: Annotated[
        str, typer.Option(help="Size of the run: quick, standard, gpu or lidc.")
    ] = "quick",
    dataset: Annotated[
        str | None,
        typer.Option(
            help="'phantom', 'lidc-voi', or a folder like the phantom; the phantom by default, but "
            "for a profile of real CT, where it has to be said."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything drawn at random.")] = 0,
    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run folder, made if need be.")
    ] = None,
    leave_out: Annotated[
        str | None,
        typer.Option(metavar="SCAN", help="With lidc-voi: a whole scan to test on, not to train."),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Change a setting of the profile: loss=focal, encoder=resnet18; may be repeated.",
        ),
    ] = None,
) -> None:
    """Find or make a run, and evaluate it on held-out patients."""
    from medlib.risk.run_evaluation import evaluated_run

    made = evaluated_run(profile, dataset, seed, run_dir, change or (), leave_out).run
    typer.echo(made.folder)
    if "real_ct" in made.card["data"]:
        typer.echo(f"its model card: python -m tools model-card {made.folder}")


@app.command()
def evaluate(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A folder with lidc_voi.csv, cases.csv or cohort.csv, a folder of such folders, "
            "or 'phantom'.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets metrics.json.")],
    run: RunFolder = None,
    save_masks: Annotated[
        bool, typer.Option("--save-masks", help="Write masks/<case>_pred.nii.gz too.")
    ] = False,
) -> None:
    """Hold a run against the readers of real CT; goes on where it was cut off.

    Volumes of interest: lidc_voi.csv names for each its voi_id, patient_id, ct_file, readers_file
    (both NIfTI; in the second a bit for each reader) and n_readers. Whole scans: cases.csv names
    for each its case, licence, image_file and mask_file in a folder of the case's name; where
    there are only boxes, mask_file is a table with slice_index_ascending_z, xmin, xmax, ymin, ymax.
    """
    from medlib.risk.evaluation import evaluate_dataset, in_words
    from medlib.risk.evaluation_files import METRICS_FILE

    for content in evaluate_dataset(data, out, run, save_masks=save_masks):
        for line in in_words(content):
            typer.echo(line)
    typer.echo(f"each case, and this summary: {out / METRICS_FILE}")
    typer.echo(DISCLAIMER)


def main() -> None:
    """Entry point of the console script."""
    app()
