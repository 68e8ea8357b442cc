"""From a CT volume to candidates on its own grid."""

from __future__ import annotations

from collections.abc import Iterator

import cc3d
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from medlib.baseline.config import TrainConfig
from medlib.baseline.device import best_device, has_fast_bfloat16
from medlib.baseline.grid import Spacing, WorkingGrid, neighbour_slices, network_input
from medlib.baseline.prediction import Prediction, find_candidates
from medlib.images.lungs import lung_field
from medlib.images.volume import Volume

__all__ = ["Prediction", "predict_volume"]

# Pixels of the slices that go through the network together: a CPU is fastest where they fit its
# cache, a GPU where they fill it.
BATCH_PX = {"cpu": 2 * 320 * 320, "cuda": 64 * 320 * 320}
STRIDE_PX = 32  # the encoder halves the image five times
CONTEXT_PX = 16  # seen around the lung field
SEARCH_LEVEL = 0.5  # of the candidate level: what the search has to see for a closer look
SEARCH_MARGIN = (2, 6, 6)  # working voxels looked at around it along z, y, x
Box = tuple[slice, slice, slice]


def near_lung(lung: NDArray[np.bool_], spacing_mm: Spacing, margin_mm: float) -> NDArray[np.bool_]:
    """Return the voxels within `margin_mm` of the lung field; all are far where there is none."""
    reach = [int(margin_mm / step) for step in spacing_mm]
    offsets = np.mgrid[tuple(slice(-n, n + 1) for n in reach)]
    ball = np.hypot.reduce([o * step for o, step in zip(offsets, spacing_mm, strict=True)])
    return np.asarray(ndimage.binary_dilation(lung, ball <= margin_mm))


def predict_volume(
    network: nn.Module, config: TrainConfig, volume: Volume, device: torch.device | None = None
) -> Prediction:
    """Find candidate lesions in a CT volume of any pixel size and slice spacing.

    The lung field is found first; only its slices and its bounding box go through the network, and
    what lies outside it cannot be a candidate. Where the configuration names a wider slice spacing
    for the search, the scan is searched at that, and what is found is looked at again at the fine
    one.

    Parameters
    ----------
    network : nn.Module
        Maps (batch, n_slices, y, x) in -1..1 to logits (batch, 1, y, x).
    config : TrainConfig
    volume : Volume
    device : torch.device, optional
        By default the best there is.

    Returns
    -------
    Prediction
        On the volume's grid; without candidates where there is no lung.
    """
    device = device or best_device()
    search = config.model_copy(
        update={"slice_spacing_mm": config.search_slice_spacing_mm or config.slice_spacing_mm}
    )
    grid = WorkingGrid.of(volume.hu.shape, volume.spacing_mm, search)
    hu = grid.from_source(volume.hu)
    allowed = near_lung(lung_field(hu, grid.spacing_mm), grid.spacing_mm, config.lung_margin_mm)
    probability = np.zeros(grid.shape, dtype=np.float32)
    boxes = ndimage.find_objects(allowed.astype(np.uint8))
    if boxes:
        rows, columns = (
            _widen(part, size, CONTEXT_PX)
            for part, size in zip(boxes[0][1:], grid.shape[1:], strict=True)
        )
        inside = np.s_[:, rows, columns]
        wanted = np.any(allowed[inside], axis=(1, 2))
        probability[inside] = _probability(network, config, hu[inside], wanted, device)
        probability[~allowed] = 0
    found = grid.to_source(probability)
    fine_per_block = WorkingGrid.of(volume.hu.shape, volume.spacing_mm, config).slices_per_block
    if fine_per_block < grid.slices_per_block:
        for box in _places(probability, config, grid):
            refined = _look_closely(network, config, volume, box, device)
            found[box] = np.where(grid.part_to_source(allowed, box), refined, 0)
    return find_candidates(found, volume.spacing_mm, config)


def _places(
    probability: NDArray[np.float32], config: TrainConfig, grid: WorkingGrid
) -> Iterator[Box]:
    """Yield the boxes on the source grid where the search saw anything, with a margin."""
    labels = cc3d.connected_components(probability >= SEARCH_LEVEL * config.candidate_level)
    per_voxel = np.divide(grid.source_shape, grid.shape)
    per_voxel[0] = grid.slices_per_block
    for box in ndimage.find_objects(labels.astype(np.int32)):
        widened = (
            _widen(part, size, margin)
            for part, size, margin in zip(box, grid.shape, SEARCH_MARGIN, strict=True)
        )
        z, y, x = (
            slice(int(part.start * factor), min(int(np.ceil(part.stop * factor)), size))
            for part, factor, size in zip(widened, per_voxel, grid.source_shape, strict=True)
        )
        yield z, y, x


