"""`medlib ...`: what a user does without a notebook."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from medlib.annotation.cli import annotation_app
from medlib.cohorts.cli import data_app
from medlib.command_line import command_app
from medlib.errors import RunError
from medlib.scope import DISCLAIMER

app = command_app(
    "medlib", f"Second Reader: a lung lesion segmentation assistant for research.\n\n{DISCLAIMER}"
)
# OpenMP's waiting threads spin by default: beside another busy process that slows torch many
# times over. Read once, when torch is imported, so it has to stand before.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

app.add_typer(data_app, name="data")
app.add_typer(annotation_app, name="annotation")

Profile = Annotated[str, typer.Option(help="Size of the run: quick, standard, gpu or lidc.")]
Dataset = Annotated[str, typer.Option(help="'phantom', 'lidc-voi', or a folder like the phantom.")]
Seed = Annotated[int, typer.Option(help="Seed of everything drawn at random.")]


@app.command()
def assist(
    input_path: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A folder (or file) with CT series in DICOM.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A folder a series is written here.")],
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Run folder; by default the one shipped.")
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
    dataset: Annotated[
        str | None,
        typer.Option(
            help="'phantom', 'lidc-voi', or a folder like the phantom; the phantom by default, but "
            "for a profile of real CT, where it has to be said."
        ),
    ] = None,
    seed: Seed = 0,
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
    from medlib.baseline.config import is_pair

    if dataset is None and is_pair(profile):
        raise RunError(
            f"profile '{profile}' learns from real CT: use --dataset lidc-voi, or --dataset "
            "phantom for the phantom in its place"
        )
    dataset = dataset or "phantom"
    if leave_out and dataset != "lidc-voi":
        raise RunError(f"--leave-out {leave_out}: only a run on lidc-voi sees whole real scans")
    if dataset == "lidc-voi" or (dataset == "phantom" and is_pair(profile)):
        from medlib.paths import RUNS
        from medlib.risk.reference_run import make_reference_run

        if change:
            raise RunError(
                f"--set {change[0]}: such a run has two networks with a profile each, in "
                "medlib/baseline/config.py; change it there"
            )
        name = f"{profile}{'-phantom' if dataset == 'phantom' else ''}-seed{seed}"
        if leave_out:
            name = f"left-out/{name}-without-{leave_out}"
        folder = run_dir or RUNS / name
        typer.echo(make_reference_run(profile, seed, folder, leave_out, dataset).folder)
        return
    from medlib.risk.evaluation import evaluated_run

    typer.echo(evaluated_run(profile, dataset, seed, run_dir, change or ()).run.folder)


@app.command()
def evaluate(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Real CT: a folder with lidc_voi.csv or cases.csv."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets metrics.json.")],
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Run folder; the shipped one by default.")
    ] = None,
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
    from medlib.risk.real import METRICS_FILE, in_words
    from medlib.risk.real import evaluate as evaluate_folder

    for line in in_words(evaluate_folder(data, out, run, save_masks=save_masks)):
        typer.echo(line)
    typer.echo(f"each case, and this summary: {out / METRICS_FILE}")
    typer.echo(DISCLAIMER)


def main() -> None:
    """Entry point of the console script."""
    app()
