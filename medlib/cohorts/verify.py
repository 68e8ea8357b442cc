"""Whether manifests and data on disk are what they should be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from medlib import paths
from medlib.cohorts import fetch
from medlib.cohorts import phantom_receipts as manifest
from medlib.cohorts.cohort import check_voxels, open_cohort, receipts
from medlib.cohorts.collections import Collection, collection, collections
from medlib.files import check_sums


def verify(name: str | None = None, folder: Path | None = None) -> Iterator[str]:
    """Check the manifests, then the data of one collection or of all; one line a finding.

    `folder` is where the collection of this name was fetched to, by default ``paths.DATA/<name>``.

    Raises
    ------
    DataError
        If something is missing or has changed.
    """
    chosen = [collection(name)] if name else list(collections().values())
    yield f"manifests: {check_sums(paths.MANIFESTS)} files, every checksum as it should be"
    for one in chosen:
        if one.manifest:
            yield from _phantoms(one)
        elif one.scans:
            yield _fetched(one, folder or paths.DATA / one.name)


def _phantoms(phantom: Collection) -> Iterator[str]:
    made = sorted(path.parent for path in paths.DATA.glob("phantom-*/cohort.csv"))
    if not made:
        yield f"{phantom.name}: not made here; medlib data phantom makes it"
    for folder in made:
        # By its folder, so that a cohort of other code is checked rather than made anew.
        cohort = open_cohort(folder)
        check_voxels(cohort)
        name = folder.name.removeprefix("phantom-")
        found = f"{folder.name}: {len(cohort.table)} patients, every checksum as it should be"
        if expected := manifest.expected_receipts(name, phantom.folder / phantom.manifest):
            rounded = manifest.verify(receipts(cohort), expected, name)
            yield f"{found}, as the manifest says ({len(rounded)} differ in rounding)"
        else:
            yield f"{found}; the manifest does not name this cohort"


def _fetched(one: Collection, folder: Path) -> str:
    n_series, n_files = fetch.verify(one.table("scans"), folder)
    if not n_series:
        return f"{one.name}: nothing fetched yet; medlib data fetch {one.name} fetches it"
    return f"{one.name}: {n_series} series, {n_files:,} files, every checksum as it should be"
