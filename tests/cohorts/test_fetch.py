"""Fetching from a small server that answers as the public store does."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from medlib import cli, paths
from medlib.cohorts import fetch as fetching
from medlib.cohorts.collections import Collection
from medlib.cohorts.fetch import PARTIAL, fetch, is_complete, list_files, verify
from medlib.errors import DataError
from medlib.files import check_sums

PAGE = 3  # names a page, so that a listing has several


class Store(ThreadingHTTPServer):
    """Buckets in memory; `faults` name files that go wrong."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.cut_at: dict[str, int] = {}  # file -> bytes until the line breaks, once
        self.wrong: set[str] = set()  # files with one byte flipped
        self.no_ranges = False
        self.multipart = False
        self.busy = 0  # so many requests are turned away
        self.bytes_a_second: float = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{{bucket}}"


class _Handler(BaseHTTPRequestHandler):
    server: Store
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        parts = urlsplit(self.path)
        key = unquote(parts.path).lstrip("/")
        self.server.requests.append((key, self.headers.get("Range")))
        if self.server.busy:
            self.server.busy -= 1
            self.send_error(503)
        elif "list-type" in parts.query:
            self._list(key.rstrip("/"), parse_qs(parts.query))
        elif key in self.server.objects:
            self._send_object(key)
        else:
            self.send_error(404)

    def _list(self, bucket, query):
        prefix = f"{bucket}/{query['prefix'][0]}"
        keys = sorted(key for key in self.server.objects if key.startswith(prefix))
        start = int(query.get("continuation-token", ["0"])[0])
        tag = {key: hashlib.md5(self.server.objects[key]).hexdigest() for key in keys}
        rows = "".join(
            f"<Contents><Key>{key.split('/', 1)[1]}</Key>"
            f"<ETag>&quot;{tag[key]}{'-2' * self.server.multipart}&quot;</ETag>"
            f"<Size>{len(self.server.objects[key])}</Size></Contents>"
            for key in keys[start : start + PAGE]
        )
        more = start + PAGE < len(keys)
        token = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" if more else ""
        self._answer(
            200,
            f'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"{rows}{token}</ListBucketResult>".encode(),
        )

    def _send_object(self, key):
        content = self.server.objects[key]
        if key in self.server.wrong:
            content = bytes([content[0] ^ 1]) + content[1:]
        start = 0
        if (asked := self.headers.get("Range")) and not self.server.no_ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        self._answer(206 if start else 200, content[start:], self.server.cut_at.pop(key, None))

    def _answer(self, status, body, cut_at=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body[:cut_at]
        step = 4096 if self.server.bytes_a_second else len(body) or 1
        for k in range(0, len(body), step):
            self.wfile.write(body[k : k + step])
            self.wfile.flush()
            if self.server.bytes_a_second:
                time.sleep(step / self.server.bytes_a_second)
        if cut_at is not None:
            self.close_connection = True


@pytest.fixture
def store():
    with Store() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def scans(store):
    """Two patients, three series of four files."""
    return fill(store, 20_000)


def fill(store, size):
    rng = np.random.default_rng(0)
    rows = []
    for number, patient in enumerate(["P-1", "P-1", "P-2"]):
        for k in range(4):
            content = rng.integers(0, 256, size + k, dtype=np.uint8).tobytes()
            store.objects[f"open-data/folder-{number}/image {k}.dcm".replace(" ", "-")] = content
        rows.append(
            {
                "patient_id": patient,
                "series_instance_uid": f"1.2.{number}",
                "n_files": 4,
                "size_bytes": 4 * size + 6,
                "aws_url": f"s3://open-data/folder-{number}",
            }
        )
    return pd.DataFrame(rows)


def test_all_that_was_listed_comes_and_is_checked(store, scans, tmp_path):
    assert fetch(scans, tmp_path, store.endpoint) == 3 * 80_006
    for number, row in scans.iterrows():
        folder = tmp_path / row["patient_id"] / row["series_instance_uid"]
        for k in range(4):
            want = store.objects[f"open-data/folder-{number}/image-{k}.dcm"]
            assert (folder / f"image-{k}.dcm").read_bytes() == want
        assert check_sums(folder) == 4
    assert verify(scans, tmp_path) == (3, 12)
    store.requests.clear()
    assert fetch(scans, tmp_path, store.endpoint) == 0
    assert store.requests == []


def test_a_broken_line_is_continued_where_it_broke(store, scans, tmp_path):
    key = "open-data/folder-0/image-1.dcm"
    store.cut_at[key] = 5_000
    assert fetch(scans[:1], tmp_path, store.endpoint) == 80_006
    assert [asked for name, asked in store.requests if name == key] == [None, "bytes=5000-"]
    assert verify(scans, tmp_path) == (1, 4)


def test_a_store_without_ranges_starts_again(store, scans, tmp_path):
    key = "open-data/folder-0/image-1.dcm"
    store.cut_at[key], store.no_ranges = 5_000, True
    fetch(scans[:1], tmp_path, store.endpoint)
    assert verify(scans, tmp_path) == (1, 4)


def test_a_busy_store_is_asked_again(store, scans, tmp_path):
    list_files(scans.loc[0, "aws_url"], store.endpoint)  # two pages
    folder = fetching.series_folder(tmp_path, scans.loc[0])
    folder.mkdir(parents=True)
    [file, *_] = list_files(scans.loc[0, "aws_url"], store.endpoint)
    store.busy = 2
    assert fetching._fetch_file(file, folder) == 20_000


def test_killed_and_run_again(store, tmp_path):
    """A real process, a real kill; what had come is not asked for again."""
    scans = fill(store, 150_000)
    scans.to_csv(tmp_path / "scans.csv", index=False)
    code = (
        "import sys, pandas as pd; from pathlib import Path;"
        "from medlib.cohorts.fetch import fetch;"
        "fetch(pd.read_csv(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])"
    )
    out = tmp_path / "out"
    store.bytes_a_second = 200_000
    child = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "scans.csv", out, store.endpoint]
    )
    deadline = time.monotonic() + 30
    while not [p for p in out.rglob(f"*{PARTIAL}") if p.stat().st_size > 65_000]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    there = sum(path.stat().st_size for path in out.rglob("*.dcm*"))
    assert 0 < there < 1_800_018
    assert not is_complete(out / "P-1" / "1.2.0", scans.loc[0])
    store.bytes_a_second = 0
    store.requests.clear()
    assert fetch(scans, out, store.endpoint) == 1_800_018 - there
    assert any(asked for _, asked in store.requests)
    assert verify(scans, out) == (3, 12)
    assert not list(out.rglob(f"*{PARTIAL}"))


