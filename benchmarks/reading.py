"""How fast a CT series becomes HU: medlib beside SimpleITK and a plain pydicom loop.

``python benchmarks/reading.py`` writes series of 100, 300 and 600 slices of 512 x 512 into a
temporary folder, lets each reader read each series several times in turn, and writes
``benchmarks/reading.json``. All readers get the folder's path and return float32 HU in ascending z,
and all returns are compared voxel by voxel.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
import typer
from numpy.typing import NDArray
from record import machine, place, write

from medlib.images.dicom import read_series, write_series
from medlib.images.volume import SeriesIdentity, Volume

RESULT = Path(__file__).with_name("reading.json")
SLICES, ROUNDS = (100, 300, 600), 7
SIDE = 512
SPACING_MM = (1.0, 0.7, 0.7)


def by_medlib(folder: Path) -> NDArray[np.float32]:
    """Read with every check."""
    [volume] = read_series(folder)
    return volume.hu


def by_simpleitk(folder: Path) -> NDArray[np.float32]:
    """Read as its documentation shows, without checks."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    reader.SetOutputPixelType(sitk.sitkFloat32)
    return sitk.GetArrayFromImage(reader.Execute())


def by_pydicom(folder: Path) -> NDArray[np.float32]:
    """Read as a notebook would: every file, sorted by z, rescaled, stacked; without checks."""
    slices = [pydicom.dcmread(path) for path in folder.iterdir()]
    slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    return np.stack(
        [
            one.pixel_array * np.float32(one.RescaleSlope) + np.float32(one.RescaleIntercept)
            for one in slices
        ]
    )


READERS: dict[str, Callable[[Path], NDArray[np.float32]]] = {
    "medlib": by_medlib,
    "SimpleITK": by_simpleitk,
    "pydicom loop": by_pydicom,
}


def chest(slices: int) -> Volume:
    """Two lungs in a body in air, with noise: what a series weighs, and nothing more."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    plane = np.full((SIDE, SIDE), -1000.0, np.float32)
    plane[(x / 0.85) ** 2 + (y / 0.65) ** 2 < 1] = 40
    for side in (-0.38, 0.38):
        plane[((x - side) / 0.28) ** 2 + (y / 0.45) ** 2 < 1] = -860
    hu = np.empty((slices, SIDE, SIDE), np.float32)
    for k in range(slices):
        hu[k] = np.clip(np.rint(plane + 20 * rng.standard_normal(plane.shape)), -1024, 3071)
    affine = np.diag([*SPACING_MM[::-1], 1.0])
    return Volume(hu, affine, SeriesIdentity("P", "1.2.3", f"1.2.3.{slices}", "1.2.3.5", "M", "X"))


def measure(folder: Path, slices: int, rounds: int) -> dict[str, object]:
    """Time every reader in turn, after one round that warms the cache and compares the voxels."""
    volume = chest(slices)
    write_series(volume, folder)
    for name, read in READERS.items():
        if not np.array_equal(read(folder), volume.hu):
            raise SystemExit(f"{name} returns other HU than were written")
    del volume
    seconds: dict[str, list[float]] = {name: [] for name in READERS}
    for turn in range(rounds):
        names = list(READERS)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began = time.perf_counter()
            READERS[name](folder)
            seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "slices": slices,
        "median_s": {name: round(value, 3) for name, value in medians.items()},
        "range_s": {name: [round(min(t), 3), round(max(t), 3)] for name, t in seconds.items()},
        "medlib_over": {
            name: round(medians["medlib"] / value, 3)
            for name, value in medians.items()
            if name != "medlib"
        },
    }


def main(slices: list[int] | None = None, rounds: int = ROUNDS, out: Path | None = None) -> None:
    """Measure, print a table, and write benchmarks/reading.json, or OUT for a trial."""
    results = []
    header = f"{'slices':>6}" + "".join(f"{name + ', s':>16}" for name in READERS)
    print(header + "".join(f"{'medlib / ' + name:>24}" for name in list(READERS)[1:]))
    for count in slices or SLICES:
        with tempfile.TemporaryDirectory() as scratch:
            result = measure(Path(scratch) / "ct", count, rounds)
        results.append(result)
        row = f"{count:>6}" + "".join(f"{result['median_s'][name]:>16.3f}" for name in READERS)
        print(row + "".join(f"{ratio:>24.2f}" for ratio in result["medlib_over"].values()))
    record = {
        "what": f"seconds from a folder to HU, {SIDE} x {SIDE} x slices, plain little endian, "
        f"warm cache, median of {rounds} interleaved rounds",
        "machine": machine("numpy", "pydicom", "SimpleITK"),
        "results": results,
    }
    if target := place(out, RESULT, as_stored=not slices and rounds == ROUNDS):
        write(record, target)


if __name__ == "__main__":
    typer.run(main)
