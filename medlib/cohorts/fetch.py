"""Public CT series by manifest: whole patients, resumable, checked, file by file.

The Imaging Data Commons keeps a folder a series in a public bucket. The listing of that folder
gives each file's size and MD5 (S3's ETag); the manifest gives the number of files and bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode

import pandas as pd
import urllib3

from medlib import progress
from medlib.errors import DataError
from medlib.files import SUMS_FILE, check_sums, write_sums

ENDPOINT = "https://{bucket}.s3.amazonaws.com"
PARTIAL = ".part"
CHUNK = 1 << 16
ATTEMPTS = 3
BUSY = (429, 500, 502, 503, 504)  # worth another attempt
WORKERS = 8  # files are half a megabyte: one after another, the waiting would be most of it
_HTTP = urllib3.PoolManager(
    maxsize=WORKERS,
    timeout=60.0,
    retries=urllib3.Retry(ATTEMPTS - 1, status_forcelist=BUSY, backoff_factor=0.2),
)
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MD5 = re.compile(r"[0-9a-f]{32}")
_S3 = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class RemoteFile(NamedTuple):
    """One file of a listing."""

    name: str
    url: str
    size: int
    md5: str  # empty where the store does not tell it


class _UnreachableError(Exception):
    pass


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
    """Fetch scans that are not there yet; return the bytes that had to come.

    A file that is there whole is not asked for again, a partial one is continued. When the last
    file of a series has come, `SHA256SUMS` is written beside them.

    `scans` are rows of a manifest: `patient_id`, `series_instance_uid`, `n_files`, `size_bytes`,
    `aws_url`. In `endpoint`, a store that speaks S3, ``{bucket}`` is filled in.

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
    if not missing:
        return 0
    left = sum(int(scan["size_bytes"]) for scan in missing)
    _check_disk(missing, out_dir, left)
    bar, done, fetched = progress.Bar("bytes fetched", left), 0, 0
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for scan in missing:
                for size, came in _fetch_series(scan, series_folder(out_dir, scan), endpoint, pool):
                    done, fetched = done + size, fetched + came
                    bar.move(done, f"{_gigabytes(done)} of {_gigabytes(left)}")
        except _UnreachableError as error:
            raise DataError(
                f"could not reach {error}; {_gigabytes(left)} in {len(missing)} series were asked "
                "for: run the same command again where there is a network (it continues), or write "
                "a list with --s5cmd FILE, fetch elsewhere with 's5cmd --no-sign-request run "
                "FILE', and copy"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)  # do not fetch what nobody waits for
            bar.close()
    return fetched


def verify(scans: pd.DataFrame, out_dir: Path) -> tuple[int, int]:
    """Recompute the checksums of the scans that were fetched; return how many series and files."""
    n_files = 0
    rows = [scan for _, scan in scans.iterrows() if series_folder(out_dir, scan).is_dir()]
    for scan in progress.track(rows, "series checked"):
        folder = series_folder(out_dir, scan)
        if not is_complete(folder, scan):
            raise DataError(
                f"{folder} does not hold the {scan['n_files']} files and {scan['size_bytes']:,} "
                "bytes of the manifest; run medlib data fetch again, it continues"
            )
        n_files += check_sums(folder)
    return len(rows), n_files


def s5cmd_list(scans: pd.DataFrame) -> str:
    """Return the commands by which s5cmd fetches scans into the same folders."""
    return "".join(
        f"cp {scan['aws_url']}/* {series_folder(Path(), scan).as_posix()}/\n"
        for _, scan in scans.iterrows()
    )


def list_files(aws_url: str, endpoint: str = ENDPOINT) -> list[RemoteFile]:
    """List a folder of a public bucket (ListObjectsV2, a thousand names a page)."""
    bucket, _, prefix = aws_url.removeprefix("s3://").partition("/")
    base = endpoint.format(bucket=bucket)
    files: list[RemoteFile] = []
    query = {"list-type": "2", "prefix": f"{prefix}/"}
    while True:
        try:
            page = ET.fromstring(_get(f"{base}/?{urlencode(query)}").data)
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
            files.append(RemoteFile(name, f"{base}/{quote(key)}", size, md5))
        if not (token := page.findtext(f"{_S3}NextContinuationToken", "")):
            return files
        query["continuation-token"] = token


