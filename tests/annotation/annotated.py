"""A small series on disk and what two readers drew on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medlib.annotation.drawings import Annotation, LesionMask, SeriesGrid
from medlib.images.dicom import read_series, write_series
from medlib.images.volume import SeriesIdentity, Volume

SHAPE = (9, 40, 44)
SPACING_MM = (2.5, 0.8, 0.7)
TURNS = {  # direction of rows' and columns' axes: supine, prone, and each axis flipped
    "supine": (1, 1),
    "prone": (-1, -1),
    "columns flipped": (-1, 1),
    "rows flipped": (1, -1),
}


def make_series(folder: Path, turn: str = "supine", head_first_file: bool = False) -> Volume:
    """Write a series whose whole image is lung, and read it back."""
    x, y = TURNS[turn]
    affine = np.diag([x * SPACING_MM[2], y * SPACING_MM[1], SPACING_MM[0], 1.0])
    affine[:3, 3] = (-14.35 * x, -16.1 * y, -212.5)
    rng = np.random.default_rng(0)
    hu = rng.normal(-850, 20, SHAPE).astype(np.float32)
    identity = SeriesIdentity("P-1", "1.2.3", "1.2.3.4", "1.2.3.5", "M", "X", "K")
    files = write_series(Volume(hu, affine, identity), folder)
    if head_first_file:  # the file that is read first lies highest
        names = [file.with_suffix(".moved") for file in files]
        for file, name in zip(files, names, strict=True):
            file.rename(name)
        for name, file in zip(names, reversed(files), strict=True):
            name.rename(file)
    [volume] = read_series(folder)
    return volume


def disc(centre_zyx, radius_mm, shape=SHAPE, spacing_mm=SPACING_MM):
    """A ball in mm."""
    index = np.indices(shape).transpose(1, 2, 3, 0) - np.array(centre_zyx)
    return (index * spacing_mm / radius_mm) ** 2 @ np.ones(3) <= 1


def two_readers(volume: Volume) -> Annotation:
    """Two lesions by two readers: unlike shapes, a hole with an island, a skipped slice."""
    first, second = disc((3, 15, 12), 6.0), disc((3, 15, 13), 5.6)
    first[3, 13:18, 10:15] = False
    first[3, 15, 12] = True
    ragged = disc((6, 28, 30), 5.0)
    ragged[6, 28, 22:40] = False
    ragged[5] = False
    masks = [
        LesionMask.cut(1, 1, first),
        LesionMask.cut(1, 2, second),
        LesionMask.cut(2, 1, ragged),
        LesionMask.cut(2, 2, disc((6, 28, 30), 4.6)),
    ]
    return Annotation.gather(SeriesGrid.of(volume), masks)


def voxels(annotation: Annotation) -> list[tuple[object, ...]]:
    """Every mask as something that can be compared."""
    return [(m.lesion, m.reader, m.start_zyx, m.mask.tolist()) for m in annotation.masks]
