"""Measure on real CT what the phantom's constants were set from: data_manifests/phantom_fit.csv.

    python benchmarks/phantom_fit.py REAL_CT/lidc_voi

Noise by maker, slice thickness, slice distance and kernel (sharp where noise is hardly correlated
along a column), in lung at least 9 pixels from anything bright; density by texture rating and
size; pixel size by maker.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from medlib import paths
from studies.nodule_features import LUNG_BELOW_HU, measure
from studies.realism import TABLE

SOURCE = """\
# Measured on volumes of interest of LIDC-IDRI, doi:10.7937/K9/TCIA.2015.LO9QL9SX, CC BY 3.0, by
# benchmarks/phantom_fit.py: what medlib/images/phantom was set from. n: volumes of interest.
"""
SHARP_BELOW = 0.3  # correlation along a column
MIN_VOIS = 4


def quiet_lung(hu: np.ndarray, readers: np.ndarray) -> dict[str, float]:
    """Noise and its correlations far from the nodule and from vessels; empty where too little."""
    away = np.stack(
        [ndimage.distance_transform_edt(p == 0) > 3 if p.any() else p == 0 for p in readers]
    )
    quiet = away & (ndimage.gaussian_filter(hu, (0, 1.5, 1.5)) < LUNG_BELOW_HU)
    quiet = ndimage.binary_erosion(quiet, ndimage.generate_binary_structure(2, 1)[None], 2)
    bright = ndimage.gaussian_filter(hu, (0, 1, 1)) > -600
    far = np.stack([ndimage.distance_transform_edt(~b) > 9 if b.any() else ~b for b in bright])
    quiet &= far
    if quiet.sum() < 400:
        return {}
    noise = hu - ndimage.gaussian_filter(hu, (0, 4, 4))

    def correlation(axis: int) -> float:
        low, high = (
            tuple(s if a == axis else slice(None) for a in range(3))
            for s in (slice(None, -1), slice(1, None))
        )
        both = quiet[low] & quiet[high]
        if both.sum() < 200:
            return float("nan")
        return float(np.corrcoef(noise[low][both], noise[high][both])[0, 1])

    values = noise[quiet]
    return {
        "noise_sd": float(values.std()),
        "noise_skewness": float(((values - values.mean()) ** 3).mean() / values.std() ** 3),
        "correlation_along_row": correlation(2),
        "correlation_along_column": correlation(1),
        "correlation_of_slices": correlation(0),
    }


def rows_of(table: pd.DataFrame, by: list[str], figures: list[str], kind: str) -> pd.DataFrame:
    """Median and quartiles of each figure in each stratum."""
    long = table.melt(by, figures, "figure").dropna(subset="value")
    grouped = long.groupby([*by, "figure"], sort=True)["value"]
    found = grouped.agg(
        n="count", mean="mean", sd="std", q25=lambda v: v.quantile(0.25), median="median",
        q75=lambda v: v.quantile(0.75),
    ).reset_index()  # fmt: skip
    stratum = found[by].astype(str).agg(" / ".join, axis=1)
    found = found[found["n"] >= MIN_VOIS].drop(columns=by)
    found.insert(0, "stratum", stratum)
    found.insert(0, "kind", kind)
    return found


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", type=Path)
    folder = parser.parse_args().real
    vois = pd.read_csv(folder / TABLE)
    measured = []
    for voi in vois[vois["flag"].isna()].itertuples():
        hu, readers = (
            np.asarray(nib.load(folder / f).dataobj).T for f in (voi.ct_file, voi.readers_file)
        )
        hu, readers = hu.astype(np.float32), readers.astype(np.uint8)
        figures = measure(hu, readers, (voi.slice_spacing_mm, *[voi.pixel_spacing_mm] * 2))
        quiet = quiet_lung(hu, readers)
        sharp = quiet.get("correlation_along_column", 1.0) < SHARP_BELOW
        size = pd.cut([figures["diameter_mm"]], [0, 5, 7, 10, 15, 20, 60]).astype(str)[0]
        measured.append({
            "maker": voi.manufacturer, "thickness_mm": voi.slice_thickness_mm,
            "spacing_mm": voi.slice_spacing_mm, "kernel": "sharp" if sharp else "standard",
            "texture": int(np.floor(voi.texture_median + 0.5)), "size_mm": size,
            "calcified": voi.calcification_median < 5.5,
            **{k: v for k, v in figures.items() if not k.startswith("noise")}, **quiet,
        })  # fmt: skip
    table = pd.DataFrame(measured)
    noise = [name for name in table if name.startswith(("noise", "correlation"))]
    inside = ["inside_mean", "inside_sd", "core_mean", "core_sd", "edge_width", "edge_offset"]
    soft = table[~table["calcified"]]
    parts = [
        rows_of(table, ["maker", "thickness_mm", "spacing_mm", "kernel"], noise, "noise"),
        rows_of(soft, ["texture"], inside, "density by texture, not calcified"),
        rows_of(soft[soft["texture"] == 5], ["size_mm"], inside, "density of solid by size"),
        rows_of(table[table["calcified"]], ["size_mm"], inside, "density of calcified nodules"),
        rows_of(table, ["maker"], ["ring_median", "ring_sd", "around_lung_median", "pixel_mm"],
                "lung and pixel size by maker"),
    ]  # fmt: skip
    text = pd.concat(parts).to_csv(index=False, float_format="%.4g")
    (paths.MANIFESTS / "phantom_fit.csv").write_text(SOURCE + text)


if __name__ == "__main__":
    main()
