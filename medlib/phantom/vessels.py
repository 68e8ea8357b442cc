"""Branching trees of the lung: arteries, veins and the bronchi beside the arteries.

A tree is grown through random points of the lung, joining them one by one where the wire and the
way to the root are short (Cuntz et al. 2010, doi:10.1371/journal.pcbi.1000877); radii follow
Murray's law. In a single slice its cross-sections look like nodules: they are the false alarms
that a detector must learn not to raise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Triple = tuple[float, float, float]

_MURRAY_EXPONENT = 2.7
_PATH_WEIGHT = 0.5  # how much a short way to the root counts against a short wire


class Polyline(NamedTuple):
    """Points along tubes, close enough to be painted as spheres."""

    xyz_mm: Floats  # (n, 3)
    radius_mm: Floats


def grow_tree(root_xyz: Floats, targets_xyz: Floats, leaf_radius_mm: float) -> Polyline:
    """Grow a tree from a root through all target points.

    A branch that carries nothing further has the leaf's radius. The branches are smooth curves
    with a point every 0.8 mm or so.
    """
    nodes = np.vstack([root_xyz, targets_xyz])
    parent, order = _connect(nodes)
    load = np.ones(len(nodes))
    for node in order[:0:-1]:
        load[parent[node]] += load[node]
    radius = leaf_radius_mm * load ** (1.0 / _MURRAY_EXPONENT)
    return _curves(nodes, parent, order, load, radius)


def _connect(nodes: Floats) -> tuple[NDArray[np.intp], list[int]]:
    """Parent of each node, and the nodes in the order in which they joined."""
    parent, path, order = np.zeros(len(nodes), dtype=np.intp), np.zeros(len(nodes)), [0]
    best_wire = np.linalg.norm(nodes - nodes[0], axis=1)
    best_cost = best_wire.copy()
    best_cost[0] = np.inf  # stands in the tree
    for _ in nodes[1:]:
        new = int(np.argmin(best_cost))
        order.append(new)
        best_cost[new] = np.inf
        path[new] = path[parent[new]] + best_wire[new]
        wire = np.linalg.norm(nodes - nodes[new], axis=1)
        cost = wire + _PATH_WEIGHT * (path[new] + wire)
        better = np.isfinite(best_cost) & (cost < best_cost)
        best_cost[better], parent[better] = cost[better], new
        best_wire = np.where(better, wire, best_wire)
    return parent, order


def _curves(
    nodes: Floats, parent: NDArray[np.intp], order: list[int], load: Floats, radius: Floats
) -> Polyline:
    """Draw each branch as a cubic whose tangents follow the strongest way through its ends."""
    heir = np.full(len(nodes), -1)
    for node in order[1:]:
        above = parent[node]
        if heir[above] < 0 or load[node] > load[heir[above]]:
            heir[above] = node
    incoming = nodes - nodes[parent]
    onward = np.where((heir >= 0)[:, None], nodes[heir] - nodes, incoming)
    tangent = _unit(_unit(incoming) + _unit(onward))
    child = np.array(order[1:])
    above = parent[child]
    start, end = nodes[above], nodes[child]
    length = np.linalg.norm(end - start, axis=1, keepdims=True)
    leaving = _unit(tangent[above] + 3.0 * _unit(end - start))
    steps = np.maximum(np.ceil(length[:, 0] / 0.8).astype(int), 2)
    branch = np.repeat(np.arange(len(child)), steps)
    first = np.repeat(np.cumsum(steps) - steps, steps)
    t = ((np.arange(len(branch)) - first) / steps[branch])[:, None]
    arriving = _unit(tangent[child] + _unit(end - start))
    from_start, to_end = (leaving * length)[branch], (arriving * length)[branch]
    xyz = (
        (2 * t**3 - 3 * t**2 + 1) * start[branch]
        + (t**3 - 2 * t**2 + t) * from_start
        + (-2 * t**3 + 3 * t**2) * end[branch]
        + (t**3 - t**2) * to_end
    )
    # A branch starts thinner than what it leaves, and tapers a little.
    thick = np.minimum(radius[above], 1.15 * radius[child])
    along = t[:, 0]
    return Polyline(xyz, (1 - along) * thick[branch] + along * radius[child][branch])


def _unit(vectors: Floats) -> Floats:
    length: Floats = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, 1e-9)


def paint_tubes(
    line: Polyline, shape_zyx: tuple[int, ...], spacing_mm: Triple, origin_zyx: Triple
) -> NDArray[np.float32]:
    """Return the share, 0..1, of each voxel that lies inside the tubes.

    A tube thinner than a voxel is painted as wide as one and as much fainter, so that it keeps
    its cross-section. The origin is voxel (0, 0, 0) in mm.
    """
    spacing = np.array(spacing_mm)
    widest = float(spacing.max())
    shown = np.maximum(line.radius_mm, 0.62 * widest)
    amount = (line.radius_mm / shown) ** 2
    index = (line.xyz_mm[:, ::-1] - np.array(origin_zyx)) / spacing
    share = np.zeros(int(np.prod(shape_zyx)), dtype=np.float32)
    reach_class = np.ceil(shown + 0.5 * widest)
    for reach in np.unique(reach_class):
        members = np.flatnonzero(reach_class == reach)
        half = np.ceil(reach / spacing).astype(int)
        near = (index[members] > -half - 1) & (index[members] < np.array(shape_zyx) + half)
        members = members[near.all(axis=1)]
        window = [np.arange(-h, h + 1) for h in half]
        per_block = max(1, 4_000_000 // int(np.prod(2 * half + 1)))
        for block in np.array_split(members, max(1, -(-len(members) // per_block))):
            center = np.rint(index[block]).astype(np.int64)
            offset = (center - index[block]) * spacing
            dz, dy, dx = (
                (offset[:, axis, None] + window[axis] * spacing[axis]) ** 2 for axis in range(3)
            )
            squared = (dz[:, :, None, None] + dy[:, None, :, None]) + dx[:, None, None, :]
            reached = (shown[block] + 0.5 * widest)[:, None, None, None] ** 2
            point, *steps = np.nonzero(squared < reached)
            value = (shown[block][point] - np.sqrt(squared[point, *steps])) / widest + 0.5
            value = np.clip(value, 0, 1) * amount[block][point]
            voxel = center[point] + np.stack([w[k] for w, k in zip(window, steps, strict=True)], 1)
            inside = ((voxel >= 0) & (voxel < np.array(shape_zyx))).all(axis=-1) & (value > 0)
            flat = np.ravel_multi_index(tuple(voxel[inside].T), shape_zyx)
            np.maximum.at(share, flat, value[inside].astype(np.float32))
    return share.reshape(shape_zyx)
