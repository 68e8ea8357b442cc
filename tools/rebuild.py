"""Everything in `data_manifests/` that follows from other files, made again to the byte."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from medlib import paths
from medlib.cohorts.collections import TABLES, Collection, collections
from medlib.errors import DataError
from medlib.files import SUMS_FILE, write_sums
from tools import idc, lidc_tables
from tools.croissant import description_name, write_description
from tools.datasheet import DATASHEET_FILE, write_datasheet


def rebuild(out_dir: Path, source: Path | None = None) -> list[Path]:
    """Make tables, split, descriptions, datasheet and checksums again; return all files.

    The table of scans needs the package idc-index-data; without it, the present table is checked
    against the annotation database and kept.

    Parameters
    ----------
    out_dir : Path
        May be `source` itself; files there are replaced one by one, once all are made.
    source : Path, optional
        Folder with everything that is not made here, such as what is written by hand and the
        phantom's manifest; `paths.MANIFESTS`.

    Raises
    ------
    DataError
        If the sources disagree, or the present table of scans does not fit them.
    """
    source = source or paths.MANIFESTS
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out_dir, prefix=".rebuild-") as made:
        folder = Path(made)
        described = collections(source)
        kept = sorted({path.name for path in source.iterdir() if path.is_file()} - _made(described))
        for name in kept:
            shutil.copyfile(source / name, folder / name)
        found = collections(folder)
        _write_tables(found["lidc"], described["lidc"])
        for one in found.values():
            if one.files:
                write_description(one)
        write_datasheet(folder)
        write_sums(folder, [path.name for path in folder.iterdir()])
        names = sorted(path.name for path in folder.iterdir())
        # The list of checksums last: until then, `verify` tells that something is under way.
        for name in sorted(names, key=lambda name: name == SUMS_FILE):
            if not (name in kept and out_dir.resolve() == source.resolve()):
                (folder / name).replace(out_dir / name)
    return [out_dir / name for name in names]


def _made(described: Mapping[str, Collection]) -> set[str]:
    """Name the files that are made here."""
    tables = {one.files[kind] for one in described.values() for kind in TABLES if kind in one.files}
    descriptions = {description_name(one) for one in described.values() if one.files}
    return tables | descriptions | {DATASHEET_FILE, SUMS_FILE}


def _write_tables(made: Collection, present: Collection) -> None:
    nodules = _write(lidc_tables.nodule_table(), made, "nodules")
    if idc.index_path() is not None:
        scans = _write(lidc_tables.scan_table(nodules), made, "scans")
    else:
        shutil.copyfile(present.folder / present.scans, made.folder / made.scans)
        scans = made.table("scans")
        lidc_tables.check_scan_table(scans, nodules)
    _write(lidc_tables.split_table(scans, nodules), made, "split")


def _write(table: pd.DataFrame, to: Collection, kind: str) -> pd.DataFrame:
    """Write a table and return it as it reads back: what follows sees what stands in the file."""
    path = to.folder / to.files[kind]
    table.to_csv(path, index=False, lineterminator="\n")
    back = to.table(kind)
    if len(back) != len(table):
        raise DataError(f"{path.name} does not read back as it was written")
    return back
