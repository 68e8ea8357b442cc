"""Versions of an annotation: who changed it in which role, why, when, and from what.

annotations.json        the series, its grid, and a record a version, oldest first
annotation-0001.csv     the contour table of version 1, never written again
annotation-0002.csv     ...

Each record carries the checksum of its table and of itself, and its parent's: the history can be
added to, and a change to what stands in it is found. Authors are roles, never names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date as Date
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from medlib.annotation.contour_table import parse_table, table_text
from medlib.annotation.diff import difference
from medlib.annotation.drawings import Annotation, GridMismatchError, SeriesGrid
from medlib.annotation.protocol import Record, default_protocol
from medlib.errors import DataError, InputError, first_fault
from medlib.files import lock_on, write_file

MANIFEST_FILE = "annotations.json"


class Rating(Record):
    """What one reader rated of one lesion."""

    lesion: int = Field(ge=1)
    reader: int = Field(ge=1)
    ratings: Mapping[str, int]


class Version(Record):
    """One version of an annotation."""

    number: int = Field(ge=1)
    role: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    date: Date
    protocol: str
    file: str
    lesions: int = Field(ge=0)
    readers: int = Field(ge=0)
    ratings: tuple[Rating, ...] = ()
    parent_sha256: str | None = None
    sha256: str = ""

    def checksum(self, table: bytes) -> str:
        """Return the SHA-256 of the table and of every other field."""
        record = self.model_dump(mode="json", exclude={"sha256"})
        text = json.dumps(record, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(table + b"\0" + text.encode()).hexdigest()


class Manifest(Record):
    """The history of one series' annotation."""

    series_instance_uid: str
    shape_zyx: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]
    sop_instance_uids: tuple[str, ...]
    source_affine: tuple[tuple[float, ...], ...] | None = None
    frame_numbers: tuple[int, ...] = ()
    versions: tuple[Version, ...] = Field(min_length=1)

    @property
    def grid(self) -> SeriesGrid:
        """Where the voxels lie."""
        stored = None if self.source_affine is None else np.array(self.source_affine)
        return SeriesGrid(
            self.series_instance_uid,
            self.shape_zyx,
            np.array(self.affine),
            self.sop_instance_uids,
            stored,
            self.frame_numbers,
        )


def read_manifest(folder: Path) -> Manifest:
    """Read a history; InputError if there is none, DataError if anything in it was changed."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise InputError(
            f"{folder}: no {MANIFEST_FILE} here; make one with medlib annotation revise"
        )
    try:
        manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise DataError(
            f"{path}: not a history ({first_fault(error)}); restore it from its last copy"
        ) from None
    parent = None
    for number, version in enumerate(manifest.versions, start=1):
        file = folder / version.file
        table = file.read_bytes() if file.is_file() else b""
        if (version.number, version.parent_sha256) != (number, parent) or (
            version.checksum(table) != version.sha256
        ):
            raise DataError(
                f"{path}: version {number} is not as it was written (its record, {version.file} or "
                "what came before); a history is only added to: restore it from its last copy"
            )
        parent = version.sha256
    return manifest


def read_version(folder: Path, number: int | None = None) -> Annotation:
    """Read a version of an annotation, the newest where no number is given."""
    manifest = read_manifest(folder)
    if number is not None and not 1 <= number <= len(manifest.versions):
        raise InputError(
            f"{folder}: no version {number}; expected 1 to {len(manifest.versions)}; name one of "
            "them"
        )
    version = manifest.versions[(number or 0) - 1]
    text = (folder / version.file).read_text(encoding="utf-8")
    ratings = {(item.lesion, item.reader): item.ratings for item in version.ratings}
    return parse_table(text, manifest.grid, version.file, ratings)


def revise(folder: Path, annotation: Annotation, *, role: str, reason: str, date: Date) -> Version:
    """Add a version, the whole annotation as it is from now on; the first begins the history.

    The caller gives the date, so that the same call gives the same bytes. InputError for a role
    that the protocol does not know, an empty reason, no change, another grid, or a date before the
    last version's.
    """
    rules = default_protocol()
    if role not in rules.roles:
        raise InputError(
            f"{role!r} is no role; expected one of {', '.join(rules.roles)}; give the role in "
            "which it was changed, never a name"
        )
    if not reason.strip():
        raise InputError("the reason is empty; say in a few words why it was changed")
    with lock_on(folder):
        earlier: tuple[Version, ...] = ()
        if (folder / MANIFEST_FILE).exists():
            history = read_manifest(folder)
            _check_follows(folder, history, annotation, date)
            earlier = history.versions
        number = len(earlier) + 1
        table = table_text(annotation).encode()
        record = Version(
            number=number,
            role=role,
            reason=reason.strip(),
            date=date,
            protocol=rules.version,
            file=f"annotation-{number:04d}.csv",
            lesions=len(annotation.lesions),
            readers=len(annotation.readers),
            ratings=tuple(
                Rating(lesion=lesion, reader=reader, ratings=given)
                for (lesion, reader), given in sorted(annotation.ratings.items())
            ),
            parent_sha256=earlier[-1].sha256 if earlier else None,
        )
        version = record.model_copy(update={"sha256": record.checksum(table)})
        where = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(annotation.grid).items()
        }
        manifest = Manifest(**where, versions=(*earlier, version))
        # The table first: a history never names a file that is not there.
        write_file(folder / version.file, table)
        write_file(folder / MANIFEST_FILE, manifest.model_dump_json(indent=1) + "\n")
    return version


def _check_follows(folder: Path, earlier: Manifest, annotation: Annotation, date: Date) -> None:
    last = earlier.versions[-1]
    if earlier.series_instance_uid != annotation.grid.series_instance_uid:
        raise GridMismatchError(
            f"{folder}: is the history of series {earlier.series_instance_uid}, the annotation is "
            f"of {annotation.grid.series_instance_uid}; use that series' folder"
        )
    if not difference(read_version(folder), annotation):
        raise InputError(
            f"{folder}: nothing differs from version {last.number}; there is nothing to revise"
        )
    if date < last.date:
        raise InputError(
            f"{folder}: {date} lies before version {last.number} of {last.date}; give the date of "
            "this revision"
        )
