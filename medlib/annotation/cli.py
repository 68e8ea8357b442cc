"""`medlib annotation ...`: list, check, convert, revise and compare what readers drew."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medlib.annotation.drawings import Annotation
    from medlib.annotation.validate import Finding
    from medlib.images.volume import Volume

annotation_app = typer.Typer(
    help="Annotations: the protocol; list, check, convert, revise, compare.", no_args_is_help=True
)

Input = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        help="Contour table (.csv), DICOM SEG or RTSTRUCT, NIfTI, a cohort's case, or the folder "
        "of a history (FOLDER@2 for its version 2).",
    ),
]
History = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Of the history; made with its first version.")
]
Series = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the CT series in DICOM.")]
Rois = Annotated[
    list[str] | None,
    typer.Option(
        "--roi",
        metavar="NAME|NUMBER",
        help="Structure to take, again for more; left out, all that are lesions.",
    ),
]
By = Annotated[
    str | None,
    typer.Option(
        metavar="WHO",
        help="Who drew, where the file does not say: reader, reader:ROLE or "
        "algorithm:NAME[:VERSION].",
    ),
]


@annotation_app.command()
def protocol() -> None:
    """Print the guide that a reader gets."""
    from medlib.annotation.protocol import default_protocol

    rules = default_protocol()
    typer.echo(f"# Annotation protocol: {rules.name}, version {rules.version}")
    for heading, text in rules.guide().items():
        typer.echo(f"\n## {heading}\n\n{text}")


@annotation_app.command()
def check(input_path: Input, series: Series, roi: Rois = None) -> None:
    """Check an annotation against the protocol: exit 0 without findings, 1 with some."""
    from medlib.annotation.drawings import GridMismatchError
    from medlib.annotation.validate import Finding, validate_annotation

    volume = _volume(series, input_path)
    try:
        annotation = _annotation(input_path, volume, roi)
    except GridMismatchError as error:
        findings = [Finding("grid-mismatch", "the file", str(error))]
    else:
        findings = validate_annotation(annotation, volume)
        _tell(input_path, annotation)
        typer.echo(
            f"{input_path}: {len(annotation.lesions)} lesions, {len(annotation.readers)} readers, "
            f"{len(findings)} findings"
        )
    _show(findings)
    if findings:
        raise typer.Exit(1)


@annotation_app.command("list")
def list_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="DICOM SEG or RTSTRUCT.")],
) -> None:
    """List the structures of a file: number, name, type, who drew, frames or contours."""
    from medlib.annotation.formats import list_structures
    from medlib.images.dicom_find import shown

    for one in list_structures(file):
        code = f" ({' '.join(one.code[1][:2])})" if one.code else ""
        columns = one.number, one.label, f"{one.kind or 'no type'}{code}", one.author, one.parts
        typer.echo("  ".join(shown(column, 160) for column in columns))


@annotation_app.command()
def convert(
    input_path: Input,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help=".csv, .dcm (a SEG), .nii.gz, or a folder.")
    ],
    series: Series,
    to: Annotated[
        str | None,
        typer.Option(help="table, seg, rtstruct or nifti, where the name is not enough."),
    ] = None,
    roi: Rois = None,
    by: By = None,
) -> None:
    """Write an annotation in another format."""
    from medlib.annotation.formats import write_annotation

    volume = _volume(series, input_path)
    annotation = _annotation(input_path, volume, roi, by)
    kind = write_annotation(annotation, out, volume, series, to)
    _tell(input_path, annotation)
    typer.echo(f"{out}: {kind}, {len(annotation.lesions)} lesions, {len(annotation.masks)} masks")


@annotation_app.command()
def revise(
    folder: History,
    series: Series,
    date: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Of the revision.")],
    annotation: Annotated[
        Path | None, typer.Option(metavar="INPUT", help="The annotation as it is from now on.")
    ] = None,
    review: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A reviewed report instead: decisions.jsonl, mask.nii.gz."
        ),
    ] = None,
    corrected: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The reviewer's mask, with --review.")
    ] = None,
    role: Annotated[
        str | None, typer.Option(help="In which it was changed, never a name; not with --review.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; not with --review.")] = None,
    roi: Rois = None,
    by: By = None,
) -> None:
    """Add a version to an annotation, from a file or from a review."""
    from medlib.annotation import revision
    from medlib.annotation.corrections import MASK_FILE, apply_corrections, read_answers
    from medlib.annotation.diff import difference
    from medlib.annotation.mask_files import read_label_values
    from medlib.annotation.validate import validate_annotation
    from medlib.errors import InputError

    volume = _volume(series, folder)
    if review and corrected and not (annotation or role or reason):
        before = revision.read_version(folder)
        labels = (read_label_values(path, volume) for path in (review / MASK_FILE, corrected))
        changed = apply_corrections(before, read_answers(review), *labels)
        revised, role, reason = changed.annotation, changed.role, changed.reason
    elif annotation and role and reason and not (review or corrected):
        revised = _annotation(annotation, volume, roi, by)
    else:
        raise InputError(
            "expected either --annotation INPUT with --role and --reason, or --review DIR with "
            "--corrected FILE (role and reason then come from the answers)"
        )
    if broken := [f for f in validate_annotation(revised, volume) if f.severity == "mend"]:
        _show(broken)
        typer.echo("nothing was written: mend these first", err=True)
        raise typer.Exit(1)
    version = revision.revise(folder, revised, role=role, reason=reason, date=date.date())
    _tell(folder if annotation is None else annotation, revised)
    typer.echo(f"{folder}: version {version.number}, {version.lesions} lesions")
    if version.number > 1:
        was = revision.read_version(folder, version.number - 1)
        typer.echo(str(difference(was, revised)))


@annotation_app.command()
def history(folder: History) -> None:
    """List the versions of an annotation; every checksum is compared."""
    from medlib.annotation.revision import read_manifest

    for version in read_manifest(folder).versions:
        typer.echo(
            f"{version.number}  {version.date}  {version.role}  lesions {version.lesions}, "
            f"readers {version.readers}  {version.sha256[:12]}  {version.reason}"
        )


@annotation_app.command()
def diff(
    before: Input,
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="The other one.")],
    series: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the CT series; not needed for histories."),
    ] = None,
    roi: Rois = None,
) -> None:
    """Say what changed between two annotations."""
    from medlib.annotation.diff import difference

    volume = _volume(series, before) if series is not None else None
    both = {path: _annotation(path, volume, roi) for path in (before, after)}
    typer.echo(str(difference(both[before], both[after])))
    for path, annotation in both.items():
        _tell(path, annotation)


def _tell(path: Path, annotation: Annotation) -> None:
    """Say what was left out of a file: once it has served, as a refusal is one line."""
    for note in annotation.notes:
        typer.echo(f"{path}: {note}", err=True)


def _show(findings: list[Finding]) -> None:
    for finding in findings:
        typer.echo(
            f"{finding.severity}: {finding.code}: {finding.where}: {finding.found}; {finding.to_do}"
        )


def _annotation(
    path: Path, volume: Volume | None, roi: Sequence[str] | None, by: str | None = None
) -> Annotation:
    """Read an annotation; a history needs no series."""
    from medlib.annotation.formats import drawn_by, only, read_annotation
    from medlib.annotation.revision import MANIFEST_FILE, read_version
    from medlib.errors import InputError

    rois = roi or ()
    name, _, number = path.name.rpartition("@")
    if name and number.isdecimal() and not path.exists():
        annotation = only(path, read_version(path.with_name(name), int(number)), rois)
    elif (path / MANIFEST_FILE).is_file():
        annotation = only(path, read_version(path), rois)
    elif volume is None:
        raise InputError(f"{path}: is no history, so its series is needed; add --series DIR")
    else:
        annotation = read_annotation(path, volume, rois)
    return annotation if by is None else drawn_by(annotation, by)


def _volume(series: Path, what: Path) -> Volume:
    """Read the one series of a folder."""
    from medlib.errors import InputError
    from medlib.images.dicom import read_series

    volumes = read_series(series)
    if len(volumes) > 1:
        raise InputError(
            f"{series}: holds {len(volumes)} CT series; expected the one of {what}; give its folder"
        )
    return volumes[0]
