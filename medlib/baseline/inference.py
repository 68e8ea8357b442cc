"""From a CT volume to candidates on its own grid."""

from __future__ import annotations

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

BATCH_SLICES = 8
STRIDE_PX = 32  # the encoder halves the image five times
CONTEXT_PX = 16  # seen around the lung field


def near_lung(lung: NDArray[np.bool_], spacing_mm: Spacing, margin_mm: float) -> NDArray[np.bool_]:
    """Return the voxels within `margin_mm` of the lung field; all are far where there is none."""
    if not lung.any():
        return lung
    return np.asarray(ndimage.distance_transform_edt(~lung, sampling=spacing_mm) <= margin_mm)


def predict_volume(
    network: nn.Module, config: TrainConfig, volume: Volume, device: torch.device | None = None
) -> Prediction:
    """Find candidate lesions in a CT volume of any pixel size and slice spacing.

    The lung field is found first; only its slices and its bounding box go through the network, and
    what lies outside it cannot be a candidate.

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
    grid = WorkingGrid.of(volume.hu.shape, volume.spacing_mm, config)
    hu = grid.from_source(volume.hu)
    allowed = near_lung(lung_field(hu, grid.spacing_mm), grid.spacing_mm, config.lung_margin_mm)
    probability = np.zeros(grid.shape, dtype=np.float32)
    boxes = ndimage.find_objects(allowed.astype(np.uint8))
    if boxes:
        rows, columns = (
            _widen(part, size) for part, size in zip(boxes[0][1:], grid.shape[1:], strict=True)
        )
        inside = np.s_[:, rows, columns]
        probability[inside] = _probability(
            network,
            config,
            hu[inside],
            np.any(allowed[inside], axis=(1, 2)),
            device or best_device(),
        )
        probability[~allowed] = 0
    return find_candidates(grid.to_source(probability), volume.spacing_mm, config)


def _widen(part: slice, size: int) -> slice:
    """Add context on both sides of a box's side, as far as the image goes."""
    return slice(max(part.start - CONTEXT_PX, 0), min(part.stop + CONTEXT_PX, size))


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
    for start in range(0, len(slices), BATCH_SLICES):
        batch = slices[start : start + BATCH_SLICES]
        neighbours = np.stack([image[neighbour_slices(z, len(hu), config)] for z in batch])
        tensor = torch.from_numpy(neighbours).to(device).to(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(device)):
            logits = network(tensor)
        probability[batch] = logits.float().sigmoid()[:, 0, :rows, :columns].cpu().numpy()
    return probability
