"""Acquisitions under one series UID whose slices lie between each other: never one volume."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from medlib.images.dicom_find import shown
from medlib.images.dicom_frames import Frame
from medlib.images.dicom_header import number
from medlib.images.image_errors import MixedAcquisitionsError

# What tells acquisitions apart, the surest first.
_TOLD_BY = (
    "AcquisitionNumber",
    "FrameAcquisitionNumber",
    "TemporalPositionIndex",
    "AcquisitionTime",
    "FrameAcquisitionDateTime",
    "ContentTime",
    "InstanceNumber",
)
_LEAST_SLICES = 3  # of each, in the range of both
_EVEN_WITHIN_MM = 0.1
_EVEN_SHARE = 0.8  # one may lack a slice
_MOST_SETS = 8
_APART = 1.15  # neighbours against every second slice: 0.56 to 0.68 in 14 scans of chests
_ORDINALS = ("second", "third", "fourth")
_MOST_IN_TURN = 1 + len(_ORDINALS)
_APART_HU = 20.0
_SIDE_LOOKED_AT = 32  # so many rows, columns and slices

_Z = NDArray[np.float64]  # heights of slices in mm, ascending


def refuse_mixed_acquisitions(frames: list[Frame]) -> None:
    """Raise MixedAcquisitionsError if frames, in ascending z, are of acquisitions that overlap.

    Numbers or times that differ from end to end are normal, and so is any order of numbers that
    does not run through the patient twice.
    """
    z = np.array([frame.z for frame in frames])
    for keyword in _TOLD_BY:
        told = ["" if (v := frame.get(keyword)) is None else str(v) for frame in frames]
        if len(set(told)) == 1:
            continue
        if keyword == "InstanceNumber" and len(set(told)) < len(told):  # counted afresh
            keyword = "Images of the same InstanceNumber,"
            told = [str(told[: k + 1].count(one)) for k, one in enumerate(told)]
        values = np.array([number(one) for one in told], dtype=np.float64)
        _, first, which = np.unique(values, return_index=True, return_inverse=True)
        if np.isnan(values).any() and keyword != "AcquisitionNumber":
            continue
        names = [shown(told[k]) or "absent" for k in first]
        counts = np.bincount(which)
        groups = [(names[k], z[which == k]) for k in np.flatnonzero(counts >= _LEAST_SLICES)]
        sweeps = [
            (f"{names[a]} to {names[b]}" if a < b else names[a], z[(which >= a) & (which <= b)])
            for a, b in _sweeps(np.bincount(which, z) / counts)
            if counts[a : b + 1].sum() >= _LEAST_SLICES
        ]
        for found in (groups, sweeps):
            even = sorted((g for g in found if _is_even(g[1])), key=lambda group: group[1][0])
            for k, (other, z_other) in enumerate(even[1:], 1):
                one, z_one = max(even[:k], key=lambda group: group[1][-1])
                if _overlap(z_one, z_other):
                    raise MixedAcquisitionsError(
                        f"{keyword} {one} ({_range(z_one)}) and {other} ({_range(z_other)}) "
                        "overlap: two acquisitions or reconstructions in one series; expected one; "
                        "give each in a folder of its own"
                    )


def _range(z: _Z) -> str:
    return f"{len(z)} slices, z = {z[0]:g} to {z[-1]:g} mm"


def _is_even(z: _Z) -> bool:
    """Whether they are slices of one acquisition, not a handful of any."""
    gaps = np.diff(z)
    return bool((np.abs(gaps - np.median(gaps)) <= _EVEN_WITHIN_MM).mean() >= _EVEN_SHARE)


def _overlap(one: _Z, other: _Z) -> bool:
    low, high = max(one[0], other[0]), min(one[-1], other[-1])
    return all(((z >= low) & (z <= high)).sum() >= _LEAST_SLICES for z in (one, other))


def _sweeps(heights: _Z) -> list[tuple[int, int]]:
    """Return where long runs in one direction begin and end, and what is in none of them.

    Nothing, if there is little else than short ones.
    """
    turns = np.flatnonzero(np.diff(np.sign(np.diff(heights)))) + 1
    ends = [0, *turns.tolist(), len(heights) - 1]
    if 2 * (len(ends) - 1) > len(heights):
        return []
    gaps = np.abs(np.diff(heights))
    uneven = np.abs(np.diff(gaps)) > _EVEN_WITHIN_MM
    # Where the direction turns, a slice is of the run whose distances it has.
    runs = [
        (a + int(uneven[a]), b - int(uneven[b - 2]))
        for a, b in pairwise(ends)
        if b - a >= _LEAST_SLICES
    ]
    alone = set(range(len(heights))).difference(*(range(a, b + 1) for a, b in runs))
    return [*runs, *((k, k) for k in sorted(alone))]


def refuse_interleaved_sets(z: _Z) -> None:
    """Raise MixedAcquisitionsError if uneven heights are even in every second, or third, ..."""
    gaps = np.diff(z)
    multiples = gaps / gaps.min()
    for sets in range(2, min(_MOST_SETS, len(z) // 4) + 1):
        steps = z[sets:] - z[:-sets]
        # Where at least half of the slices of one even set are there, the others are missing.
        one_set = np.ptp(multiples - multiples.round()) < _EVEN_WITHIN_MM
        if np.ptp(steps) <= 2 * _EVEN_WITHIN_MM and not (
            one_set and multiples[:sets].sum() < 2 * sets - _EVEN_WITHIN_MM
        ):
            raise MixedAcquisitionsError(
                f"{len(z)} slices are {sets} sets, each {steps[0]:g} mm apart, the second "
                f"{z[1] - z[0]:g} mm from the first: acquisitions or phases in one series; "
                "expected one; give each in a folder of its own"
            )


def refuse_alternating(hu: NDArray[np.float32]) -> None:
    """Raise MixedAcquisitionsError if slices look like those of several acquisitions in turn."""
    step = hu.shape[1] // _SIDE_LOOKED_AT
    if len(hu) < _MOST_IN_TURN * _LEAST_SLICES or not step:
        return
    at = np.unique(np.linspace(0, len(hu) - 1 - _MOST_IN_TURN, _SIDE_LOOKED_AT).astype(int))
    one, *others = (
        np.clip(hu[at + k, ::step, ::step], -1000, 400) for k in range(_MOST_IN_TURN + 1)
    )
    near, *far = (float(np.median(np.abs(s - one).mean(axis=(1, 2)))) for s in others)
    if near > _APART * min(far) and near > _APART_HU:
        raise MixedAcquisitionsError(
            f"every slice differs from the next, and looks like the {_ORDINALS[np.argmin(far)]}: "
            "acquisitions or phases in one series; expected one; give each in a folder of its own"
        )
