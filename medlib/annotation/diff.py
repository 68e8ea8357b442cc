"""What changed between two versions of an annotation, for people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from medlib.annotation.drawings import Annotation, GridMismatchError, LesionMask, on_common_block


@dataclass(frozen=True)
class MaskChange:
    """One reader's mask of one lesion, before and after."""

    lesion: int
    reader: int
    change: str  # added, removed or changed
    voxels_added: int
    voxels_removed: int
    before_ml: float
    after_ml: float

    def __str__(self) -> str:
        return (
            f"lesion {self.lesion}, reader {self.reader}: {self.change}, +{self.voxels_added} "
            f"-{self.voxels_removed} voxels, {self.before_ml:.3f} -> {self.after_ml:.3f} mL "
            f"({self.after_ml - self.before_ml:+.3f})"
        )


@dataclass(frozen=True)
class RatingChange:
    """One rating, before and after; None where it was not given."""

    lesion: int
    reader: int
    rating: str
    before: int | None
    after: int | None

    def __str__(self) -> str:
        before, after = ("none" if v is None else v for v in (self.before, self.after))
        return f"lesion {self.lesion}, reader {self.reader}: {self.rating} {before} -> {after}"


@dataclass(frozen=True)
class Difference:
    """All that differs between two annotations of one series."""

    readers_added: tuple[int, ...]
    readers_removed: tuple[int, ...]
    lesions_added: tuple[int, ...]
    lesions_removed: tuple[int, ...]
    lesions_changed: tuple[int, ...]  # which were and are there, with another mask or rating
    masks: tuple[MaskChange, ...]
    ratings: tuple[RatingChange, ...]

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def table(self) -> pd.DataFrame:
        """Return a row a mask that changed, with the columns of `MaskChange`."""
        columns = list(MaskChange.__dataclass_fields__)
        return pd.DataFrame([vars(change) for change in self.masks], columns=columns)

    def __str__(self) -> str:
        *lists, (_, masks), (_, ratings) = vars(self).items()
        lines = [f"{k.replace('_', ' ')}: {', '.join(map(str, v))}" for k, v in lists if v]
        return "\n".join([*lines, *map(str, masks), *map(str, ratings)]) or "no difference"


def difference(before: Annotation, after: Annotation) -> Difference:
    """Compare two annotations mask by mask; GridMismatchError where they lie on other voxels."""
    if not before.grid.same_as(after.grid):
        raise GridMismatchError(
            "the two annotations lie on different grids; compare annotations of one series"
        )
    masks, ratings = _mask_changes(before, after), _rating_changes(before, after)
    touched = {m.lesion for m in masks} | {r.lesion for r in ratings}
    added, removed = _only(after.lesions, before.lesions), _only(before.lesions, after.lesions)
    return Difference(
        readers_added=_only(after.readers, before.readers),
        readers_removed=_only(before.readers, after.readers),
        lesions_added=added,
        lesions_removed=removed,
        lesions_changed=tuple(sorted(touched - {*added, *removed})),
        masks=tuple(masks),
        ratings=tuple(ratings),
    )


def _only(here: tuple[int, ...], there: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(set(here) - set(there)))


def _mask_changes(before: Annotation, after: Annotation) -> list[MaskChange]:
    old, new = ({(mask.lesion, mask.reader): mask for mask in a.masks} for a in (before, after))
    to_ml = before.grid.voxel_volume_mm3 / 1000
    found = []
    for key in sorted(old.keys() | new.keys()):
        nothing = LesionMask(*key, (0, 0, 0), np.zeros((0, 0, 0), dtype=bool))
        was, now = on_common_block([old.get(key, nothing), new.get(key, nothing)])
        change = "added" if key not in old else "removed" if key not in new else "changed"
        if change != "changed" or (was != now).any():
            added, removed = int((now & ~was).sum()), int((was & ~now).sum())
            volumes_ml = int(was.sum()) * to_ml, int(now.sum()) * to_ml
            found.append(MaskChange(*key, change, added, removed, *volumes_ml))
    return found


def _rating_changes(before: Annotation, after: Annotation) -> list[RatingChange]:
    found = []
    for key in sorted(before.ratings.keys() | after.ratings.keys()):
        was, now = before.ratings.get(key, {}), after.ratings.get(key, {})
        for name in sorted(was.keys() | now.keys()):
            if was.get(name) != now.get(name):
                found.append(RatingChange(*key, name, was.get(name), now.get(name)))
    return found