def _check_disk(missing: list[pd.Series], out_dir: Path, left: int) -> None:
    out_dir.mkdir(parents=True, exist_ok=True)
    left -= sum(
        path.stat().st_size for scan in missing for path in series_folder(out_dir, scan).glob("*")
    )
    if (free := shutil.disk_usage(out_dir).free) < left:
        raise DataError(
            f"{out_dir}: {_gigabytes(left)} still to fetch, {_gigabytes(free)} free; name a "
            "larger --out"
        )


def _fetch_series(
    scan: pd.Series, folder: Path, endpoint: str, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, int]]:
    """Yield, for each file that is there now, its size and the bytes that came."""
    files = list_files(str(scan["aws_url"]), endpoint)
    found = (len(files), sum(file.size for file in files))
    if found != (scan["n_files"], scan["size_bytes"]):
        raise DataError(
            f"{scan['aws_url']} lists {found[0]} files of {found[1]:,} bytes, the manifest says "
            f"{scan['n_files']} of {scan['size_bytes']:,}; the collection has changed: rebuild the "
            "manifest from a newer idc-index-data"
        )
    folder.mkdir(parents=True, exist_ok=True)
    jobs = {pool.submit(_fetch_file, file, folder): file.size for file in files}
    for job in as_completed(jobs):
        yield jobs[job], job.result()
    write_sums(folder, [file.name for file in files])


def _fetch_file(file: RemoteFile, folder: Path) -> int:
    target = folder / file.name
    if _is_right(target, file):
        return 0
    partial = folder / f"{file.name}{PARTIAL}"
    fetched = 0
    for _ in range(ATTEMPTS):
        fetched += _continue(file, partial)
        if _is_right(partial, file):
            partial.replace(target)
            return fetched
        if partial.stat().st_size >= file.size:
            partial.unlink()  # what came is wrong: once more from the start
    if partial.is_file():
        raise _UnreachableError(f"all of {file.url} (it broke off {ATTEMPTS} times)")
    raise DataError(
        f"{file.url} came with another size or checksum than its listing says, {ATTEMPTS} times; "
        "try again later, or another --endpoint"
    )


def _continue(file: RemoteFile, partial: Path) -> int:
    """Append what is missing of a file; return the bytes that came."""
    start = partial.stat().st_size if partial.is_file() else 0
    if start >= file.size:
        return 0  # all there, or too much: the check decides
    answer = _get(file.url, start)
    if answer.status != 206:  # the whole file, although a part was asked for
        start = 0
    # What has come stays where the line breaks, for the next attempt.
    broken_off = contextlib.suppress(urllib3.exceptions.HTTPError)
    with partial.open("ab" if start else "wb") as out, broken_off:
        while chunk := answer.read1(CHUNK):
            out.write(chunk)
    answer.release_conn()
    return partial.stat().st_size - start


def _is_right(path: Path, file: RemoteFile) -> bool:
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    # MD5 is what the store tells; it is here against accidents, not against an adversary.
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False)
    return file.md5 in ("", digest.hexdigest())


def _get(url: str, start: int = 0) -> urllib3.BaseHTTPResponse:
    try:
        headers = {"Range": f"bytes={start}-"} if start else {}
        answer = _HTTP.request("GET", url, headers=headers, preload_content=False)
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise _UnreachableError(f"{url.split('?')[0]} ({reason})") from error
    if answer.status >= 400:
        raise DataError(
            f"{url} answered {answer.status} {answer.reason}; expected a public file; check "
            "--endpoint, or rebuild the manifest from a newer idc-index-data"
        )
    return answer


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB"
