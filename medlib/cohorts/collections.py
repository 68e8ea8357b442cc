"""The collections that `data_manifests/collections.toml` names, and whether their parts hold."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from medlib import paths
from medlib.cohorts.splits import check_disjoint
from medlib.cohorts.tables import read_table
from medlib.errors import DataError

INDEX_FILE = "collections.toml"
TABLES = ("scans", "nodules", "split")
SPLIT_COLUMNS = ("series_instance_uid", "patient_id", "manufacturer", "split")


@dataclass(frozen=True)
class Collection:
    """One collection; each file stands in `folder`, its name is empty where there is none."""

    name: str
    title: str
    licence: str
    scans: str = ""  # CSV, a row a scan, with where to fetch it
    nodules: str = ""  # CSV, a row a nodule
    split: str = ""  # CSV, a row a scan, with `SPLIT_COLUMNS`
    manifest: str = ""  # JSON, of the phantom
    datasheet: str = ""
    same_patients_as: str = ""  # another collection
    description: str = ""  # this and the rest: for people and for search engines
    licence_url: str = ""
    url: str = ""
    citation: str = ""
    published: str = ""
    folder: Path = paths.MANIFESTS

    @property
    def files(self) -> dict[str, str]:
        """Kind of each file that describes the collection -> its name."""
        named = {kind: str(getattr(self, kind)) for kind in (*TABLES, "manifest")}
        return {kind: name for kind, name in named.items() if name}

    def table(self, kind: str) -> pd.DataFrame:
        """Read ``"scans"``, ``"nodules"`` or ``"split"``."""
        name = str(getattr(self, kind))
        if not name:
            raise DataError(f"{self.name} has no table of {kind}; name one that has, such as lidc")
        patient = ("patient_id",)
        return read_table(self.folder / name, patient, patient, unique=False)

    def chosen_scans(self, patients: Sequence[str] = (), parts: Sequence[str] = ()) -> pd.DataFrame:
        """Return the scans of some patients, and those of some parts of the split."""
        scans = self.table("scans")
        if unknown := sorted(set(patients) - set(scans["patient_id"])):
            raise DataError(
                f"the manifest has no patient {unknown[0]!r}; expected for instance "
                f"{scans['patient_id'].iloc[0]}"
            )
        chosen = scans["patient_id"].isin(patients)
        if parts:
            split = self.table("split").set_index("series_instance_uid")["split"]
            if unknown := sorted(set(parts) - set(split)):
                known = ", ".join(split.unique())
                raise DataError(f"the split has no part {unknown[0]!r}; expected one of {known}")
            chosen |= scans["series_instance_uid"].isin(split.index[split.isin(parts)])
        if not chosen.any():
            raise DataError("no scan was asked for; name --patients, or a part with --split")
        return scans[chosen]


def collections(folder: Path | None = None) -> dict[str, Collection]:
    """Read which collections there are, by name; the project's where no `folder` is given."""
    folder = folder or paths.MANIFESTS
    path = folder / INDEX_FILE
    try:
        listed = tomllib.loads(path.read_text(encoding="utf-8"))
        found = {name: Collection(name, folder=folder, **keys) for name, keys in listed.items()}
    except (OSError, tomllib.TOMLDecodeError, TypeError) as error:
        raise DataError(f"{INDEX_FILE} cannot be read ({error}); restore it") from error
    for one in found.values():
        if one.same_patients_as and one.same_patients_as not in found:
            raise DataError(
                f"{INDEX_FILE}: {one.name} shares patients with {one.same_patients_as!r}, which is "
                "not there; name it as well"
            )
    return found


def collection(name: str, folder: Path | None = None) -> Collection:
    """Return one collection, or raise `DataError` where there is none of that name."""
    found = collections(folder)
    if name not in found:
        raise DataError(f"there is no collection {name!r}; expected one of {', '.join(found)}")
    return found[name]


def summary() -> pd.DataFrame:
    """Return a row a collection, for people: scans, patients, parts, size, licence."""
    rows = []
    for one in collections().values():
        row = dict.fromkeys(("scans", "patients", "parts", "size"), "-")
        if one.scans:
            scans = one.table("scans")
            row["scans"] = f"{len(scans):,}"
            row["patients"] = f"{scans['patient_id'].nunique():,}"
            row["size"] = f"{scans['size_bytes'].sum() / 1e9:.1f} GB to fetch"
        elif one.manifest:
            made = json.loads((one.folder / one.manifest).read_text(encoding="utf-8"))["cohorts"]
            n_patients = sum(len(cohort["cases"]) for cohort in made.values())
            row["scans"] = row["patients"] = f"{n_patients:,}"
            row["size"] = "made on this machine"
        elif one.same_patients_as:
            row["patients"] = f"those of {one.same_patients_as}"
        if one.split:
            parts = one.table("split").groupby("split")["patient_id"].nunique()
            row["parts"] = "\n".join(f"{part} {n}" for part, n in parts.items())
        rows.append({"name": one.name, "title": one.title, **row, "licence": one.licence})
    return pd.DataFrame(rows)


def checked_splits() -> pd.DataFrame:
    """Read every split and check that no person stands in two parts, of any of them.

    Collections that share patients are looked at together. There, a scan belongs to the patient
    whom the other collection gives its SeriesInstanceUID to: copies often come with other patient
    numbers. The table has `SPLIT_COLUMNS`, `collection`, and `person`: the patient under one
    number.
    """
    found = collections().values()
    tables = [
        read_table(one.folder / one.split, SPLIT_COLUMNS, SPLIT_COLUMNS).assign(collection=one.name)
        for one in found
        if one.split
    ]
    if not tables:
        raise DataError("no collection names a split; there is nothing to check")
    rows = pd.concat(tables, ignore_index=True)
    family = {one.name: one.same_patients_as or one.name for one in found}
    # The collection that others refer to comes first, so that its patient numbers win.
    is_copy = rows["collection"].map(family) != rows["collection"]
    rows = pd.concat([rows[~is_copy], rows[is_copy]], ignore_index=True)
    origin = rows["collection"].map(family)
    first = rows.groupby([origin, rows["series_instance_uid"]])["patient_id"].transform("first")
    rows["person"] = origin + "/" + first
    check_disjoint(rows, patient_column="person")
    return rows
