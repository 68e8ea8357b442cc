"""What readers drew on one series, in one form for every file format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medlib.annotation.outlines import Block
from medlib.errors import InputError
from medlib.images.volume import OnGrid, Volume

ON_SLICE = 0.25  # of the slice distance: farther from every slice, a line lies on none
SAME_VOXEL_MM = 0.01

Ratings = Mapping[tuple[int, int], Mapping[str, int]]  # by lesion and reader, then by name
Code = tuple[str, str, str]  # value, scheme, meaning


class GridMismatchError(InputError):
    """An annotation lies on another grid than its series."""


@dataclass(frozen=True)
class SeriesGrid(OnGrid):
    """Where the voxels of a series lie; the rest as in `Volume`."""

    series_instance_uid: str
    shape_zyx: tuple[int, int, int]
    affine: NDArray[np.float64]
    sop_instance_uids: tuple[str, ...] = ()
    source_affine: NDArray[np.float64] | None = None
    frame_numbers: tuple[int, ...] = ()

    @classmethod
    def of(cls, volume: Volume) -> SeriesGrid:
        """Take the grid of a volume."""
        z, y, x = volume.hu.shape
        uid = volume.identity.series_instance_uid
        return cls(
            series_instance_uid=uid,
            shape_zyx=(z, y, x),
            affine=volume.affine,
            sop_instance_uids=volume.sop_instance_uids,
            source_affine=volume.source_affine,
            frame_numbers=volume.frame_numbers,
        )

    def slice_z_mm(self, index: float) -> float:
        """Return the z position of a slice in patient coordinates, mm."""
        return float(self.affine[2, 2] * index + self.affine[2, 3])

    def slice_at(self, z_mm: float) -> int | None:
        """Return the slice at a height; None where the series has none there, and for NaN."""
        exact = (z_mm - self.affine[2, 3]) / self.affine[2, 2]
        slices = np.arange(self.shape_zyx[0])
        return next(iter(np.flatnonzero(np.abs(slices - exact) <= ON_SLICE).tolist()), None)

    def same_as(self, other: SeriesGrid) -> bool:
        """Whether both have the same voxels at every corner."""
        z, y, x = (length - 1 for length in self.shape_zyx)
        corners = np.array([[0, x, 0, 0], [0, 0, y, 0], [0, 0, 0, z], [1, 1, 1, 1]])
        apart_mm = np.abs((self.affine - other.affine) @ corners).max()
        return self.shape_zyx == other.shape_zyx and bool(apart_mm <= SAME_VOXEL_MM)


@dataclass(frozen=True)
class Author:
    """Who drew: a reader in a role, never a name, or an algorithm; as text ``kind:name:...``."""

    kind: Literal["reader", "algorithm", "unknown"]
    name: str = ""  # a reader's role, an algorithm's name
    version: str = ""
    weights_sha256: str = ""
    steered: bool = False  # an algorithm, by a person: SEMIAUTOMATIC

    def __str__(self) -> str:
        parts = (self.kind, self.name, self.version, self.weights_sha256)
        return ":".join(part.replace(":", " ") for part in parts).rstrip(":")

    def brief(self, most_bytes: int) -> str:
        """Return that text with twelve digits of the weights, its name cut to so many bytes."""
        short = replace(self, weights_sha256=self.weights_sha256[:12])
        too_many = len(str(short).encode()) - most_bytes
        kept = self.name.encode()[: -too_many if too_many > 0 else None].decode(errors="ignore")
        return str(replace(short, name=kept))

    @classmethod
    def parse(cls, text: str) -> Author:
        """Read such a text; what says neither reader nor algorithm is unknown."""
        kind, *more = text.replace("\\", "/").strip().split(":")
        name, version, weights = (*more, "", "", "")[:3]
        if kind == "reader" and len(more) <= 1:
            return cls("reader", name)
        if kind == "algorithm" and len(more) <= 3 and name:
            return cls("algorithm", name, version, weights)
        return UNKNOWN


READER, UNKNOWN = Author("reader"), Author("unknown")


@dataclass(frozen=True)
class LesionMask:
    """One lesion as one reader drew it; both count from 1, and readers are anonymous."""

    lesion: int  # the same for every reader
    reader: int
    start_zyx: tuple[int, int, int]  # of `mask` on the grid of the series
    mask: NDArray[np.bool_]  # the block that holds every voxel of it

    @classmethod
    def cut(
        cls,
        lesion: int,
        reader: int,
        mask: NDArray[np.bool_],
        start_zyx: tuple[int, int, int] = (0, 0, 0),
    ) -> LesionMask:
        """Take the smallest block out of a mask whose first voxel is `start_zyx` of the grid."""
        nothing = (slice(0, 0),) * 3
        block = ndimage.find_objects(mask.astype(np.uint8))[0] if mask.any() else nothing
        z, y, x = (start + side.start for start, side in zip(start_zyx, block, strict=True))
        return cls(lesion, reader, (z, y, x), mask[block].copy())

    @property
    def stop_zyx(self) -> tuple[int, int, int]:
        """The first voxel behind it on the grid."""
        z, y, x = (start + n for start, n in zip(self.start_zyx, self.mask.shape, strict=True))
        return z, y, x

    @property
    def block(self) -> Block:
        """Where it lies, as an index into a volume."""
        z, y, x = map(slice, self.start_zyx, self.stop_zyx)
        return z, y, x

    @property
    def n_voxels(self) -> int:
        """How many voxels belong to it."""
        return int(self.mask.sum())


@dataclass(frozen=True)
class Line:
    """One line on one slice as it came in, before anything was made of it."""

    lesion: int
    reader: int
    inclusion: bool  # True where the line encloses lesion, False where it encloses a hole
    z_mm: float  # in patient coordinates
    points_yx: NDArray[np.float64]  # shape (n, 2), on the grid of the series, in drawing order
    declared_open: bool = False  # the file itself says so


@dataclass(frozen=True)
class Annotation:
    """What readers drew on one series: `gather` makes one."""

    grid: SeriesGrid
    readers: tuple[int, ...]  # who read the series, ascending, those who marked nothing too
    masks: tuple[LesionMask, ...]  # by lesion, then reader; one for each pair at most
    lines: tuple[Line, ...] = ()  # as they came, where the format holds lines
    ratings: Ratings = field(default_factory=dict)
    authors: Mapping[int, Author] = field(default_factory=dict)  # by reader; `READER` if not said
    names: Mapping[int, str] = field(default_factory=dict)  # by lesion: its own in a foreign file
    codes: Mapping[int, tuple[Code, Code]] = field(default_factory=dict)  # category and type
    notes: tuple[str, ...] = ()  # what was read with reservations, or left out

    @classmethod
    def gather(
        cls,
        grid: SeriesGrid,
        masks: Sequence[LesionMask],
        lines: Sequence[Line] = (),
        readers: Sequence[int] = (),
        ratings: Ratings | None = None,
    ) -> Annotation:
        """Bring masks into order, at most one a lesion and reader; whoever drew is a reader."""
        ordered = sorted(masks, key=lambda mask: (mask.lesion, mask.reader))
        for one, two in pairwise(ordered):
            if (one.lesion, one.reader) == (two.lesion, two.reader):
                raise InputError(
                    f"lesion {one.lesion} has two masks by reader {one.reader}; expected one a "
                    "lesion and reader; give the second lesion another number"
                )
        known = {*readers, *(mask.reader for mask in ordered), *(line.reader for line in lines)}
        return cls(grid, tuple(sorted(known)), tuple(ordered), tuple(lines), ratings or {})

    def author(self, reader: int) -> Author:
        """Return who drew as this reader."""
        return self.authors.get(reader, READER)

    @property
    def lesions(self) -> tuple[int, ...]:
        """The lesions' numbers, ascending."""
        return tuple(sorted({mask.lesion for mask in self.masks}))

    def of_lesion(self, lesion: int) -> tuple[LesionMask, ...]:
        """Return what each reader drew of one lesion."""
        return tuple(mask for mask in self.masks if mask.lesion == lesion)


def on_common_block(masks: Sequence[LesionMask]) -> NDArray[np.bool_]:
    """Put masks on the smallest block that holds them all: shape (mask, z, y, x)."""
    filled = [mask for mask in masks if mask.mask.size]
    if not filled:
        return np.zeros((len(masks), 0, 0, 0), dtype=bool)
    start = np.min([mask.start_zyx for mask in filled], axis=0)
    stop = np.max([mask.stop_zyx for mask in filled], axis=0)
    common = np.zeros((len(masks), *(stop - start)), dtype=bool)
    for out, mask in zip(common, masks, strict=True):
        if mask.mask.size:
            out[tuple(map(slice, mask.start_zyx - start, mask.stop_zyx - start))] = mask.mask
    return common


def shared_voxels(first: LesionMask, second: LesionMask) -> int:
    """Count the voxels that two masks have in common."""
    low = np.maximum(first.start_zyx, second.start_zyx)
    if (low >= np.minimum(first.stop_zyx, second.stop_zyx)).any():
        return 0
    return int(on_common_block([first, second]).all(axis=0).sum())
