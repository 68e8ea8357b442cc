"""A piece of CT through the network: whole slices in batches, or a window seen four ways."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from medlib.baseline.config import TrainConfig
from medlib.baseline.device import best_device, has_fast_bfloat16
from medlib.baseline.grid import Spacing, WorkingGrid, neighbour_slices, network_input, widened

# Pixels of the slices that go through the network together: a CPU is fastest where they fit its
# cache, a GPU where they fill it.
BATCH_PX = {"cpu": 2 * 320 * 320, "cuda": 64 * 320 * 320}
CONTEXT = (0, 16, 16)  # slices, rows and columns seen around what is asked for
VIEWS = ((), (1,), (2,), (1, 2))  # axes along which a window is mirrored
STRIDE_PX = 32  # the encoder halves the image five times


class Model(NamedTuple):
    """A network, which maps (batch, n_slices, y, x) in -1..1 to logits (batch, 1, y, x)."""

    network: nn.Module
    config: TrainConfig
    device: torch.device | None = None  # by default the best there is


def probability_where(
    allowed: NDArray[np.bool_], model: Model, hu: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the probability where it is allowed, 0 elsewhere.

    Only the slices and the bounding box of what is allowed go through the network.
    """
    probability = np.zeros(hu.shape, dtype=np.float32)
    boxes = ndimage.find_objects(allowed.view(np.uint8))
    if boxes:
        _, rows, columns = widened(boxes[0], hu.shape, CONTEXT)
        inside = np.s_[:, rows, columns]
        wanted = np.any(allowed[inside], axis=(1, 2))
        probability[inside] = slice_probability(model, hu[inside], wanted)
        probability[~allowed] = 0
    return probability


def predict_window(
    model: Model,
    hu: NDArray[np.float32],
    spacing_mm: Spacing,
    views: int = len(VIEWS),
    slices: slice | None = None,
) -> NDArray[np.float32]:
    """Return the probability in a window cut out of a scan, on its own grid, without a lung field.

    Beyond its bounds the window is mirrored, as in training. The answer is the mean of four views
    (mirrored along x, y and both) and, where slices are averaged, of every way to begin the blocks;
    with one view, of one way. Slices that were not asked for are 0.
    """
    per_block = WorkingGrid.of(hu.shape, spacing_mm, model.config).slices_per_block
    n_begins = 1 if views == 1 else per_block
    total = np.zeros(hu.shape, dtype=np.float32)
    for begin in range(n_begins):
        shifted = np.pad(hu, ((begin, 0), (0, 0), (0, 0)), mode="edge")
        grid = WorkingGrid.of(shifted.shape, spacing_mm, model.config)
        wanted = np.ones(grid.shape[0], dtype=bool)
        if slices is not None:  # one more on either side, to interpolate from
            first = (slices.start + begin) // per_block - 1
            last = -(-(slices.stop + begin) // per_block) + 1
            wanted[: max(first, 0)] = wanted[last:] = False
        seen = mean_view(model, grid.from_source(shifted), wanted, views)
        total += grid.to_source(seen)[begin:]
    if slices is not None:
        total[: slices.start] = total[slices.stop :] = 0
    return np.asarray(total / n_begins, dtype=np.float32)


def mean_view(
    model: Model, hu: NDArray[np.float32], wanted: NDArray[np.bool_], views: int
) -> NDArray[np.float32]:
    """Return the mean probability of a mirrored-out window and its mirror images, on its grid."""
    sides = [max(-(-n // STRIDE_PX) * STRIDE_PX, model.config.crop_px) for n in hu.shape[1:]]
    before = [(side - n) // 2 for side, n in zip(sides, hu.shape[1:], strict=True)]
    room = [(b, side - n - b) for b, side, n in zip(before, sides, hu.shape[1:], strict=True)]
    padded = np.pad(hu, [(0, 0), *room], mode="symmetric")
    total = np.zeros_like(padded)
    for axes in VIEWS[:views]:
        view = np.ascontiguousarray(np.flip(padded, axes))
        total += np.flip(slice_probability(model, view, wanted), axes)
    rows, columns = (slice(b, b + n) for b, n in zip(before, hu.shape[1:], strict=True))
    return np.asarray(total[:, rows, columns] / views, dtype=np.float32)


@torch.inference_mode()
def slice_probability(
    model: Model, hu: NDArray[np.float32], wanted: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Run the wanted slices of `hu` [z, y, x] through the network; the others stay 0."""
    config, device = model.config, model.device or best_device()
    rows, columns = hu.shape[1:]
    padding = ((0, 0), (0, -rows % STRIDE_PX), (0, -columns % STRIDE_PX))
    image = network_input(np.pad(hu, padding, mode="edge"), config)
    probability = np.zeros(hu.shape, dtype=np.float32)
    network = model.network.to(device).eval()
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
