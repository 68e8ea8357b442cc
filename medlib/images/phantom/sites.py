"""Where a phantom patient is scanned: two internal sites and one external site."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """The voxel grid of a scan.

    Attributes
    ----------
    shape_zyx : tuple of int
        Slices, rows, columns.
    spacing_mm : tuple of float
        Distance of voxel centres along z, y, x in mm.
    center_above_carina_mm : float
        Height of the grid's centre above the carina in mm; below it is negative.
    """

    shape_zyx: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    center_above_carina_mm: float = -25.0


@dataclass(frozen=True)
class PhantomSite:
    """A scanner as it shows in the images.

    Attributes
    ----------
    name : str
    internal : bool
        Whether patients of this site may be trained on.
    manufacturer, model, kernel : str
        For the DICOM header. They say which real scanners the figures were modelled on.
    kvp, tube_current_ma : float
        For the DICOM header; the dose shows as `noise_sd_hu`.
    pixel_spacing_mm, slice_spacing_mm : float
        At clinical resolution.
    quick_pixel_spacing_mm, quick_slice_spacing_mm : float
        Of the reduced grid.
    psf_sigma_mm : float
        Standard deviation of the in-plane point spread.
    noise_sd_hu : float
        In the lung.
    noise_correlation_mm : float
        Standard deviation of the Gaussian that the noise spectrum falls off with, in space.
    lung_shift_hu : float
        Offset of the lung's density against the average of all sites.
    """

    name: str
    internal: bool
    manufacturer: str
    model: str
    kernel: str
    kvp: float
    tube_current_ma: float
    pixel_spacing_mm: float
    slice_spacing_mm: float
    quick_pixel_spacing_mm: float
    quick_slice_spacing_mm: float
    psf_sigma_mm: float
    noise_sd_hu: float
    noise_correlation_mm: float
    lung_shift_hu: float


SITES: dict[str, PhantomSite] = {
    site.name: site
    for site in (
        PhantomSite(
            name="site-a",
            internal=True,
            manufacturer="PHANTOM (GE-like)",
            model="LightSpeed-like",
            kernel="STANDARD",
            kvp=120.0,
            tube_current_ma=200.0,
            pixel_spacing_mm=0.70,
            slice_spacing_mm=2.5,
            quick_pixel_spacing_mm=1.05,
            quick_slice_spacing_mm=2.5,
            psf_sigma_mm=0.67,
            noise_sd_hu=25.0,
            noise_correlation_mm=0.56,
            lung_shift_hu=5.0,
        ),
        PhantomSite(
            name="site-b",
            internal=True,
            manufacturer="PHANTOM (Siemens-like)",
            model="Sensation-like",
            kernel="B30f",
            kvp=120.0,
            tube_current_ma=160.0,
            pixel_spacing_mm=0.68,
            slice_spacing_mm=2.0,
            quick_pixel_spacing_mm=1.02,
            quick_slice_spacing_mm=2.4,
            psf_sigma_mm=0.72,
            noise_sd_hu=28.0,
            noise_correlation_mm=0.60,
            lung_shift_hu=-25.0,
        ),
        PhantomSite(
            name="site-x",
            internal=False,
            manufacturer="PHANTOM (Philips-like)",
            model="Brilliance-like",
            kernel="L",
            kvp=120.0,
            tube_current_ma=60.0,
            pixel_spacing_mm=0.78,
            slice_spacing_mm=1.5,
            quick_pixel_spacing_mm=1.10,
            quick_slice_spacing_mm=3.0,
            psf_sigma_mm=0.58,
            noise_sd_hu=42.0,
            noise_correlation_mm=0.48,
            lung_shift_hu=10.0,
        ),
    )
}

_QUICK_SHAPE = (320, 320)
_QUICK_HEIGHT_MM = 100.0
_CLINICAL_SHAPE = (512, 512)
_CLINICAL_HEIGHT_MM = 280.0


def site_grid(site: PhantomSite, *, clinical: bool = False) -> Grid:
    """Return the grid on which a site scans.

    Parameters
    ----------
    site : PhantomSite
    clinical : bool
        True: 512 x 512 over the whole chest, at the site's clinical spacing. False: the reduced
        grid, 320 x 320 over about 100 mm below and above the carina.
    """
    if clinical:
        spacing, pixel, shape = site.slice_spacing_mm, site.pixel_spacing_mm, _CLINICAL_SHAPE
        height = _CLINICAL_HEIGHT_MM
    else:
        spacing, pixel, shape = (
            site.quick_slice_spacing_mm,
            site.quick_pixel_spacing_mm,
            _QUICK_SHAPE,
        )
        height = _QUICK_HEIGHT_MM
    return Grid((round(height / spacing), *shape), (spacing, pixel, pixel))