def test_a_wrong_byte_on_the_way_is_refused(store, scans, tmp_path):
    store.wrong.add("open-data/folder-2/image-0.dcm")
    with pytest.raises(DataError, match=r"image-0\.dcm came with another size or checksum"):
        fetch(scans, tmp_path, store.endpoint)
    assert not (tmp_path / "P-2" / "1.2.2" / "image-0.dcm").exists()
    assert not (tmp_path / "P-2" / "1.2.2" / "SHA256SUMS").exists()
    store.wrong.clear()
    fetch(scans, tmp_path, store.endpoint)
    assert verify(scans, tmp_path) == (3, 12)


def test_a_wrong_byte_on_the_disk_is_found(store, scans, tmp_path):
    fetch(scans, tmp_path, store.endpoint)
    path = tmp_path / "P-2" / "1.2.2" / "image-3.dcm"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    with pytest.raises(DataError, match=r"1 of 4 files .*image-3\.dcm"):
        verify(scans, tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="does not hold the 4 files"):
        verify(scans, tmp_path)
    fetch(scans, tmp_path, store.endpoint)
    assert verify(scans, tmp_path) == (3, 12)


def test_files_brought_by_other_means_are_taken(store, scans, tmp_path):
    fetch(scans[:1], tmp_path, store.endpoint)
    (tmp_path / "P-1" / "1.2.0" / "SHA256SUMS").unlink()
    store.requests.clear()
    assert fetch(scans[:1], tmp_path, store.endpoint) == 0
    assert store.requests == []
    assert verify(scans, tmp_path) == (1, 4)


def test_a_store_without_md5_is_checked_by_size(store, scans, tmp_path):
    store.multipart = True
    assert {file.md5 for file in list_files(scans.loc[0, "aws_url"], store.endpoint)} == {""}
    fetch(scans, tmp_path, store.endpoint)
    assert verify(scans, tmp_path) == (3, 12)


