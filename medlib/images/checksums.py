"""Checksums of files in the format of `sha256sum`, so that anybody can check them without us."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from medlib.errors import DataError

SUMS_FILE = "SHA256SUMS"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_sums(folder: Path, names: Iterable[str]) -> Path:
    """Write `SHA256SUMS` for files of a folder; it appears by one rename.

    Returns
    -------
    Path
    """
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in sorted(names)]
    path = folder / SUMS_FILE
    beside = folder / f".{SUMS_FILE}.tmp"
    beside.write_text("".join(lines), encoding="utf-8")
    beside.replace(path)
    return path


def check_sums(folder: Path) -> int:
    """Recompute every checksum that `SHA256SUMS` of a folder lists.

    Returns
    -------
    int
        How many files were checked.

    Raises
    ------
    DataError
        If the list cannot be read, or a file is missing or has changed; the first is named.
    """
    path = folder / SUMS_FILE
    try:
        lines = [line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines()]
        listed = {name: checksum for checksum, name in lines}
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); restore or fetch it again") from error
    if missing := [name for name in listed if not (folder / name).is_file()]:
        raise DataError(
            f"{folder}: {len(missing)} of {len(listed)} files missing, first {missing[0]}"
        )
    if bad := [name for name, want in listed.items() if sha256_of(folder / name) != want]:
        raise DataError(
            f"{folder}: {len(bad)} of {len(listed)} files are not what {SUMS_FILE} says, first "
            f"{bad[0]}; restore or fetch them again (for manifests: medlib data rebuild)"
        )
    return len(listed)
