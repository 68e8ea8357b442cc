"""From a DICOM folder to a mask: how long it takes, where the time goes, and peak memory.

    python benchmarks/inference.py [--run RUN] [--input FOLDER] [--slices 300] [--out FILE]

Without ``--input`` a chest of simple shapes is written as DICOM first: 300 slices of 512 x 512. The
result goes to reference_runs/speed/inference.json, which chapter 4 shows; with other options it is
printed only, unless ``--out`` names a file.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import machine, place, write

from medlib.baseline import inference
from medlib.baseline.device import best_device
from medlib.baseline.grid import WorkingGrid
from medlib.images.dicom import read_series, write_series
from medlib.images.image_files import write_mask
from medlib.images.volume import SeriesIdentity, Volume
from medlib.paths import REFERENCE_RUNS
from medlib.review.model import load_model

RESULT = REFERENCE_RUNS / "speed" / "inference.json"
SPACING_MM = (1.0, 0.7, 0.7)
SLICES = 300


def chest(n_slices: int) -> Volume:
    """Draw two lungs with vessels and noise in a body; nothing in them is a lesion of a patient."""
    rng = np.random.default_rng(0)
    y, x = (np.mgrid[:512, :512] - 256.0) * SPACING_MM[1]
    body = (y / 120) ** 2 + (x / 165) ** 2 < 1
    lung = sum(((y / 85) ** 2 + ((x - side) / 58) ** 2 < 1) for side in (-80, 80)) > 0
    slice_hu = np.where(lung, -850, np.where(body, 40, -1000)).astype(np.float32)
    centres = rng.uniform(-80, 80, size=(120, 2)) * (1, 1.6)
    for row, column in centres:  # vessels along z
        slice_hu[(y - row) ** 2 + (x - column) ** 2 < rng.uniform(0.6, 2.5) ** 2] = 30
    hu = np.empty((n_slices, 512, 512), np.float32)
    for k in range(n_slices):
        hu[k] = slice_hu + rng.normal(0, 20, slice_hu.shape)
    for row, column, z, radius in ((20, -80, 120, 4), (-30, 75, 200, 8)):
        for k in range(n_slices):
            inside = (y - row) ** 2 + (x - column) ** 2 + (k - z) ** 2 < radius**2
            hu[k][inside] = 30
    affine = np.diag([SPACING_MM[2], SPACING_MM[1], SPACING_MM[0], 1.0])
    return Volume(np.rint(hu), affine, SeriesIdentity("benchmark", "1.2.3", "1.2.3.4"))


class Clock:
    """Seconds spent in functions; those of an inner one are not counted in the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.inner: list[float] = [0.0]  # of each function that runs, spent in those it called

    def wrap(self, owner: Any, name: str, words: str) -> None:
        """Count the calls of a function of a module or class."""
        inner = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            self.inner.append(0.0)
            start = time.perf_counter()
            try:
                return inner(*args, **options)
            finally:
                spent = time.perf_counter() - start
                self.seconds[words] = self.seconds.get(words, 0) + spent - self.inner.pop()
                self.inner[-1] += spent

        setattr(owner, name, timed)


def main() -> None:
    """Run once; print the profile as JSON and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--slices", type=int, default=SLICES)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.input or Path(temporary) / "ct"
        if not options.input:
            write_series(chest(options.slices), folder)
        model = load_model(options.run)
        clock = Clock()
        clock.wrap(inference, "plausible_lungs", "lung field")
        clock.wrap(inference, "near_lung", "margin around the lung")
        clock.wrap(inference, "probability_where", "search")
        clock.wrap(inference, "outline", "close looks")
        clock.wrap(inference, "find_candidates", "candidates")
        clock.wrap(WorkingGrid, "from_source", "to the working grid")
        clock.wrap(WorkingGrid, "to_source", "back to the source grid")
        start = time.perf_counter()
        [volume] = read_series(folder)
        clock.seconds["reading DICOM"] = time.perf_counter() - start
        found = inference.predict_volume(
            model.network, model.config, volume, outliner=model.outliner
        )
        before = time.perf_counter()
        write_mask(found.labels, volume, Path(temporary) / "mask.nii.gz")
        clock.seconds["writing the mask"] = time.perf_counter() - before
        total = time.perf_counter() - start
    result = {
        "what": "from a folder of DICOM to a mask, once; loading the model and writing the drawn "
        "chest as DICOM take none of the seconds, but the memory is of the whole process",
        "machine": machine("torch", "openvino"),
        "device": str(best_device()),
        "runtime": model.network.runtime_name,
        "weights_sha256": model.identity.sha256,
        "shape_zyx": volume.hu.shape,
        "threads": torch.get_num_threads(),
        "seconds": round(total, 2),
        "profile_s": {name: round(s, 2) for name, s in clock.seconds.items()},
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "candidates": len(found.candidates),
    }
    print(json.dumps(result, indent=2))
    as_stored = not (options.run or options.input) and options.slices == SLICES
    out = place(options.out, RESULT, as_stored=as_stored)
    if out:
        write(result, out)


if __name__ == "__main__":
    main()