def test_a_collection_that_changed_is_refused(store, scans, tmp_path):
    del store.objects["open-data/folder-0/image-3.dcm"]
    with pytest.raises(DataError, match=r"lists 3 files of 60,003 bytes, the manifest says 4"):
        fetch(scans, tmp_path, store.endpoint)


def test_names_that_leave_the_folder_are_refused(store, scans, tmp_path):
    store.objects["open-data/folder-0/../../evil"] = b"x"
    with pytest.raises(DataError, match="evil"):
        fetch(scans, tmp_path, store.endpoint)


def test_a_full_disk_is_told_before(store, scans, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"still to fetch, 0\.00 GB free"):
        fetch(scans, tmp_path, store.endpoint)
    assert store.requests == []


def test_without_a_network_one_line_says_what_to_do(tmp_path):
    done = CliRunner().invoke(
        cli.app,
        ["data", "fetch", "lidc", "--patients", "LIDC-IDRI-0001,LIDC-IDRI-0002",
         "--out", str(tmp_path), "--endpoint", "http://127.0.0.1:9"],
    )  # fmt: skip
    assert done.exit_code == 2
    [line] = done.stderr.splitlines()
    assert "could not reach http://127.0.0.1:9" in line
    assert "2 series" in line
    assert "s5cmd" in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_list_for_s5cmd(tmp_path):
    done = CliRunner().invoke(
        cli.app,
        ["data", "fetch", "lidc", "--split", "tune", "--s5cmd", str(tmp_path / "list.txt")],
    )
    assert done.exit_code == 0, done.stderr
    assert "87 series" in done.stdout
    lines = (tmp_path / "list.txt").read_text().splitlines()
    assert len(lines) == 87
    assert re.fullmatch(r"cp s3://idc-open-data/[0-9a-f-]{36}/\* LIDC-IDRI-\d{4}/[\d.]+/", lines[0])


def test_on_the_command_line(store, scans, tmp_path, monkeypatch):
    scans.to_csv(tmp_path / "scans.csv", index=False)
    split = scans[["patient_id", "series_instance_uid"]].assign(manufacturer="M", split="train")
    split.loc[2, "split"] = "test"
    split.to_csv(tmp_path / "split.csv", index=False)
    (tmp_path / "collections.toml").write_text(
        '[mini]\ntitle = "M"\nlicence = "CC0"\nscans = "scans.csv"\nsplit = "split.csv"\n'
        '[none]\ntitle = "N"\nlicence = "CC0"\n'
    )
    monkeypatch.setattr(paths, "MANIFESTS", tmp_path)
    run = CliRunner().invoke
    common = ["--out", str(tmp_path / "out"), "--endpoint", store.endpoint]
    done = run(cli.app, ["data", "fetch", "mini", "--split", "test", *common])
    assert done.exit_code == 0, done.stderr
    assert "80,006 bytes came now" in done.stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["P-2"]
    done = run(cli.app, ["data", "fetch", "mini", "--patients", "P-1,P-2", *common])
    assert "160,012 bytes came now" in done.stdout
    for wrong in (["mini"], ["mini", "--patients", "P-9"], ["mini", "--split", "tset"], ["none"]):
        done = run(cli.app, ["data", "fetch", *wrong, *common])
        assert done.exit_code == 2
        assert len(done.stderr.splitlines()) == 1


def test_scans_of_patients_need_no_split(tmp_path):
    table = pd.DataFrame({"patient_id": ["a", "b"], "series_instance_uid": ["1", "2"]})
    table.to_csv(tmp_path / "scans.csv", index=False)
    one = Collection("mini", "M", "CC0", scans="scans.csv", folder=tmp_path)
    assert one.chosen_scans(["b"])["series_instance_uid"].astype(str).tolist() == ["2"]
    with pytest.raises(DataError, match="no scan was asked for"):
        one.chosen_scans()


def test_progress_is_told_in_bytes(store, scans, tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "MEDLIB_PROGRESS_FILE", str(tmp_path / "progress"))
    fetch(scans[:1], tmp_path / "out", store.endpoint)
    assert (tmp_path / "progress").read_text() == "bytes fetched 80006/80006"