def _look_closely(
    network: nn.Module, config: TrainConfig, volume: Volume, box: Box, device: torch.device
) -> NDArray[np.float32]:
    """Return the probability in a box, seen at the fine slice spacing, on the source grid."""
    per_mm = config.in_plane_spacing_mm
    room = [0] + [round(CONTEXT_PX * per_mm / step) for step in volume.spacing_mm[1:]]
    wide = tuple(
        _widen(part, size, n) for part, size, n in zip(box, volume.hu.shape, room, strict=True)
    )
    part_hu = volume.hu[wide]
    grid = WorkingGrid.of(part_hu.shape, volume.spacing_mm, config)
    hu = grid.from_source(part_hu)
    seen = _probability(network, config, hu, np.ones(len(hu), dtype=bool), device)
    inner = tuple(
        slice(part.start - outer.start, part.stop - outer.start)
        for part, outer in zip(box, wide, strict=True)
    )
    return grid.to_source(seen)[inner]


def predict_window(
    network: nn.Module, config: TrainConfig, volume: Volume, device: torch.device | None = None
) -> NDArray[np.float32]:
    """Return the probability in a volume of interest, without a lung field.

    Beyond its bounds the window is mirrored, as in training. The answer is the mean of four views
    (mirrored along x, y and both) and, where slices are averaged, of every way to begin the blocks.

    Parameters
    ----------
    network, config, device
        As `predict_volume` takes them.
    volume : Volume

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        On the volume's grid.
    """
    device = device or best_device()
    per_block = WorkingGrid.of(volume.hu.shape, volume.spacing_mm, config).slices_per_block
    total = np.zeros(volume.hu.shape, dtype=np.float32)
    for begin in range(per_block):
        shifted = np.pad(volume.hu, ((begin, 0), (0, 0), (0, 0)), mode="edge")
        grid = WorkingGrid.of(shifted.shape, volume.spacing_mm, config)
        seen = _four_views(network, config, grid.from_source(shifted), device)
        total += grid.to_source(seen)[begin:]
    return np.asarray(total / per_block, dtype=np.float32)


def _four_views(
    network: nn.Module, config: TrainConfig, hu: NDArray[np.float32], device: torch.device
) -> NDArray[np.float32]:
    """Return the mean probability of a mirrored-out window and its three mirror images."""
    sides = [max(-(-n // STRIDE_PX) * STRIDE_PX, config.crop_px) for n in hu.shape[1:]]
    before = [(side - n) // 2 for side, n in zip(sides, hu.shape[1:], strict=True)]
    room = [(b, side - n - b) for b, side, n in zip(before, sides, hu.shape[1:], strict=True)]
    padded = np.pad(hu, [(0, 0), *room], mode="symmetric")
    every = np.ones(len(hu), dtype=bool)
    total = np.zeros_like(padded)
    for axes in ((), (1,), (2,), (1, 2)):
        view = np.ascontiguousarray(np.flip(padded, axes))
        total += np.flip(_probability(network, config, view, every, device), axes)
    rows, columns = (slice(b, b + n) for b, n in zip(before, hu.shape[1:], strict=True))
    return np.asarray(total[:, rows, columns] / 4, dtype=np.float32)


def _widen(part: slice, size: int, margin: int) -> slice:
    """Add a margin on both sides of a box's side, as far as the image goes."""
    return slice(max(part.start - margin, 0), min(part.stop + margin, size))


@torch.inference_mode()
def _probability(
    network: nn.Module,
    config: TrainConfig,
    hu: NDArray[np.float32],
    wanted: NDArray[np.bool_],
    device: torch.device,
) -> NDArray[np.float32]:
    """Run the wanted slices of `hu` [z, y, x] through the network; the others stay 0."""
    rows, columns = hu.shape[1:]
    padding = ((0, 0), (0, -rows % STRIDE_PX), (0, -columns % STRIDE_PX))
    image = network_input(np.pad(hu, padding, mode="edge"), config)
    probability = np.zeros(hu.shape, dtype=np.float32)
    network = network.to(device).eval()
    slices = np.flatnonzero(wanted)
    per_batch = max(1, BATCH_PX[device.type] // (image.shape[1] * image.shape[2]))
    for start in range(0, len(slices), per_batch):
        batch = slices[start : start + per_batch]
        neighbours = np.stack([image[neighbour_slices(z, len(hu), config)] for z in batch])
        tensor = torch.from_numpy(neighbours).to(device).to(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(device)):
            logits = network(tensor)
        probability[batch] = logits.float().sigmoid()[:, 0, :rows, :columns].cpu().numpy()
    return probability
