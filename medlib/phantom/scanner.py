"""The scanner: point spread, noise with the spectrum of a reconstructed CT, whole HU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import generate_uid
from scipy import fft, ndimage, optimize

from medlib.images.volume import SeriesIdentity, Volume
from medlib.phantom.anatomy import Anatomy
from medlib.phantom.sites import Grid, Protocol, Scanner

_HU_RANGE = (-1024, 3071)
_UIDS = ("study", "series", "frame of reference")


def acquire(anatomy: Anatomy, seed: int, patient_id: str = "PHANTOM") -> Volume:
    """Scan a phantom patient as sharp and as noisy as its scanner is.

    The noise follows from the seed, the UIDs from seed and patient. HU are whole numbers.
    """
    scanner, grid = anatomy.scanner, anatomy.grid
    protocol = scanner.protocol
    dz, *in_plane = grid.spacing_mm
    # The drawing is averaged over the slice distance; overlapping slices reach further.
    overlap_mm = np.sqrt(max(0.0, protocol.slice_thickness_mm**2 - dz**2) / 12.0)
    sigma_px = (overlap_mm / dz, *(protocol.psf_sigma_mm / np.array(in_plane)))
    hu = ndimage.gaussian_filter(anatomy.hu, sigma_px, truncate=3.0)
    hu += ct_noise(protocol, grid, np.random.default_rng([seed, 1]))
    np.rint(hu, out=hu)
    np.clip(hu, *_HU_RANGE, out=hu)
    affine = np.diag([*grid.spacing_mm[::-1], 1.0])  # voxel index (x, y, z) to LPS mm
    affine[:3, 3] = [axis[0] for axis in grid.centers_mm()[::-1]]
    return Volume(hu, affine, _identity(scanner, patient_id, seed))


def ct_noise(protocol: Protocol, grid: Grid, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw noise in HU with the spectrum that filtered back-projection leaves.

    The in-plane noise power spectrum rises with frequency (the ramp filter) and falls off with the
    kernel (a Gaussian). Rays along x pass the shoulders and arrive with fewer photons; their noise
    varies along y, so there is more of it (Kak and Slaney 1988, chapter 5). Neighbouring slices
    share part of it. Slices that are averaged for a reduced grid have less noise than
    `protocol.noise_sd_hu` and share less.
    """
    slices, rows, columns = grid.shape_zyx
    fy = fft.fftfreq(rows, grid.spacing_mm[1])[:, None]
    fx = fft.rfftfreq(columns, grid.spacing_mm[2])[None, :]
    frequency = np.hypot(fy, fx)
    falloff = np.exp(-2.0 * (np.pi * frequency * protocol.noise_correlation_mm) ** 2)
    starved = 1.0 + protocol.noise_anisotropy * (fy / np.maximum(frequency, 1e-9)) ** 2
    transfer = (falloff * np.sqrt((0.1 + frequency) * starved)).astype(np.float32)
    noise = rng.standard_normal((slices, rows, columns), dtype=np.float32)
    for plane in noise:
        plane[...] = fft.irfft2(fft.rfft2(plane) * transfer, s=(rows, columns))
    apart = max(1, round(grid.spacing_mm[0] / protocol.slice_spacing_mm))
    shared, remaining = _slice_average(protocol.slice_correlation, apart)
    noise[...] = ndimage.gaussian_filter1d(noise, _sigma_of(shared), axis=0, mode="wrap")
    noise *= np.float32(protocol.noise_sd_hu * remaining / noise.std())
    return noise


def _slice_average(correlation: float, count: int) -> tuple[float, float]:
    """Correlation of neighbouring averages over `count` slices, and their standard deviation.

    The correlation is taken to fall with distance as a Gaussian does, and 1 slice to have 1.
    """
    index = np.arange(2 * count)
    covariance = correlation ** ((index[:, None] - index[None, :]) ** 2.0)
    variance = covariance[:count, :count].mean()
    return float(covariance[:count, count:].mean() / variance), float(np.sqrt(variance))


def _sigma_of(correlation: float) -> float:
    """Width in slices of the Gaussian that leaves white noise with this correlation."""

    def excess(sigma: float) -> float:
        weights = np.exp(-0.5 * (np.arange(-12, 13) / sigma) ** 2)
        return float((weights[1:] * weights[:-1]).sum() / (weights**2).sum() - correlation)

    return float(optimize.brentq(excess, 0.2, 3.0))


def _identity(scanner: Scanner, patient_id: str, seed: int) -> SeriesIdentity:
    site = scanner.site
    source = ["medlib phantom", site.name, patient_id, str(seed)]
    study, series, frame = (generate_uid(entropy_srcs=[*source, what]) for what in _UIDS)
    return SeriesIdentity(
        patient_id, study, series, frame, site.manufacturer, site.model, scanner.protocol.kernel
    )
