"""Where the files are: a folder, a zip archive, a list, or one file."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medlib.errors import InputError
from medlib.images.image_errors import ArchiveError, ImpossibleSizeError, NotDicomError, naming

MAX_FILES = 100_000
MAX_ARCHIVE_BYTES = 16 * 2**30  # unpacked: some ten thousand slices and their like
# Deflate can pack a thousandfold, CT packs about twofold. Small archives may do as they like.
MAX_PACKING = 100
FREELY_PACKED_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Found:
    """A file to look at, and the name that messages give it."""

    path: Path
    name: str


def shown(value: object, length: int = 80) -> str:
    """Return a value fit for one line of a message."""
    text = "".join(c if c.isprintable() else "?" for c in str(value))
    return text if len(text) <= length else f"{text[: length - 3]}..."


@contextmanager
def found_files(source: Path | Iterable[Path]) -> Iterator[tuple[str, list[Found]]]:
    """Yield what messages call a source, and its files.

    A source is a folder with all below it, a file, a zip archive, or several of them. Archives
    are unpacked into a folder that is gone afterwards. Raises InputError if a path is not there,
    or an archive cannot be unpacked safely.
    """
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]
    name = shown(paths[0], 300) if len(paths) == 1 else f"{len(paths)} paths"
    with tempfile.TemporaryDirectory(prefix="medlib-") as scratch:
        files: list[Found] = []
        for path in dict.fromkeys(paths):
            with naming(shown(path, 300)):
                files += _files_of(path, Path(scratch) / str(len(files)))
            if len(files) > MAX_FILES:
                raise ImpossibleSizeError(
                    f"{name}: more than {MAX_FILES} files; expected one study; name its folder"
                )
        yield name, files


def _files_of(path: Path, scratch: Path) -> list[Found]:
    try:
        if path.is_dir():
            below = sorted(p for p in path.rglob("*") if p.is_file())
            return [Found(p, shown(p.relative_to(path))) for p in below]
        if path.is_file():
            if _is_archive(path):
                return _unpack(path, scratch)
            return [Found(path, shown(path.name))]
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror or type(error).__name__}); expected a folder, a zip "
            "archive or a file; check its permissions"
        ) from error
    raise NotDicomError(
        "nothing there; expected a folder of DICOM files, a zip archive or a file; check the path"
    )


def _is_archive(path: Path) -> bool:
    # A DICOM preamble may be anything, so a file whose first bytes say zip is asked for its end.
    with path.open("rb") as stream:
        start = stream.read(132)
    return start[128:] != b"DICM" and start[:2] == b"PK"


def _unpack(path: Path, scratch: Path) -> list[Found]:
    """Unpack members under names of our own: theirs are only ever shown."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check_archive(members, path.stat().st_size)
            scratch.mkdir()
            found = [
                Found(scratch / f"{k:06d}", shown(member.filename))
                for k, member in enumerate(members)
            ]
            for file, member in zip(found, members, strict=True):
                with archive.open(member) as packed, file.path.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)  # ends at the size that was checked
            return found
    except InputError:
        raise
    except Exception as error:  # a damaged archive makes zipfile and its decoders raise many kinds
        raise ArchiveError(
            f"the archive cannot be unpacked ({type(error).__name__}); expected a whole zip "
            "without password; copy or export it again"
        ) from error


def _check_archive(members: list[zipfile.ZipInfo], packed: int) -> None:
    for member in members:
        inside = PurePosixPath(member.filename.replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts or ":" in inside.parts[0]:
            raise ArchiveError(
                f"names a file outside itself ({shown(member.filename)}); expected names below one "
                "folder; do not trust this archive, make it anew"
            )
    total = sum(member.file_size for member in members)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if (
        len(members) > MAX_FILES
        or total > min(MAX_ARCHIVE_BYTES, free // 2)
        or (total > FREELY_PACKED_BYTES and total > MAX_PACKING * packed)
    ):
        raise ImpossibleSizeError(
            f"{len(members)} file(s) of {total / 2**20:.0f} MiB packed into {packed / 2**20:.3g} "
            "MiB; expected a study that fits on this disk; unpack it yourself if you trust it"
        )
