"""Measure on real CT what the phantom's constants were set from: data_manifests/phantom_fit.csv.

    python benchmarks/phantom_fit.py REAL_CT/lidc_voi

Noise by maker, slice thickness, slice distance and kernel (sharp where noise is hardly correlated
along a column), in lung at least 9 pixels from anything bright; density by texture rating and
size; pixel size by maker.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from medlib import paths
from studies.nodule_features import distance_px, measure, noise_in, quiet_lung
from studies.realism import read_vois

SOURCE = """\
# Measured on volumes of interest of LIDC-IDRI, doi:10.7937/K9/TCIA.2015.LO9QL9SX, CC BY 3.0, by
# benchmarks/phantom_fit.py: what medlib/phantom was set from. n: volumes of interest.
"""
SHARP_BELOW = 0.3  # correlation along a column
MIN_VOIS = 4
NOISE = {  # what `noise_in` finds, and its name here
    "noise_sd": "noise_sd",
    "noise_skewness": "noise_skewness",
    "noise_x1": "correlation_along_row",
    "noise_y1": "correlation_along_column",
    "noise_z1": "correlation_of_slices",
}


def noise_far_off(hu: np.ndarray, readers: np.ndarray) -> dict[str, float]:
    """Noise and its correlations far from the nodule and from vessels; empty where too little."""
    bright = ndimage.gaussian_filter(hu, (0, 1, 1)) > -600
    quiet = quiet_lung(hu, distance_px(readers > 0) > 3) & (distance_px(bright) > 9)
    found = noise_in(hu, quiet)
    return {new: found[name] for name, new in NOISE.items() if name in found}


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
    measured = []
    for voi, case in read_vois(folder):
        figures = measure(case.volume.hu, case.readers, case.volume.spacing_mm)
        quiet = noise_far_off(case.volume.hu, case.readers)
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
