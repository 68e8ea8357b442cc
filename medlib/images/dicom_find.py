"""Where the files are: a folder, a zip archive, a list, or one file."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from medlib.errors import InputError
from medlib.images.image_errors import ArchiveError, ImpossibleSizeError, NotDicomError, naming

MAX_FILES = 100_000
MAX_ARCHIVE_BYTES = 16 * 2**30  # unpacked: some ten thousand slices and their like
# Deflate can pack a thousandfold, CT packs about twofold. Small archives may do as they like.
MAX_PACKING = 100
FREELY_PACKED_BYTES = 256 * 2**20
_ARCHIVES = ("", ".zip")  # in a folder; other files may be zip archives, too (docx, npz)
_VOXELS = re.compile(
    r"[\w-][\w. -]{0,99}\.z?raw", re.IGNORECASE
)  # of a MetaImage, beside its header
_DEFLATED = DeflatedExplicitVRLittleEndian.encode()


@dataclass(frozen=True)
class Found:
    """A file to look at, and the name that messages give it."""

    path: Path
    name: str


@dataclass
class Source:
    """The files of a source; what was packed lies unpacked in the scratch folder."""

    name: str  # what messages call it
    scratch: Path
    files: list[Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what could not be reached
    refused: list[InputError] = field(default_factory=list)  # for what is packed inside a folder
    packed_bytes: int = 0  # limits hold for all that is packed, together
    unpacked_bytes: int = 0
    unpacked_files: int = 0


def shown(value: object, length: int = 80) -> str:
    """Return a value fit for one line of a message."""
    text = "".join(c if c.isprintable() else "?" for c in str(value))
    return text if len(text) <= length else f"{text[: length - 3]}..."


@contextmanager
def found_files(source: Path | Iterable[Path]) -> Iterator[Source]:
    """Yield the files of a source: a folder with all below it, a file, a zip archive, or several.

    Archives, and zip archives and deflated files in a folder, are unpacked into a folder that is
    gone afterwards. Raises InputError if a path is not there, or an archive cannot be unpacked
    safely.
    """
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]
    name = shown(paths[0], 300) if len(paths) == 1 else f"{len(paths)} paths"
    with tempfile.TemporaryDirectory(prefix="medlib-") as scratch:
        found = Source(name, Path(scratch))
        for path in dict.fromkeys(paths):
            with naming(shown(path, 300)):
                _add(found, path)
            if len(found.files) > MAX_FILES:
                raise ImpossibleSizeError(
                    f"{name}: more than {MAX_FILES} files; expected one study; name its folder"
                )
        if found.refused:
            found.notes.append(
                f"{len(found.refused)} packed file(s) could not be unpacked: images may be missing"
            )
        yield found


def files_below(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the files of a folder and all below it, and what could not be reached.

    Links are followed; a file or folder that several lead to comes once.
    """
    files: list[Path] = []
    seen: set[Path] = set()
    dead = 0
    closed: list[OSError] = []
    for where, folders, names in os.walk(folder, followlinks=True, onerror=closed.append):
        here = Path(where).resolve()
        if here in seen:  # a second link to it, or a loop
            folders.clear()
            continue
        seen.add(here)
        folders.sort()
        for name in sorted(names):
            path = Path(where, name)
            linked = path.is_symlink()
            file = Path(os.path.realpath(path)) if linked else here / name
            if path.is_file() and file not in seen:
                seen.add(file)
                files.append(path)
            dead += linked and not path.exists()
    notes = {
        f"{dead} link(s) lead nowhere": dead,
        f"{len(closed)} folder(s) cannot be opened": closed,
    }
    return sorted(files), [f"{note}: images may be missing" for note, n in notes.items() if n]


def _add(found: Source, path: Path) -> None:
    try:
        if path.is_dir():
            below, notes = files_below(path)
            found.notes += notes
            for file in below[: MAX_FILES + 1]:
                name = shown(file.relative_to(path))
                try:
                    _add_file(found, file, name, archives=file.suffix.lower() in _ARCHIVES)
                except OSError:
                    found.files.append(Found(file, name))  # and will be told as damaged
                except InputError as error:
                    found.refused.append(type(error)(f"{name}: {error}"))
            return
        if path.is_file():
            _add_file(found, path, shown(path.name))
            return
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror or type(error).__name__}); expected a folder, a zip "
            "archive or a file; check its permissions"
        ) from error
    what = "a link that leads nowhere" if path.is_symlink() else "nothing there"
    raise NotDicomError(
        f"{what}; expected a folder of DICOM files, a zip archive or a file; check the path"
    )


