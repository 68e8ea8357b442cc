"""What changed between two versions of an annotation, for people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from medlib.annotation.drawings import Annotation, GridMismatchError, on_common_block

MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class MaskChange:
    """One reader's mask of one lesion, before and after.

    Attributes
    ----------
    lesion, reader : int
    change : str
        ``"added"``, ``"removed"`` or ``"changed"``.
    voxels_added, voxels_removed : int
    before_ml, after_ml : float
        Volume.
    """

    lesion: int
    reader: int
    change: str
    voxels_added: int
    voxels_removed: int
    before_ml: float
    after_ml: float


@dataclass(frozen=True)
class RatingChange:
    """One rating, before and after; None where it was not given."""

    lesion: int
    reader: int
    rating: str
    before: int | None
    after: int | None


@dataclass(frozen=True)
class Difference:
    """All that differs between two annotations of one series."""

    readers_added: tuple[int, ...]
    readers_removed: tuple[int, ...]
    lesions_added: tuple[int, ...]
    lesions_removed: tuple[int, ...]
    masks: tuple[MaskChange, ...]
    ratings: tuple[RatingChange, ...]

    def __bool__(self) -> bool:
        return any((self.readers_added, self.readers_removed, self.masks, self.ratings))

    @property
    def lesions_changed(self) -> tuple[int, ...]:
        """Lesions that were and are there, with another mask or rating."""
        touched = {m.lesion for m in self.masks} | {r.lesion for r in self.ratings}
        return tuple(sorted(touched - {*self.lesions_added, *self.lesions_removed}))

    def table(self) -> pd.DataFrame:
        """Return a row a mask that changed, with the columns of `MaskChange`."""
        columns = list(MaskChange.__dataclass_fields__)
        return pd.DataFrame([vars(change) for change in self.masks], columns=columns)

    def __str__(self) -> str:
        if not self:
            return "no difference"
        lists = {
            "readers added": self.readers_added,
            "readers removed": self.readers_removed,
            "lesions added": self.lesions_added,
            "lesions removed": self.lesions_removed,
            "lesions changed": self.lesions_changed,
        }
        lines = [f"{name}: {', '.join(map(str, items))}" for name, items in lists.items() if items]
        lines += [
            f"lesion {m.lesion}, reader {m.reader}: {m.change}, +{m.voxels_added} "
            f"-{m.voxels_removed} voxels, {m.before_ml:.3f} -> {m.after_ml:.3f} mL "
            f"({m.after_ml - m.before_ml:+.3f})"
            for m in self.masks
        ]
        lines += [
            f"lesion {r.lesion}, reader {r.reader}: {r.rating} "
            f"{'none' if r.before is None else r.before} -> "
            f"{'none' if r.after is None else r.after}"
            for r in self.ratings
        ]
        return "\n".join(lines)


def difference(before: Annotation, after: Annotation) -> Difference:
    """Compare two annotations of one series, mask by mask.

    Raises
    ------
    GridMismatchError
        If they do not lie on the same voxels.
    """
    if not before.grid.same_as(after.grid):
        raise GridMismatchError(
            "the two annotations lie on different grids; compare annotations of one series"
        )
    lesions_before, lesions_after = set(before.lesions), set(after.lesions)
    return Difference(
        readers_added=tuple(sorted(set(after.readers) - set(before.readers))),
        readers_removed=tuple(sorted(set(before.readers) - set(after.readers))),
        lesions_added=tuple(sorted(lesions_after - lesions_before)),
        lesions_removed=tuple(sorted(lesions_before - lesions_after)),
        masks=tuple(_mask_changes(before, after)),
        ratings=tuple(_rating_changes(before, after)),
    )


def _mask_changes(before: Annotation, after: Annotation) -> list[MaskChange]:
    old = {(mask.lesion, mask.reader): mask for mask in before.masks}
    new = {(mask.lesion, mask.reader): mask for mask in after.masks}
    to_ml = before.grid.voxel_volume_mm3 / MM3_PER_ML
    found = []
    for key in sorted(old.keys() | new.keys()):
        both = [side[key] for side in (old, new) if key in side]
        common = on_common_block(both)
        nothing = np.zeros_like(common[0])
        was = common[0] if key in old else nothing
        now = common[-1] if key in new else nothing
        change = "changed" if key in old and key in new else "added" if key in new else "removed"
        if change != "changed" or (was != now).any():
            found.append(
                MaskChange(
                    *key,
                    change,
                    int((now & ~was).sum()),
                    int((was & ~now).sum()),
                    int(was.sum()) * to_ml,
                    int(now.sum()) * to_ml,
                )
            )
    return found


def _rating_changes(before: Annotation, after: Annotation) -> list[RatingChange]:
    found = []
    for key in sorted(before.ratings.keys() | after.ratings.keys()):
        was, now = before.ratings.get(key, {}), after.ratings.get(key, {})
        for name in sorted(was.keys() | now.keys()):
            if was.get(name) != now.get(name):
                found.append(RatingChange(*key, name, was.get(name), now.get(name)))
    return found
