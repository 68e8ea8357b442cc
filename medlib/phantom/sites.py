"""Where a phantom patient is scanned: two internal sites and one external site.

A site has the protocols of one maker's scanners in LIDC-IDRI, in their real shares, each with the
noise that was measured on real CT: see data_manifests/phantom_fit.csv. `draw_scanner` gives the
settings of one patient's scan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Grid:
    """The voxel grid of a scan: slices, rows, columns, and the distance of voxel centres."""

    shape_zyx: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    center_above_carina_mm: float = -25.0  # below it is negative

    def centers_mm(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the voxel centres along z (above the carina), y and x (0 in the middle)."""
        z, y, x = (
            np.linspace(-0.5, 0.5, size) * ((size - 1) * step)
            for size, step in zip(self.shape_zyx, self.spacing_mm, strict=True)
        )
        return z + self.center_above_carina_mm, y, x


@dataclass(frozen=True)
class Protocol:
    """How a scanner is run: what a kernel and a slice thickness leave in the images."""

    share: float  # of the site's patients
    kernel: str  # for the DICOM header
    slice_thickness_mm: float  # larger than the spacing where slices overlap
    slice_spacing_mm: float
    psf_sigma_mm: float  # standard deviation of the in-plane point spread
    noise_sd_hu: float  # in the lung, median over patients
    noise_correlation_mm: float  # sd in space of the Gaussian with which the spectrum falls off
    slice_correlation: float  # of the noise of neighbouring slices
    noise_anisotropy: float  # how many times more noise power runs along y than along x, less one


@dataclass(frozen=True)
class PhantomSite:
    """A hospital's scanner. Manufacturer, model, voltage and current are for the DICOM header."""

    name: str
    internal: bool  # whether patients of this site may be trained on
    manufacturer: str  # which real scanners the figures were modelled on
    model: str
    tube_current_ma: float
    lung_shift_hu: float  # offset of the lung's density against the average of all sites
    # Smallest, 25 %, median, 75 %, largest: the field of view follows the patient.
    pixel_spacing_mm: tuple[float, float, float, float, float]
    protocols: tuple[Protocol, ...]
    kvp: float = 120.0


@dataclass(frozen=True)
class Scanner:
    """One patient's scan: the site, the protocol with this dose, and the pixel size."""

    site: PhantomSite
    protocol: Protocol
    pixel_spacing_mm: float


SITES: dict[str, PhantomSite] = {
    site.name: site
    for site in (
        PhantomSite(
            name="site-a",
            internal=True,
            manufacturer="PHANTOM (GE-like)",
            model="LightSpeed-like",
            tube_current_ma=200.0,
            lung_shift_hu=5.0,
            pixel_spacing_mm=(0.55, 0.664, 0.703, 0.775, 0.90),
            protocols=(
                Protocol(0.41, "STANDARD", 2.5, 2.5, 0.64, 27.0, 0.56, 0.28, 0.5),
                Protocol(0.20, "STANDARD", 1.25, 1.25, 0.60, 33.0, 0.54, 0.47, 1.0),
                Protocol(0.18, "STANDARD", 1.25, 0.625, 0.62, 36.0, 0.60, 0.78, 0.7),
                Protocol(0.17, "BONE", 1.25, 1.25, 0.45, 82.0, 0.31, 0.35, 5.0),
                Protocol(0.04, "BONE", 2.5, 2.5, 0.45, 72.0, 0.31, 0.30, 2.5),
            ),
        ),
        PhantomSite(
            name="site-b",
            internal=True,
            manufacturer="PHANTOM (Siemens-like)",
            model="Sensation-like",
            tube_current_ma=160.0,
            lung_shift_hu=-25.0,
            pixel_spacing_mm=(0.50, 0.586, 0.652, 0.684, 0.78),
            protocols=(
                Protocol(0.54, "B30f", 2.0, 1.8, 0.60, 34.0, 0.60, 0.27, 0.6),
                Protocol(0.23, "B30f", 0.75, 0.7, 0.58, 42.0, 0.60, 0.55, 0.7),
                Protocol(0.15, "B30f", 1.0, 1.0, 0.56, 39.0, 0.55, 0.43, 0.5),
                Protocol(0.08, "B70f", 2.0, 1.0, 0.40, 72.0, 0.29, 0.73, 0.8),
            ),
        ),
        PhantomSite(
            name="site-x",
            internal=False,
            manufacturer="PHANTOM (Philips-like)",
            model="Brilliance-like",
            tube_current_ma=60.0,
            lung_shift_hu=12.0,
            pixel_spacing_mm=(0.52, 0.639, 0.674, 0.753, 0.85),
            protocols=(
                Protocol(0.58, "B", 2.0, 1.0, 0.64, 26.0, 0.62, 0.63, 0.3),
                Protocol(0.31, "C", 1.0, 1.0, 0.54, 42.0, 0.50, 0.44, 0.8),
                Protocol(0.11, "B", 1.5, 0.75, 0.60, 32.0, 0.62, 0.66, 0.5),
            ),
        ),
    )
}

NOISE_SPREAD = 0.22  # standard deviation of the logarithm of the noise between patients
_PIXEL_RANKS = (0.0, 0.25, 0.5, 0.75, 1.0)
_QUICK_MATRIX, _QUICK_SLICE_MM, _QUICK_HEIGHT_MM = 320, 2.5, 100.0
_MATRIX, _HEIGHT_MM = 512, 280.0


def draw_scanner(site: PhantomSite, seed: int, chest_width_mm: float = 0.0) -> Scanner:
    """Draw the settings of one patient's scan.

    The field of view holds the lungs with a rim of 15 mm, whatever was drawn.
    """
    rng = np.random.default_rng([seed, 3])
    shares = np.array([protocol.share for protocol in site.protocols])
    protocol = site.protocols[rng.choice(len(shares), p=shares / shares.sum())]
    pixel = float(np.interp(rng.random(), _PIXEL_RANKS, site.pixel_spacing_mm))
    dose = float(np.exp(NOISE_SPREAD * np.clip(rng.standard_normal(), -2, 2)))
    protocol = replace(protocol, noise_sd_hu=protocol.noise_sd_hu * dose)
    return Scanner(site, protocol, max(pixel, (chest_width_mm + 30.0) / _MATRIX))


def site_grid(scanner: Scanner, *, clinical: bool = False) -> Grid:
    """Return the grid of a scan.

    Clinical: 512 x 512 over the whole chest, at the drawn spacing. Otherwise the same field of
    view on a reduced grid of 320 x 320, thin slices grouped to about 2.5 mm, over about 100 mm
    below and above the carina.
    """
    spacing, pixel = scanner.protocol.slice_spacing_mm, scanner.pixel_spacing_mm
    if clinical:
        matrix, height = _MATRIX, _HEIGHT_MM
    else:
        matrix, height = _QUICK_MATRIX, _QUICK_HEIGHT_MM
        pixel *= _MATRIX / _QUICK_MATRIX
        spacing *= max(1, round(_QUICK_SLICE_MM / spacing))
    return Grid((round(height / spacing), matrix, matrix), (spacing, pixel, pixel))