def _add_file(found: Source, path: Path, name: str, *, archives: bool = True) -> None:
    with path.open("rb", buffering=0) as stream:
        start = stream.read(512)
    # A DICOM preamble may be anything, so a file whose first bytes say zip is asked for its end.
    if archives and start[:2] == b"PK" and start[128:132] != b"DICM":
        for member in _unpack(found, path):
            _add_file(found, member.path, member.name, archives=False)
    elif start[:2] == b"PK" and name.lower().endswith(".zip"):
        found.refused.append(
            ArchiveError(f"{name} is an archive in another; expected files; unpack the outer one")
        )
    else:
        found.files.append(Found(_inflate(found, path) if _DEFLATED in start else path, name))


def _unpack(found: Source, path: Path) -> list[Found]:
    """Unpack members under names of our own: theirs are only ever shown.

    Voxels of a MetaImage keep the plain name by which their header, in the same folder, finds them.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check_names(members)
            found.packed_bytes += path.stat().st_size
            _check_room(found, len(members), sum(member.file_size for member in members))
            scratch = Path(tempfile.mkdtemp(dir=found.scratch))
            folders: dict[str, Path] = {}
            taken: set[Path] = set()
            files = []
            for k, member in enumerate(members):
                folder, _, name = member.filename.replace("\\", "/").rpartition("/")
                beside = folders.setdefault(folder, scratch / f"folder{len(folders)}")
                beside.mkdir(exist_ok=True)
                kept = beside / name
                if not _VOXELS.fullmatch(name) or kept in taken:
                    kept = beside / f"{k:06d}"
                taken.add(kept)
                files.append(Found(kept, shown(member.filename)))
            for file, member in zip(files, members, strict=True):
                with archive.open(member) as packed, file.path.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)  # ends at the size that was checked
            return files
    except InputError:
        raise
    except Exception as error:  # a damaged archive makes zipfile and its decoders raise many kinds
        raise ArchiveError(
            f"the archive cannot be unpacked ({type(error).__name__}); expected a whole zip "
            "without password; copy or export it again"
        ) from error


def _inflate(found: Source, path: Path) -> Path:
    """Write a deflated data set (DICOM PS3.5 A.5) as a plain one; a damaged one stays as it is."""
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    with path.open("rb") as packed, warnings.catch_warnings(action="ignore"):
        try:
            read_preamble(packed, force=True)
            read_dataset(packed, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
            start = packed.tell()
            plain = engine.decompress(packed.read(FREELY_PACKED_BYTES), FREELY_PACKED_BYTES + 1)
        except Exception:  # whatever a damaged file makes the parser or zlib raise
            return path
        found.packed_bytes += packed.tell()
        _check_room(found, 0, len(plain))
        if not engine.eof:
            return path
        packed.seek(0)
        uid = ExplicitVRLittleEndian.encode().ljust(len(_DEFLATED), b"\0")
        scratch = Path(tempfile.mkdtemp(dir=found.scratch)) / "plain"
        scratch.write_bytes(packed.read(start).replace(_DEFLATED, uid) + plain)
    return scratch


def _check_names(members: list[zipfile.ZipInfo]) -> None:
    for member in members:
        inside = PurePosixPath(member.filename.replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts or ":" in inside.parts[0]:
            raise ArchiveError(
                f"names a file outside itself ({shown(member.filename)}); expected names below one "
                "folder; do not trust this archive, make it anew"
            )


def _check_room(found: Source, files: int, unpacked: int) -> None:
    """Count what is about to be unpacked; refuse what is too much, together with all before."""
    found.unpacked_files += files
    found.unpacked_bytes += unpacked
    total, packed = found.unpacked_bytes, found.packed_bytes
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if (
        found.unpacked_files > MAX_FILES
        or unpacked > min(MAX_ARCHIVE_BYTES - (total - unpacked), free // 2)
        or (total > FREELY_PACKED_BYTES and total > MAX_PACKING * packed)
    ):
        raise ImpossibleSizeError(
            f"{total / 2**20:.0f} MiB packed into {packed / 2**20:.3g} MiB; expected a study that "
            "fits on this disk; unpack it yourself if you trust it"
        )
