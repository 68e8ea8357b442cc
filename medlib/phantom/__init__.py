"""A chest CT phantom in Hounsfield units and millimetres: synthetic anatomy, real readers' lesions.

The anatomy, the scanners and the noise are modelled; no image of a person went into them. The
lesions are placed by the caller, as occupancy maps made from outlines that radiologists drew. Three
steps: `draw_anatomy`, then `insert_lesions`, then `acquire`.
"""

from __future__ import annotations

from medlib.phantom.anatomy import Anatomy, draw_anatomy, patient_build
from medlib.phantom.lesions import PhantomLesion, insert_lesions, lesion_hu
from medlib.phantom.scanner import acquire
from medlib.phantom.sites import (
    SITES,
    Grid,
    PhantomSite,
    Protocol,
    Scanner,
    draw_scanner,
    site_grid,
)

__all__ = [
    "SITES",
    "Anatomy",
    "Grid",
    "PhantomLesion",
    "PhantomSite",
    "Protocol",
    "Scanner",
    "acquire",
    "draw_anatomy",
    "draw_scanner",
    "insert_lesions",
    "lesion_hu",
    "patient_build",
    "site_grid",
]
