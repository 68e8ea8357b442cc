"""Files that appear whole or not at all, and their checksums."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from medlib.errors import DataError

SUMS_FILE = "SHA256SUMS"


@contextmanager
def put_in_place(target: Path) -> Iterator[Path]:
    """Yield a path beside `target`; what stands there at the end takes its place.

    For a file, or a folder (which the caller makes; one that stands there moves aside first). After
    an error `target` is what it was before.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays: writers choose the format by it.
    beside = target.with_name(f".{os.getpid()}.{target.name}")
    old = beside.with_name(f"{beside.name}.old")
    try:
        yield beside
        if target.is_dir():
            target.rename(old)
        beside.replace(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise
    finally:
        for left in (beside, old):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink(missing_ok=True)


def lock_on(target: Path) -> FileLock:
    """Return the lock by which one process of this machine at a time makes `target`.

    It stands with the temporary files, so that nothing is left beside `target`, and a folder that
    cannot be written needs none.
    """
    name = hashlib.sha256(str(target.resolve()).encode()).hexdigest()[:32]
    folder = Path(tempfile.gettempdir()) / f"medlib-locks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return FileLock(folder / name)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all."""
    with put_in_place(path) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, whole or not at all; NaN becomes null."""
    text = json.dumps(_undefined_as_null(content), indent=2, allow_nan=False, ensure_ascii=False)
    write_file(path, text + "\n")


def _undefined_as_null(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _undefined_as_null(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_undefined_as_null(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_sums(folder: Path, names: Iterable[str]) -> Path:
    """Write `SHA256SUMS` for files of a folder, in the format of ``sha256sum``."""
    path = folder / SUMS_FILE
    write_file(path, "".join(f"{sha256_of(folder / name)}  {name}\n" for name in sorted(names)))
    return path


def check_sums(folder: Path) -> int:
    """Recompute every checksum that `SHA256SUMS` of a folder lists; return how many there are."""
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
            f"{bad[0]}; restore or fetch them again (for manifests: python -m tools rebuild)"
        )
    return len(listed)
