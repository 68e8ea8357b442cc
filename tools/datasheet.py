"""The datasheet that people read: its template with the numbers of the tables filled in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from string import Template

import pandas as pd

from medlib.cohorts.collections import Collection, collections
from medlib.files import write_file
from tools.croissant import columns
from tools.lidc_tables import NO_NODULE, SIZE_LABELS, scan_size_class

TEMPLATE_FILE = "DATASHEET.in.md"
DATASHEET_FILE = "DATASHEET.md"
PARTS = ("train", "tune", "calibrate", "test", "external")


def write_datasheet(folder: Path) -> Path:
    """Fill the template in a folder of manifests; every number comes from its tables.

    Raises
    ------
    KeyError
        If the template asks for something that is not computed.
    """
    template = Template((folder / TEMPLATE_FILE).read_text(encoding="utf-8"))
    found = collections(folder)
    facts = {**_lidc_facts(found["lidc"]), **_phantom_facts(found["phantom"])}
    facts["columns"] = "\n\n".join(
        f"`{found['lidc'].files[kind]}`\n\n"
        + _table(["column", "meaning"], [[f"`{name}`", said] for name, (_, said) in named.items()])
        for kind, named in columns(folder).items()
    )
    write_file(folder / DATASHEET_FILE, template.substitute(facts))
    return folder / DATASHEET_FILE


def parts_by_manufacturer(split: pd.DataFrame) -> pd.DataFrame:
    """Count patients, scans and, by manufacturer, scans of each part, in the order of `PARTS`."""
    counts = pd.crosstab(split["split"], split["manufacturer"])
    by_part = split.groupby("split")["patient_id"]
    counts.insert(0, "patients", by_part.nunique())
    counts.insert(1, "scans", by_part.size())
    return counts.reindex(PARTS).rename_axis(columns=None).rename_axis("part")


def parts_by_size(split: pd.DataFrame, nodules: pd.DataFrame) -> pd.DataFrame:
    """Count scans of each part by the largest nodule that at least two readers outlined.

    A column a size class; the last is scans without such a nodule.
    """
    size = scan_size_class(split["series_instance_uid"], nodules)
    counts = pd.crosstab(split["split"], size).reindex(columns=[*SIZE_LABELS, NO_NODULE])
    return counts.fillna(0).astype(int).reindex(PARTS).rename_axis(columns=None).rename_axis("part")


def _lidc_facts(lidc: Collection) -> Mapping[str, str]:
    scans, nodules, split = (lidc.table(kind) for kind in ("scans", "nodules", "split"))
    readers = nodules.loc[nodules["unresolved"] == 0, "n_readers"].value_counts()
    several = scans["patient_id"].value_counts()
    makers = scans.groupby("patient_id")["manufacturer"].nunique()
    held_out = sorted(
        set(split["manufacturer"]) - set(split.query("split == 'train'")["manufacturer"])
    )
    facts = {
        "scans": len(scans),
        "patients": scans["patient_id"].nunique(),
        "patients_with_several_scans": int((several > 1).sum()),
        "patients_of_two_makers": int((makers > 1).sum()),
        "repeated_positions": int((scans["n_files"] > scans["n_slices"]).sum()),
        "files": int(scans["n_files"].sum()),
        "nodules": len(nodules),
        "unresolved": int(nodules["unresolved"].sum()),
        "scans_without_nodule": len(
            set(scans["series_instance_uid"]) - set(nodules["series_instance_uid"])
        ),
        **{f"readers_{n}": int(readers[n]) for n in range(1, 5)},
    }
    sizes = parts_by_size(split, nodules)
    without = (100 * sizes[NO_NODULE] / sizes.sum(axis=1)).round().astype(int)
    spacing, pixel = scans["slice_spacing_mm"], scans["pixel_spacing_mm"]
    diameter = nodules["diameter_mm"]
    return {
        **{f"lidc_{name}": f"{value:,}" for name, value in facts.items()},
        "lidc_gigabytes": f"{scans['size_bytes'].sum() / 1e9:.1f}",
        "lidc_spacing_mm": f"{spacing.min():g} to {spacing.max():g} (median {spacing.median():g})",
        "lidc_pixel_mm": f"{pixel.min():.2f} to {pixel.max():.2f} (median {pixel.median():.2f})",
        "lidc_diameter_mm": f"{diameter.quantile(0.05):.1f} to {diameter.quantile(0.95):.1f} "
        f"(median {diameter.median():.1f})",
        "lidc_held_out": " and ".join(held_out),
        "lidc_licences": ", ".join(sorted(scans["licence"].unique())),
        "lidc_manufacturers": _counted(scans["manufacturer"]),
        "lidc_parts": _markdown(parts_by_manufacturer(split)),
        "lidc_sizes": _markdown(sizes),
        **{f"lidc_share_without_{part}": str(without[part]) for part in ("test", "external")},
    }


def _phantom_facts(phantom: Collection) -> Mapping[str, str]:
    content = json.loads((phantom.folder / phantom.manifest).read_text(encoding="utf-8"))
    rows = [
        [name, f"{len(cohort['cases'])}", f"{cohort['recipe']['seed']}"]
        for name, cohort in sorted(content["cohorts"].items())
    ]
    return {"phantom_cohorts": _table(["cohort", "patients", "seed"], rows)}


def _counted(values: pd.Series) -> str:
    return ", ".join(f"{name} {count}" for name, count in values.value_counts().items())


def _markdown(counts: pd.DataFrame) -> str:
    table = counts.reset_index().astype(str)
    return _table(list(table.columns), table.to_numpy().tolist())


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
