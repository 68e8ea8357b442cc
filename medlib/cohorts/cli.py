"""`medlib data ...`: which data, from where, in which part, in which form; without names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from medlib.errors import DataError, InputError

# Rooms are imported where they are used, so that `--help` is quick.
data_app = typer.Typer(
    help="Data: list, fetch, split, de-identify, make, verify, convert.", no_args_is_help=True
)

OutDir = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Where; _build/data/<name> by default.")
]


@data_app.command(name="list")
def list_collections() -> None:
    """Show the collections: scans, patients, parts, size, licence."""
    from rich.console import Console
    from rich.table import Table

    from medlib.cohorts.collections import summary

    shown = summary()
    table = Table()
    for column in shown:
        right = column in ("scans", "patients")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in shown.itertuples(index=False):
        table.add_row(*map(str, row))
    Console().print(table)


@data_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Collection to fetch: lidc.")],
    patients: Annotated[
        str, typer.Option(metavar="ID,ID", help="Patients, with commas between them.")
    ] = "",
    split: Annotated[
        str, typer.Option(metavar="PART", help="Every patient of a part: test, or test,external.")
    ] = "",
    out: OutDir = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Another store that speaks S3.")
    ] = None,
    s5cmd: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Fetch nothing: write what s5cmd has to run."),
    ] = None,
) -> None:
    """Fetch public scans by manifest; what is there already is not fetched again."""
    from medlib import paths
    from medlib.cohorts import fetch as fetching
    from medlib.cohorts.collections import collection

    one = collection(name)
    chosen = one.chosen_scans(_listed(patients), _listed(split))
    size = f"{len(chosen)} series, {chosen['size_bytes'].sum() / 1e9:.2f} GB, {one.licence}"
    if s5cmd is not None:
        s5cmd.write_text(fetching.s5cmd_list(chosen), encoding="utf-8")
        typer.echo(f"{s5cmd}: {size}; run: s5cmd --no-sign-request run {s5cmd}")
        return
    folder = out or paths.DATA / name
    typer.echo(f"{size} -> {folder}")
    came = fetching.fetch(chosen, folder, endpoint or fetching.ENDPOINT)
    typer.echo(f"{folder}: complete, every checksum as it should be; {came:,} bytes came now")


@data_app.command()
def split(
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the parts hold; exit code 2 if not.")
    ] = False,
) -> None:
    """Show the parts of every collection, and check that nobody stands in two."""
    from medlib.cohorts.collections import checked_splits

    rows = checked_splits()
    if not check:
        counts = rows.groupby(["collection", "split"], sort=False)
        for (name, part), group in counts:
            typer.echo(f"{name} {part}: {group['person'].nunique()} patients, {len(group)} scans")
    names = ", ".join(rows["collection"].unique())
    typer.echo(f"{names}: {rows['person'].nunique()} patients, nobody in two parts")


@data_app.command()
def deidentify(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A DICOM file or a folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder for the images.")],
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Secret (16 bytes or more): the same gives the same new UIDs in a later run.",
        ),
    ] = None,
) -> None:
    """Write DICOM images without what names their patient (PS3.15 basic profile)."""
    from medlib.images.deidentify import deidentify as write

    try:
        secret = key.read_bytes() if key else None
    except OSError as error:
        raise InputError(f"{key}: cannot be read ({error.strerror}); name a file") from error
    written = write(source, out, secret)
    typer.echo(
        f"{out}: {written.n_files} images, {written.n_series} series, {written.n_patients} patients"
    )
    for reason, count in written.left_out.items():
        typer.echo(f"left out: {count} ({reason})")
    for note in written.notes:
        typer.echo(note)
    if written.n_blanked:
        typer.echo(f"{written.n_blanked} texts repeated a name or number and were emptied")
    typer.echo("Look at the images before they leave: text in pixels and faces are not removed.")


@data_app.command()
def phantom(
    profile: Annotated[str, typer.Option(help="Size: quick, many or standard.")] = "quick",
    seed: Annotated[int, typer.Option(help="Seed of everything drawn at random.")] = 0,
) -> None:
    """Make the phantom cohort, or verify the one that stands."""
    from medlib.cohorts.cohort import check_voxels, open_cohort

    cohort = open_cohort("phantom", profile, seed)
    check_voxels(cohort)
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


@data_app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="A CT series (DICOM, NIfTI), or CheXpert's folder."),
    ],
    to: Annotated[
        Literal["coco", "yolo", "table"],
        typer.Option(help="Boxes of lesions (coco, yolo), or a table of labels."),
    ],
    out: Annotated[
        Path, typer.Option(metavar="OUT", help="A new folder; of a table, a new CSV file.")
    ],
    mask: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Boxes: NIfTI on the CT's grid, k inside lesion k."),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(help="Table: what -1 becomes; u-ones, u-zeros, soft or ignore; no default."),
    ] = None,
) -> None:
    """Write a CT with its mask as images with boxes, or CheXpert's labels as one table."""
    if out.exists():
        raise DataError(f"{out}: exists; expected a new path; name another with --out")
    if to == "table":
        from medlib.cohorts.chexpert import read_chexpert
        from medlib.files import write_file

        if policy is None:
            raise DataError("uncertain labels (-1) need a --policy: u-ones, u-zeros, soft, ignore")
        table = read_chexpert(source, policy)
        write_file(out, table.to_csv(index=False))
        typer.echo(f"{out}: {len(table)} labels of {table['patient_id'].nunique()} patients")
        return
    from medlib.cohorts.detection_boxes import convert_ct

    if mask is None:
        raise DataError(f"boxes ({to}) are those of a mask; name it with --mask")
    images = convert_ct(source, mask, out, to)
    n_boxes = sum(len(image.boxes) for image in images)
    typer.echo(f"{out}: {len(images)} images, {n_boxes} boxes")


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
