"""Public CT series by manifest: whole patients, resumable, checked, file by file.

The Imaging Data Commons keeps a folder a series in a public bucket. The listing of that folder
gives each file's size and MD5 (S3's ETag); the manifest gives the number of files and bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from medlib import progress
from medlib.errors import DataError
from medlib.files import SUMS_FILE, check_sums, write_sums

ENDPOINT = "https://{bucket}.s3.amazonaws.com"
PARTIAL = ".part"
CHUNK = 1 << 16
TIMEOUT_S = 60
ATTEMPTS = 3
BUSY = (429, 500, 502, 503, 504)  # worth another attempt
WORKERS = 8  # files are half a megabyte: one after another, the waiting would be most of it
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MD5 = re.compile(r"[0-9a-f]{32}")
_S3 = "{http://s3.amazonaws.com/doc/2006-03-01/}"

Advance = Callable[[int], None]


@dataclass(frozen=True)
class RemoteFile:
    """One file of a listing; `md5` is empty where the store does not tell it."""

    name: str
    url: str
    size: int
    md5: str


class _UnreachableError(Exception):
    """The host could not be reached, or broke off."""


def select_scans(
    scans: pd.DataFrame,
    patients: Sequence[str] = (),
    split: pd.DataFrame | None = None,
    parts: Sequence[str] = (),
) -> pd.DataFrame:
    """Choose rows of a table of scans, by patient or by part.

    Parameters
    ----------
    scans : DataFrame
    patients : sequence of str
    split : DataFrame, optional
        With `series_instance_uid` and `split`.
    parts : sequence of str
        Of the split.

    Raises
    ------
    DataError
        If a patient or part is unknown, or nothing was asked for.
    """
    if unknown := sorted(set(patients) - set(scans["patient_id"])):
        raise DataError(
            f"the manifest has no patient {unknown[0]!r}; expected for instance "
            f"{scans['patient_id'].iloc[0]}"
        )
    chosen = scans["patient_id"].isin(patients)
    if split is not None:
        if unknown := sorted(set(parts) - set(split["split"])):
            known = ", ".join(split["split"].unique())
            raise DataError(f"the split has no part {unknown[0]!r}; expected one of {known}")
        of_parts = split.loc[split["split"].isin(parts), "series_instance_uid"]
        chosen |= scans["series_instance_uid"].isin(of_parts)
    if not chosen.any():
        raise DataError("no scan was asked for; name --patients, or a part with --split")
    return scans[chosen]


def series_folder(out_dir: Path, scan: pd.Series) -> Path:
    """Return where a scan lies: ``<patient>/<series>``."""
    return out_dir / str(scan["patient_id"]) / str(scan["series_instance_uid"])


def is_complete(folder: Path, scan: pd.Series) -> bool:
    """Whether a folder has as many files and bytes as the manifest says."""
    sizes = [
        p.stat().st_size
        for p in folder.glob("*")
        if _FILE_NAME.fullmatch(p.name) and p.name != SUMS_FILE and p.suffix != PARTIAL
    ]
    return (len(sizes), sum(sizes)) == (int(scan["n_files"]), int(scan["size_bytes"]))


def fetch(scans: pd.DataFrame, out_dir: Path, endpoint: str = ENDPOINT) -> int:
    """Fetch scans that are not there yet.

    A file that is there whole is not asked for again, a partial one is continued. When the last
    file of a series has come, `SHA256SUMS` is written beside them.

    Parameters
    ----------
    scans : DataFrame
        Rows of a manifest: `patient_id`, `series_instance_uid`, `n_files`, `size_bytes`,
        `aws_url`.
    out_dir : Path
    endpoint : str
        Address of a store that speaks S3, ``{bucket}`` in it is filled in.

    Returns
    -------
    int
        Bytes that had to be fetched.

    Raises
    ------
    DataError
        If the store cannot be reached, the disk is too small, or what came is not what the
        manifest or the listing says.
    """
    missing = []
    for _, scan in scans.iterrows():
        folder = series_folder(out_dir, scan)
        if not is_complete(folder, scan):
            missing.append(scan)
        elif not (folder / SUMS_FILE).is_file():  # brought here by other means
            write_sums(folder, [path.name for path in folder.iterdir()])
    left = sum(int(scan["size_bytes"]) for scan in missing)
    if not missing:
        return 0
    out_dir.mkdir(parents=True, exist_ok=True)
    on_disk = sum(
        path.stat().st_size for scan in missing for path in series_folder(out_dir, scan).glob("*")
    )
    if shutil.disk_usage(out_dir).free < left - on_disk:
        raise DataError(
            f"{out_dir}: {_gigabytes(left - on_disk)} still to fetch, "
            f"{_gigabytes(shutil.disk_usage(out_dir).free)} free; name a larger --out"
        )
    fetched = 0
    try:
        with _bytes_bar(left) as advance, ThreadPoolExecutor(WORKERS) as pool:
            for scan in missing:
                fetched += _fetch_series(
                    scan, series_folder(out_dir, scan), endpoint, pool, advance
                )
    except _UnreachableError as error:
        raise DataError(
            f"could not reach {error}; {_gigabytes(left)} in {len(missing)} series were asked for: "
            "run the same command again where there is a network (it continues), or write a list "
            "with --s5cmd FILE, fetch elsewhere with 's5cmd --no-sign-request run FILE', and copy"
        ) from error
    return fetched


def verify(scans: pd.DataFrame, out_dir: Path) -> tuple[int, int]:
    """Recompute the checksums of the scans that were fetched to a folder.

    Returns
    -------
    tuple of int
        Series and files checked; series that were never fetched are passed over.

    Raises
    ------
    DataError
        If a file is missing, too much or changed.
    """
    n_series = n_files = 0
    rows = [scan for _, scan in scans.iterrows() if series_folder(out_dir, scan).is_dir()]
    for scan in progress.track(rows, "series checked"):
        folder = series_folder(out_dir, scan)
        if not is_complete(folder, scan):
            raise DataError(
                f"{folder} does not hold the {scan['n_files']} files and {scan['size_bytes']:,} "
                "bytes of the manifest; run medlib data fetch again, it continues"
            )
        n_files += check_sums(folder)
        n_series += 1
    return n_series, n_files


def s5cmd_list(scans: pd.DataFrame) -> str:
    """Return the commands by which s5cmd fetches scans into the same folders."""
    return "".join(
        f"cp {scan['aws_url']}/* {series_folder(Path(), scan).as_posix()}/\n"
        for _, scan in scans.iterrows()
    )


def list_files(aws_url: str, endpoint: str = ENDPOINT) -> list[RemoteFile]:
    """List a folder of a public bucket (ListObjectsV2, a thousand names a page).

    Raises
    ------
    DataError
        If the answer is no listing, or holds a name that is no plain file name.
    """
    bucket, _, prefix = aws_url.removeprefix("s3://").partition("/")
    base = endpoint.format(bucket=bucket)
    files: list[RemoteFile] = []
    token = ""
    while True:
        query = {"list-type": "2", "prefix": f"{prefix}/"}
        if token:
            query["continuation-token"] = token
        with _open(f"{base}/?{urllib.parse.urlencode(query)}") as answer:
            text = answer.read()
        try:
            page = ET.fromstring(text)
        except ET.ParseError as error:
            raise DataError(f"{base} answered with something that is no listing") from error
        for item in page.iter(f"{_S3}Contents"):
            key = item.findtext(f"{_S3}Key", "")
            name = key.removeprefix(f"{prefix}/")
            if not _FILE_NAME.fullmatch(name):
                raise DataError(f"{base} lists {key!r}, which is no file of {aws_url}")
            tag = item.findtext(f"{_S3}ETag", "").strip('"').lower()
            size = int(item.findtext(f"{_S3}Size", "0"))
            md5 = tag if _MD5.fullmatch(tag) else ""  # a file sent in pieces has another ETag
            files.append(RemoteFile(name, f"{base}/{urllib.parse.quote(key)}", size, md5))
        token = page.findtext(f"{_S3}NextContinuationToken", "")
        if not token:
            return files


def _fetch_series(
    scan: pd.Series, folder: Path, endpoint: str, pool: ThreadPoolExecutor, advance: Advance
) -> int:
    files = list_files(str(scan["aws_url"]), endpoint)
    found = (len(files), sum(file.size for file in files))
    if found != (scan["n_files"], scan["size_bytes"]):
        raise DataError(
            f"{scan['aws_url']} lists {found[0]} files of {found[1]:,} bytes, the manifest says "
            f"{scan['n_files']} of {scan['size_bytes']:,}; the collection has changed: rebuild the "
            "manifest from a newer idc-index-data"
        )
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [pool.submit(_fetch_file, file, folder, advance) for file in files]
    try:
        fetched = sum(job.result() for job in jobs)
    except BaseException:
        for job in jobs:
            job.cancel()
        raise
    write_sums(folder, [file.name for file in files])
    return fetched


def _fetch_file(file: RemoteFile, folder: Path, advance: Advance) -> int:
    """Fetch one file, continuing what is there; return the bytes that came."""
    target = folder / file.name
    if target.is_file() and target.stat().st_size == file.size and _is_right(target, file):
        advance(file.size)
        return 0
    partial = folder / f"{file.name}{PARTIAL}"
    fetched = 0
    for attempt in range(1, ATTEMPTS + 1):
        try:
            fetched += _continue(file, partial)
        except _UnreachableError:
            if attempt == ATTEMPTS:
                raise
            continue
        size = partial.stat().st_size
        if size == file.size and _is_right(partial, file):
            partial.replace(target)
            advance(file.size)
            return fetched
        if size >= file.size:
            partial.unlink()  # what came is wrong: once more from the start
    if partial.is_file():
        raise _UnreachableError(f"all of {file.url} (it broke off {ATTEMPTS} times)")
    raise DataError(
        f"{file.url} came with another size or checksum than its listing says, {ATTEMPTS} times; "
        "try again later, or another --endpoint"
    )


def _continue(file: RemoteFile, partial: Path) -> int:
    """Ask for what is missing of a file and append it; return the bytes that came."""
    start = partial.stat().st_size if partial.is_file() else 0
    if start >= file.size:
        return 0  # all there, or too much: the check decides
    request = urllib.request.Request(file.url)
    if start:
        request.add_header("Range", f"bytes={start}-")
    with _open(request) as answer:
        if answer.status != 206:  # the whole file, although a part was asked for
            start = 0
        # What has come stays where the line breaks, for the next attempt.
        broken_off = contextlib.suppress(OSError, HTTPException)
        with partial.open("ab" if start else "wb") as out, broken_off:
            shutil.copyfileobj(answer, out, CHUNK)
    return partial.stat().st_size - start


def _is_right(path: Path, file: RemoteFile) -> bool:
    if not file.md5:
        return True
    with path.open("rb") as handle:
        # MD5 is what the store tells; it is here against accidents, not against an adversary.
        digest = hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest() == file.md5


def _open(request: str | urllib.request.Request) -> HTTPResponse:
    address = request if isinstance(request, str) else request.full_url
    try:
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code in BUSY:
            raise _UnreachableError(f"{address} ({error.code} {error.reason})") from error
        raise DataError(
            f"{address} answered {error.code} {error.reason}; expected a public file; check "
            "--endpoint, or rebuild the manifest from a newer idc-index-data"
        ) from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise _UnreachableError(f"{address.split('?')[0]} ({reason})") from error
    return answer


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


@contextlib.contextmanager
def _bytes_bar(total: int) -> Iterator[Advance]:
    """Show bytes done: a bar on a terminal, else the progress file of `medlib.progress`."""
    lock, done = threading.Lock(), 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, transient=True, disable=not sys.stderr.isatty(), console=Console(stderr=True)
    ) as bar:
        task = bar.add_task("fetching", total=total)

        def advance(size: int) -> None:
            nonlocal done
            with lock:
                done += size
                bar.advance(task, size)
                progress.report("bytes fetched", done, total)

        yield advance
