"""The scanner: point spread, noise with the spectrum of a reconstructed CT, whole HU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import generate_uid
from scipy import fft, ndimage

from medlib.images.phantom.anatomy import Anatomy
from medlib.images.phantom.sites import Grid, PhantomSite
from medlib.images.volume import SeriesIdentity, Volume

_SLICE_CORRELATION = 0.37  # of the noise of neighbouring slices
_HU_RANGE = (-1024, 3071)


def acquire(anatomy: Anatomy, seed: int, patient_id: str = "PHANTOM") -> Volume:
    """Scan a phantom patient.

    Parameters
    ----------
    anatomy : Anatomy
        With its lesions; its `site` says how sharp and how noisy the images are.
    seed : int
        Of the noise.
    patient_id : str
        For the identity; the UIDs follow from it and the seed.

    Returns
    -------
    Volume
        Whole HU as float32, slices ascending towards the head, axial, LPS affine.
    """
    site, grid = anatomy.site, anatomy.grid
    sigma_px = (0.0, *(site.psf_sigma_mm / np.array(grid.spacing_mm[1:])))
    hu = ndimage.gaussian_filter(anatomy.hu, sigma_px, truncate=3.0)
    hu += ct_noise(site, grid, np.random.default_rng([seed, 1]))
    np.rint(hu, out=hu)
    np.clip(hu, *_HU_RANGE, out=hu)
    return Volume(hu, _affine(grid), _identity(site, patient_id, seed))


def ct_noise(site: PhantomSite, grid: Grid, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw noise with the spectrum that filtered back-projection leaves.

    The in-plane noise power spectrum rises with frequency (the ramp filter) and falls off with the
    kernel (a Gaussian); neighbouring slices share part of it.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        Standard deviation `site.noise_sd_hu`.
    """
    slices, rows, columns = grid.shape_zyx
    frequency = np.hypot(
        fft.fftfreq(rows, grid.spacing_mm[1])[:, None],
        fft.rfftfreq(columns, grid.spacing_mm[2])[None, :],
    )
    falloff = np.exp(-2.0 * (np.pi * frequency * site.noise_correlation_mm) ** 2)
    transfer = (falloff * np.sqrt(0.3 + frequency)).astype(np.float32)
    noise = rng.standard_normal((slices + 1, rows, columns), dtype=np.float32)
    noise[...] = fft.irfft2(fft.rfft2(noise) * transfer, s=(rows, columns))
    # A moving average of two slices with weights 1 and w is correlated by w / (1 + w^2).
    weight = (1.0 - np.sqrt(1.0 - 4.0 * _SLICE_CORRELATION**2)) / (2.0 * _SLICE_CORRELATION)
    noise = noise[1:] + np.float32(weight) * noise[:-1]
    noise *= np.float32(site.noise_sd_hu / noise.std())
    return noise


def _affine(grid: Grid) -> NDArray[np.float64]:
    """Voxel index (x, y, z) to LPS mm; x and y are centred, z is the height above the carina."""
    dz, dy, dx = grid.spacing_mm
    slices, rows, columns = grid.shape_zyx
    affine = np.diag([dx, dy, dz, 1.0])
    affine[:3, 3] = (
        -dx * (columns - 1) / 2,
        -dy * (rows - 1) / 2,
        grid.center_above_carina_mm - dz * (slices - 1) / 2,
    )
    return affine


def _identity(site: PhantomSite, patient_id: str, seed: int) -> SeriesIdentity:
    source = ["medlib phantom", site.name, patient_id, str(seed)]
    return SeriesIdentity(
        patient_id=patient_id,
        study_instance_uid=generate_uid(entropy_srcs=[*source, "study"]),
        series_instance_uid=generate_uid(entropy_srcs=[*source, "series"]),
        frame_of_reference_uid=generate_uid(entropy_srcs=[*source, "frame of reference"]),
        manufacturer=site.manufacturer,
        manufacturer_model=site.model,
        kernel=site.kernel,
    )
